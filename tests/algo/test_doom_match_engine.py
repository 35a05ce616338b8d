"""Matches in real engines: deaths and respawns, statistics, bots."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

from sf_algo.config import DoomConfig
from sf_algo.envs.doom import lockstep, maps
from sf_algo.envs.doom.lockstep import Lockstep
from sf_algo.envs.doom.match_env import MatchEnv
from sf_algo.envs.factory import EnvSections, make_env
from sf_algo.envs.spec import StepResult
from sf_algo.errors import EnvCrashedError
from tests.algo.engines import instances_of, segments_left_by
from tests.algo.waiting import wait_for_end

pytest.importorskip("vizdoom")
pytestmark = [
    pytest.mark.doom,
    pytest.mark.skipif(
        not (maps.cache_dir() / "ssl2.wad").is_file(), reason=f"the maps of matches: {maps.DOWNLOAD_COMMAND}"
    ),
]


def make(name: str, **flags: Any) -> MatchEnv:
    env = make_env(name, EnvSections(doom=DoomConfig(**flags)))
    assert isinstance(env, MatchEnv)
    return env


def idle(env: MatchEnv) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Nothing pressed, no turn."""
    actions = np.zeros((env.spec.num_agents, env.spec.actions.width), np.float32)
    actions[:, -1] = 10
    return actions


def play(env: MatchEnv, rows: list[dict[str, Any]], steps: int) -> list[StepResult]:
    """Copies of the results of so many idle steps."""
    found = []
    for _ in range(steps):
        result = env.step(idle(env), rows)
        found.append(
            result._replace(
                rewards=result.rewards.copy(), active=result.active.copy(), truncated=result.truncated.copy()
            )
        )
    return found


def test_an_agent_that_dies_is_out_until_it_respawns_and_counters_start_anew() -> None:
    env = make("doom_duel_bots", timelimit=10 / 60, start_bot_difficulty=0)
    rows = env.spec.empty_rows()
    try:
        env.reset(rows, seed=1)
        play(env, rows, 3)
        assert env._match is not None
        env._match.host.command("kill")
        died, *later = play(env, rows, 85)
        assert died.active[0], "what it did led to its death"
        # a suicide costs the frag, the death and 100 health
        assert died.rewards[0] == pytest.approx(-1.5 - 0.75 - 0.3, abs=0.02)
        active = [bool(result.active[0]) for result in later]
        assert active.index(True) >= 17, "two seconds in steps of 4 of 35 tics"
        assert all(active[active.index(True) :])
        assert all(result.rewards[0] == pytest.approx(0, abs=0.5) for result in later)
        last = later[-1]
        assert (last.truncated[0], last.terminated[0]) == (True, False)
        assert last.episode is not None
        stats = {name: float(np.asarray(value).reshape(-1)[0]) for name, value in last.episode.items()}
        assert (stats["frags"], stats["true_reward"], stats["kills"], stats["deaths"], stats["kdr"]) == (
            -1,
            -1,
            0,
            1,
            0,
        )
        assert (stats["final_place"], stats["leader_gap"], stats["won"]) == (2, -1, 0)
        assert stats["bot_difficulty"] == 0
        assert "match_score" not in stats, "bots get none"
        env.reset(rows)
        result = play(env, rows, 88)[-1]
        assert result.episode is not None
        assert result.episode["deaths"][0] == 0, "the engine goes on counting"
    finally:
        env.close()


def test_bots_join_every_match_anew() -> None:
    env = make("doom_deathmatch_bots", timelimit=1 / 60, num_bots=5)
    rows = env.spec.empty_rows()
    try:
        env.reset(rows, seed=1)
        for _ in range(2):
            result = play(env, rows, 9)[-1]
            assert result.truncated[0]
            assert rows[0]["measurements"][6] == pytest.approx(6 / 5), "players"
            assert rows[0]["obs"].std() > 5
            env.reset(rows)
    finally:
        env.close()


def engines_of(env: MatchEnv) -> list[int]:
    """The processes of its match, the host's first."""
    assert isinstance(env._match, Lockstep)
    pids = [engine._pid for engine in env._match._engines]
    assert None not in pids
    return [pid for pid in pids if pid is not None]


@pytest.fixture
def duel() -> Iterator[tuple[MatchEnv, list[dict[str, Any]]]]:
    """Under way."""
    env = make("doom_duel", timelimit=1 / 60)
    rows = env.spec.empty_rows()
    env.reset(rows, seed=1)
    yield env, rows
    env.close()


def test_agents_of_a_match_see_act_and_end_together(duel: tuple[MatchEnv, list[dict[str, Any]]]) -> None:
    env, rows = duel
    assert [row["measurements"][6] for row in rows] == pytest.approx([2 / 5, 2 / 5])
    before = [row["obs"].copy() for row in rows]
    assert isinstance(env._match, Lockstep)
    env._match._engines[1].command("kill")
    results = play(env, rows, 9)
    assert [bool(result.truncated.all()) for result in results] == [False] * 8 + [True]
    assert [result.active.tolist() for result in results[:3]] == [[True, True], [True, False], [True, False]]
    assert results[0].rewards.tolist() == pytest.approx([0.0, -0.001 - 1.0 - 1.0], abs=0.01)
    stats = results[-1].episode
    assert stats is not None
    assert {name: np.asarray(stats[name]).tolist() for name in ("match_score", "true_reward", "deaths")} == {
        "match_score": [0, -1],
        "true_reward": [1, 0],
        "deaths": [0, 1],
    }
    assert all((row["obs"] != screen).any() for row, screen in zip(rows, before, strict=True))
    env.reset(rows)
    again = play(env, rows, 9)[-1]
    assert again.episode is not None
    assert np.asarray(again.episode["won"]).tolist() == [0, 0], "a draw"


def test_a_match_in_which_somebody_begins_dead_is_begun_again() -> None:
    env = make("doom_duel")
    rows = env.spec.empty_rows()
    try:
        for seed in (2, 3, 17, 19):  # of one try each, these put both players on the same spot
            env.reset(rows, seed=seed)
            assert env._dead.tolist() == [False, False]
            result = env.step(idle(env), rows)
            assert abs(result.rewards).max() < 0.1
            assert [player.count("FRAGCOUNT") for player in env._players] == [0, 0]
    finally:
        env.close()


def test_every_player_turns_by_the_same_angle_as_in_a_match_of_its_own() -> None:
    """Whether the frame skip is the engine's (alone) or ours (in lock-step)."""
    turned = []
    for name in ("doom_duel_bots", "doom_duel"):
        env = make(name)
        rows = env.spec.empty_rows()
        try:
            env.reset(rows, seed=1)
            actions = idle(env)
            play(env, rows, 1)
            angles = [env._players[-1].count("ANGLE")]
            actions[:, -1] = 14
            for _ in range(8):  # it takes some tics until an action shows, in a match not always as many
                env.step(actions, rows)
                angles.append(env._players[-1].count("ANGLE"))
            turned.append(median((before - after) % 360 for before, after in pairwise(angles)))
        finally:
            env.close()
    assert turned == [pytest.approx(20.0, abs=0.1)] * 2


@pytest.mark.parametrize("whose", [0, 1])
def test_a_match_whose_engine_is_killed_is_over_and_leaves_nothing(
    duel: tuple[MatchEnv, list[dict[str, Any]]], whose: int
) -> None:
    env, rows = duel
    engines = engines_of(env)
    instances = instances_of(engines)
    assert len(instances) == 2
    os.kill(engines[whose], signal.SIGKILL)
    with pytest.raises(EnvCrashedError, match=f"the match ended: player {whose}"):
        play(env, rows, 3)
    for engine in engines:
        wait_for_end(engine)
    assert not segments_left_by(instances)
    env.reset(rows)
    play(env, rows, 2)


def test_a_stopped_engine_is_noticed(duel: tuple[MatchEnv, list[dict[str, Any]]]) -> None:
    env, rows = duel
    engines = engines_of(env)
    os.kill(engines[1], signal.SIGSTOP)
    with pytest.raises(EnvCrashedError, match="engine of player 1 has been stopped"):
        play(env, rows, 3)
    for engine in engines:
        wait_for_end(engine)


def test_a_silent_engine_is_given_up(
    duel: tuple[MatchEnv, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    env, rows = duel
    monkeypatch.setattr(lockstep, "STEP_LIMIT_S", 1)
    monkeypatch.setattr(lockstep, "_STOPPED_LIMIT_S", 99)
    os.kill(engines_of(env)[0], signal.SIGSTOP)
    with pytest.raises(EnvCrashedError, match=r"player 0(, 1)? did not play on within 1 s"):
        play(env, rows, 3)


WAITING = """
import sys
from sf_algo.config import DoomConfig
from sf_algo.envs.doom import match_env
from sf_algo.envs.factory import EnvSections, make_env
from sf_algo.errors import EnvCrashedError
from sf_algo.processes.threads import leave
match_env._JOINING_LIMIT_S = 2
env = make_env("doom_duel", EnvSections(doom=DoomConfig(num_humans=1)))
try:
    env.reset(env.spec.empty_rows(), seed=1)
except EnvCrashedError as error:
    print(error, flush=True)
print(env._lease.port if env._lease else "no port is held", flush=True)
env.close()
leave(3)
"""


def test_who_does_not_come_is_not_waited_for_for_ever() -> None:
    ended = subprocess.run([sys.executable, "-c", WAITING], capture_output=True, text=True, timeout=120)
    assert ended.stdout.splitlines() == ["the match ended: player 0, 1 did not start within 2 s", "no port is held"]
    assert (ended.returncode, ended.stderr.splitlines()[1:]) == (3, []), "one line tells how to join"


STOPPED = """
import sys, threading
from pathlib import Path
from sf_algo.config import DoomConfig
from sf_algo.envs.doom import launcher, shm
from sf_algo.envs.doom.watch import instance_of, process_state
from sf_algo.envs.factory import EnvSections, make_env
from sf_algo.errors import EnvCrashedError
from sf_algo.processes.threads import leave

script = launcher._script
def stopping(*args):
    # that one's process stops itself before it becomes the engine
    stop = threading.current_thread().name == f"doom player {sys.argv[1]}"
    return script(*args).replace('[ "$PPID"', 'kill -STOP $$; [ "$PPID"', 1) if stop else script(*args)

env = make_env("doom_duel", EnvSections(doom=DoomConfig(timelimit=1 / 60)))
rows = env.spec.empty_rows()
launcher._script = stopping
try:
    env.reset(rows, seed=1)
except EnvCrashedError as error:
    print(error)
print(env._lease.port if env._lease else "no port is held")
children = {int(c) for p in Path("/proc/self/task").glob("*/children") for c in p.read_text().split()}
left = [pid for pid in children if instance_of(pid)]
print(len(left), {process_state(pid) for pid in left}, [shm.segments_of(instance_of(pid)) for pid in left])
print(*left)
launcher._script = script
env.reset(rows, seed=1)
print("another match begins", flush=True)
env.close()
leave(3)
"""


@pytest.mark.parametrize("whose", ["0", "1"], ids=["host", "joiner"])
def test_an_engine_that_is_stopped_while_it_starts_costs_its_match_alone(whose: str) -> None:
    ended = subprocess.run([sys.executable, "-c", STOPPED, whose], capture_output=True, text=True, timeout=300)
    *told, left, again = ended.stdout.splitlines()
    assert told == [
        f"the match ended: the engine of player {whose} has been stopped (SIGSTOP), or crashed",
        "no port is held",
        "2 {'T'} [[], []]",
    ], ended.stderr
    assert (again, ended.returncode, ended.stderr) == ("another match begins", 3, "")
    for engine in map(int, left.split()):
        wait_for_end(engine)


PLAYER = """
import sys, numpy as np
from sf_algo.envs.factory import EnvSections, make_env
env = make_env("doom_duel", EnvSections())
rows = env.spec.empty_rows()
env.reset(rows, seed=1)
print(*[engine._pid for engine in env._match._engines], flush=True)
while True:
    env.step(np.zeros((2, 7), np.float32), rows)
"""


def test_engines_end_when_their_process_is_killed_in_the_middle_of_a_match() -> None:
    with subprocess.Popen([sys.executable, "-c", PLAYER], stdout=subprocess.PIPE, text=True) as player:
        assert player.stdout is not None
        engines = list(map(int, player.stdout.readline().split()))
        assert len(engines) == 2
        player.kill()
    for engine in engines:
        wait_for_end(engine)


def test_steps_of_matches_run_side_by_side(duel: tuple[MatchEnv, list[dict[str, Any]]]) -> None:
    env, rows = duel
    env.begin_step(idle(env))
    assert env._frames_left == 35
    assert not env.step(idle(env), rows).truncated.any()
    assert env._frames_left == 31, "begun and ended once"


def test_a_scenario_of_the_users_own_is_played_by_several_by_the_rules_in_its_file(tmp_path: Path) -> None:
    (tmp_path / "arena.cfg").write_text(
        "doom_scenario_path = multi_duel.wad\n"
        "available_buttons = { MOVE_LEFT MOVE_RIGHT ATTACK }\n"
        "game_args = -deathmatch +sv_forcerespawn 1 +viz_respawn_delay 1\n"
    )
    env = make("doom_arena", doom_scenarios_dir=str(tmp_path), num_agents=2)
    rows = env.spec.empty_rows()
    try:
        env.reset(rows, seed=1)
        assert isinstance(env._match, Lockstep)
        env._match._engines[1].command("kill")
        alone = [bool(env.step(np.zeros((2, 2), np.float32), rows).active[1]) for _ in range(14)]
        assert alone[:8] == [True] + [False] * 7, "a second, in steps of 4 of 35 tics"
        assert any(alone[8:])
        assert [row["obs"].std() > 5 for row in rows] == [True, True]
    finally:
        env.close()
