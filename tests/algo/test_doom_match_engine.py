"""Matches in real engines: deaths and respawns, statistics, bots."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sf_algo.config import DoomConfig
from sf_algo.envs.doom import maps
from sf_algo.envs.doom.match_env import MatchEnv
from sf_algo.envs.factory import EnvSections, make_env
from sf_algo.envs.spec import StepResult

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
        found.append(result._replace(rewards=result.rewards.copy(), active=result.active.copy()))
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
