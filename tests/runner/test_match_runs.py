"""The runner over trainings of Doom matches: killed with them under way, nothing of them is lost, repeated or left."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sf_algo.envs.doom import maps
from sf_runner.state import events as ev
from sf_runner.state.jobs import Running
from tests.algo.engines import instances_of, segments_left_by
from tests.runner.harness import RunUnderTest
from tests.runner.killing import WAYS, kill, kills_both

pytest.importorskip("vizdoom", reason="VizDoom environments need the vizdoom package")
pytestmark = [
    pytest.mark.doom,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (maps.cache_dir() / "ssl2.wad").is_file(), reason=f"the maps of matches: {maps.DOWNLOAD_COMMAND}"
    ),
]

Make = Callable[..., RunUnderTest]
FLAGS = (
    "--env=doom_duel --num_workers=1 --num_envs_per_worker=2 --rollout=8 --batch_size=64 --use_rnn=False "
    "--hidden_size=16 --res_w=64 --res_h=36 --encoder_subtype=convnet_impala --timelimit=0.1 --status_interval=0.5 "
    "--decorrelate_experience_max_seconds=0 --device=cpu"
)
FRAMES = 20_000
LIMIT_S = 600.0


def duels(folder: Path, name: str) -> str:
    """The text of an experiment that trains on two matches at a time."""
    command = f"{sys.executable} -m sf_algo.train_appo {FLAGS} --train_dir={folder} --experiment={name}"
    return f"Experiment({name!r}, {f'{command} --train_for_env_steps={FRAMES}'!r})"


def playing(run: RunUnderTest) -> set[str]:
    """The engines of both trainings, once all of them play."""
    found: set[str] = set()

    def all_play(state: object) -> bool:
        found.update(instances_of(run.left()))
        return len(found) == 2 * 2 * 2 and all(" fps " in run.log(name) for name in "ab")

    run.wait("four matches", all_play, timeout_s=LIMIT_S)
    return found


@pytest.mark.parametrize("way", ["runner", "guardian, then runner"])
def test_a_killed_runner_costs_no_match_and_leaves_none(make: Make, tmp_path: Path, way: str) -> None:
    run = make(*[duels(tmp_path, name) for name in "ab"])
    run.start("--max_parallel=2")
    for name in "ab":
        run.wait_for(name, Running)
    pids = [run.pid(name) for name in "ab"]
    engines = playing(run)
    kill(run, *WAYS[way])
    if kills_both(way):
        run.start("--max_parallel=2")
    run.wait("a second opening", lambda state: len(state.runners) == 2, alive=not kills_both(way))
    assert [run.pid(name) for name in "ab"] == pids, "the same trainings go on"
    engines |= instances_of(run.left())
    assert run.finish(LIMIT_S) == 0, run.printed()
    assert run.left() == []
    assert not segments_left_by(engines)
    for name in "ab":
        results = json.loads((tmp_path / name / "results.json").read_text())
        assert (results["outcome"], results["env_steps"] >= FRAMES) == ("finished", True)
        told = (tmp_path / name / "sf_log.txt").read_text()
        assert "had broken" not in told
        if not kills_both(way) or _kernel_tells_how_strangers_ended():
            assert "goes on from" not in told, "nothing was begun again"
    before = len(run.read_events(ev.AttemptStarted))
    if not kills_both(way) or _kernel_tells_how_strangers_ended():
        assert before == 2
    run.start("--max_parallel=2")
    assert run.finish(LIMIT_S) == 0
    assert len(run.read_events(ev.AttemptStarted)) == before, "a start of a finished run repeats nothing"


def _kernel_tells_how_strangers_ended() -> bool:
    """Of processes that nobody has reaped as their parent: since Linux 6.15."""
    return tuple(int(number) for number in os.uname().release.split(".")[:2]) >= (6, 15)
