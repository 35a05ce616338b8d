"""Matches without an engine: rules from flags, standings, difficulty of bots, ports, start places."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sf_algo.config import DoomConfig
from sf_algo.envs.doom import ports, start_lock
from sf_algo.envs.doom.bots import BotDifficulty, bots_file, bots_text
from sf_algo.envs.doom.make import match_rules, scenario_of
from sf_algo.envs.doom.match import MatchRules, Standing, Tally, standing
from sf_algo.envs.doom.scenarios import SCENARIOS
from sf_algo.errors import EnvCrashedError, EnvError


@pytest.mark.parametrize(
    ("name", "agents", "bots", "delay", "true_reward"),
    [
        ("doom_duel_bots", 1, 1, 2, "frags"),
        ("doom_deathmatch_bots", 1, 7, 0, "frags"),
        ("doom_duel", 2, 0, 2, "win"),
        ("doom_deathmatch_full", 4, 4, 2, "win"),
        ("doom_dm", 8, 0, 0, "win"),
        ("doom_dwango5", 8, 0, 0, "win"),
    ],
)
def test_who_plays_and_for_what(name: str, agents: int, bots: int, delay: int, true_reward: str) -> None:
    rules = match_rules(SCENARIOS[name], DoomConfig())
    assert rules is not None
    assert (rules.agents, rules.bots, rules.respawn_delay_s, rules.true_reward) == (agents, bots, delay, true_reward)
    assert rules.frame_limit == 8400, "four minutes"


def test_flags_change_the_rules() -> None:
    flags = DoomConfig(num_agents=3, num_bots=0, num_humans=1, timelimit=0.5)
    rules = match_rules(SCENARIOS["doom_deathmatch_full"], flags)
    assert rules == MatchRules(agents=3, humans=1, respawn_delay_s=2, minutes=0.5, true_reward="win")
    assert rules.frame_limit == 1050
    with pytest.raises(EnvError, match="9 agents, 4 bots and 4 people are more than the 16 players"):
        match_rules(SCENARIOS["doom_deathmatch_full"], DoomConfig(num_agents=9, num_humans=4))


@pytest.mark.parametrize(
    "flags",
    [
        {"num_agents": 2},
        {"num_humans": 1},
        {"num_bots": 1},
        {"start_bot_difficulty": 20},
        {"timelimit": 4.0},
        {"match_port": 5029},
    ],
)
def test_flags_of_matches_are_refused_elsewhere(flags: dict[str, float]) -> None:
    (name,) = flags
    with pytest.raises(EnvError, match=rf"--{name}=.*: doom_basic is no match; matches are doom_deathmatch_bots, "):
        match_rules(SCENARIOS["doom_basic"], replace(DoomConfig(), **flags))
    assert match_rules(SCENARIOS["doom_basic"], DoomConfig(num_agents=1, num_bots=0)) is None


def test_a_scenario_of_the_users_own_is_a_match_where_flags_ask_for_players(tmp_path: Path) -> None:
    (tmp_path / "arena.cfg").write_text("available_buttons = { ATTACK }\n")
    alone = scenario_of("doom_arena", DoomConfig(doom_scenarios_dir=str(tmp_path)))
    assert alone.match is None
    flags = DoomConfig(doom_scenarios_dir=str(tmp_path), num_agents=2)
    rules = match_rules(scenario_of("doom_arena", flags), flags)
    assert rules == MatchRules(agents=2, minutes=None, deathmatch=False)
    assert rules.host_args(5029).split()[:4] == ["-host", "2", "-port", "5029"]
    assert "deathmatch" not in rules.host_args(5029), "its own rules are in its file"


def test_the_first_engine_holds_the_match_and_the_others_join_it() -> None:
    duel = MatchRules(agents=2, respawn_delay_s=2)
    host = duel.host_args(20_100)
    assert host.startswith("-host 2 -port 20100 +viz_connect_timeout 100000 -deathmatch ")
    rules = [
        "forcerespawn",
        "noautoaim",
        "respawnprotect",
        "spawnfarthest",
        "nocrouch",
        "nojump",
        "nofreelook",
        "noexit",
    ]
    assert re.findall(r"\+sv_(\w+) 1", host) == rules
    assert host.endswith("+viz_respawn_delay 2")
    assert duel.join_args(20_100).startswith("-join 127.0.0.1 -port 20100 ")
    assert "-port" not in MatchRules(bots=1).host_args(0), "alone with bots, nothing is sent"
    assert MatchRules(agents=1, humans=1).host_args(7000).startswith("-host 2 -port 7000")


@pytest.mark.parametrize(
    ("frags", "player", "expected"),
    [
        ([5, 3, 2], 0, Standing(place=1, won=True, leader_gap=2)),
        ([5, 5, 2], 0, Standing(place=1, won=False, leader_gap=0)),
        ([5, 3, 7], 1, Standing(place=3, won=False, leader_gap=-4)),
        ([-1, 0], 0, Standing(place=2, won=False, leader_gap=-1)),
        ([4], 0, Standing(place=1, won=False, leader_gap=0)),
    ],
)
def test_standings(frags: list[int], player: int, expected: Standing) -> None:
    assert standing(frags, player) == expected


def test_suicides_are_no_kills() -> None:
    tally = Tally(2)
    for frags in ([1, 0], [1, -1], [0, -1], [3, 0]):
        tally.step(np.array(frags, float))
    assert tally.kills_A.tolist() == [4.0, 1.0]
    tally.reset()
    tally.step(np.array([1.0, 0.0]))
    assert tally.kills_A.tolist() == [1.0, 0.0]


def test_bots_become_better_as_agents_win() -> None:
    difficulty = BotDifficulty(None)
    seen = []
    for won in (True, True, False, False, False, False, False):
        difficulty.match_ended(agent_won=won)
        seen.append(difficulty.value)
    assert seen == [30, 40, 30, 20, 10, 0, 0]
    hard = BotDifficulty(145)
    hard.match_ended(agent_won=True)
    assert hard.value == 150


def test_bots_are_drawn_around_the_difficulty_and_none_plays_twice() -> None:
    known = set(re.findall(r"name (\w+)", bots_text()))
    rng = np.random.default_rng(0)
    for value, low, high in ((0, 0, 15), (50, 35, 65), (150, 100, 100)):
        drawn = [BotDifficulty(value).draw(16, rng) for _ in range(20)]
        skills = [int(name.partition("_")[2]) for names in drawn for name in names]
        assert set().union(*drawn) <= known
        assert all(len(set(names)) == 16 for names in drawn)
        assert low <= np.mean(skills) <= high
    assert re.search(r"name bot3_035\n +aiming 35\n +perfection 35\n +reaction 35\n +isp 35", bots_text())


def test_the_list_of_bots_is_readable_for_other_processes_while_it_is_needed() -> None:
    with bots_file() as path:
        assert subprocess.run(["cat", path], capture_output=True, text=True, check=True).stdout == bots_text()
    assert not Path(path).exists()


def test_ports_of_matches_never_clash() -> None:
    leases = [ports.lease_port() for _ in range(20)]
    code = "from sf_algo.envs.doom.ports import lease_port\nprint([lease_port().port for _ in range(20)])"
    others = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    found = [lease.port for lease in leases]
    assert len(set(found)) == 20
    assert not set(found) & set(map(int, re.findall(r"\d+", others)))
    for lease in leases:
        lease.close()
        lease.close()


def test_a_port_that_somebody_else_has_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_PAIRS", 3)
    monkeypatch.setattr(ports, "FIRST_PORT", base := _three_free_pairs())
    taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(("", base + 2))
    leases = [ports.lease_port(), ports.lease_port()]
    assert {lease.port for lease in leases} == {base, base + 4}
    with pytest.raises(EnvCrashedError, match="all UDP ports"):
        ports.lease_port()
    with pytest.raises(EnvError, match=f"--match_port={base + 2}: another program has this UDP port"):
        ports.lease_port(base + 2)
    leases[0].close()
    again = ports.lease_port()
    assert again.port == leases[0].port, "given up by its match"
    taken.close()
    for lease in (*leases, again):
        lease.close()


def _three_free_pairs() -> int:
    """The first of six ports that were free a moment ago; apart for every process that runs these tests."""
    first = 32_000 + 6 * (os.getpid() % 100)
    for base in range(first, 32_700, 6):
        sockets = [ports._bound("", base + k) for k in range(6)]
        for found in sockets:
            if found is not None:
                found.close()
        if None not in sockets:
            return base
    raise AssertionError("no six free ports in a row")


def test_the_engines_of_a_match_start_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_lock, "scratch_dir", lambda: tmp_path)
    monkeypatch.setattr(start_lock, "default_places", lambda: 4)
    with start_lock.match_place(8), start_lock.match_place(2), start_lock.match_place(2):
        assert sorted(path.name for path in tmp_path.iterdir()).count("doom_match_of_8_0.lock") == 1
        assert len([path for path in tmp_path.iterdir() if "of_2" in path.name]) == 2
        monkeypatch.setattr(start_lock, "_MATCH_PATIENCE_S", 0.0)
        with start_lock.match_place(2):  # late beats never
            pass
