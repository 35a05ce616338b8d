"""kill -9 of every kind of process of a real Doom training, at every stage of it."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from pathlib import Path

import pytest

from sf_algo.envs.doom.shm import SHM_DIR
from tests.algo.engines import instances_of, segments_left_by
from tests.algo.test_training_doom import SMALL
from tests.algo.training_command import TrainingCommand

pytest.importorskip("vizdoom", reason="VizDoom environments need the vizdoom package")
pytestmark = [pytest.mark.doom, pytest.mark.slow]

VICTIMS = {
    "rollout worker": "sf_worker",
    "learner": "sf_learner",
    "engine": "-iwad",
    "main": "",
}
BOUND_S = 120.0
"""Within which a training has to end or heal, on a loaded machine."""


def train(folder: Path, *flags: str) -> TrainingCommand:
    return TrainingCommand(*SMALL, f"--train_dir={folder}", "--experiment=e", "--save_every_sec=0.3", *flags)


def kill_one(training: TrainingCommand, victim: str) -> set[str]:
    """Kill the first process of that kind as soon as there is one; the engines that there were at that time."""
    while True:
        pids = [training.process.pid] if victim == "main" else training.pids(VICTIMS[victim])
        if pids:
            engines = instances_of(training.pids(VICTIMS["engine"]))
            os.kill(pids[0], signal.SIGKILL)
            return engines
        assert training.process.poll() is None, "the command ended without such a process:\n" + training.text


@pytest.mark.parametrize("moment", ["start", "steady state", "checkpointing"])
@pytest.mark.parametrize("victim", list(VICTIMS))
def test_whoever_is_killed_and_when(tmp_path: Path, victim: str, moment: str) -> None:
    with train(tmp_path) as training:
        if moment == "steady state":
            training.wait_for(r"fps [1-9]")
        elif moment == "checkpointing":
            training.wait_for("saved", BOUND_S)
            # Saves follow each other every 0.3 s and take a few ms: one delay of many falls into one.
            threading.Event().wait(0.3 * random.random())
        engines = kill_one(training, victim)
        if victim == "main":
            assert training.finish(BOUND_S) == -signal.SIGKILL
        else:
            # VizDoom's library crashes when its engine dies while it starts, which takes the worker along.
            line = training.wait_for("it is started again|which had broken", BOUND_S)
            assert "worker" in line or "environment" in line or "learner process was killed by SIGKILL" in line
            training.wait_for(r"fps [1-9]", BOUND_S)
            training.process.terminate()
            assert training.finish(BOUND_S) == 128 + signal.SIGTERM
        training.wait_until_nothing_is_left()
    assert not segments_left_by(engines)
    assert not list(SHM_DIR.glob("sf_algo*"))
    saved = sorted((tmp_path / "e" / "checkpoint_p0").glob("checkpoint_*.pth"))
    with train(tmp_path, "--train_for_seconds=5") as again:
        assert again.finish(BOUND_S) == 0
        again.wait_until_nothing_is_left()
    assert ("goes on from" in again.text) == bool(saved)
    assert json.loads((tmp_path / "e" / "results.json").read_text())["outcome"] == "finished"
