"""Matches of several engines in whole trainings: whatever is killed or stopped, the training goes on and leaves
nothing behind."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from sf_algo.envs.doom import maps
from sf_algo.envs.doom.watch import process_state
from tests.algo.engines import instances_of, segments_left_by
from tests.algo.test_training_doom import ENGINE
from tests.algo.training_command import TrainingCommand

pytest.importorskip("vizdoom", reason="VizDoom environments need the vizdoom package")
pytestmark = [
    pytest.mark.doom,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (maps.cache_dir() / "ssl2.wad").is_file(), reason=f"the maps of matches: {maps.DOWNLOAD_COMMAND}"
    ),
]

SMALL = (
    "--env=doom_duel",
    "--num_workers=2",
    "--num_envs_per_worker=2",
    "--rollout=8",
    "--batch_size=64",
    "--use_rnn=False",
    "--hidden_size=16",
    "--res_w=64",
    "--res_h=36",
    "--encoder_subtype=convnet_impala",
    "--status_interval=0.5",
    "--timelimit=0.1",
    "--decorrelate_experience_max_seconds=0",
)


def all_engines(training: TrainingCommand) -> list[int]:
    """Of four duels, once all of them exist; the oldest first, which has played for a while."""
    while True:
        training.wait_for(r"fps [1-9]")
        engines = training.pids(ENGINE)
        if len(engines) == 8:
            return sorted(engines)


def test_killed_and_stopped_engines_and_workers_cost_their_matches_only(tmp_path: Path) -> None:
    with TrainingCommand(*SMALL, f"--train_dir={tmp_path}", "--experiment=e") as training:
        engines = all_engines(training)
        instances = instances_of(engines)
        os.kill(engines[0], signal.SIGKILL)
        training.wait_for("made environment .* anew, which had broken")
        engines = all_engines(training)
        instances |= instances_of(engines)
        os.kill(engines[0], signal.SIGSTOP)
        training.wait_for("made environment .* anew, which had broken")
        engines = all_engines(training)
        instances |= instances_of(engines)
        os.kill(training.pids("sf_worker")[0], signal.SIGKILL)
        training.wait_for("was killed by SIGKILL .*; it is started again")
        instances |= instances_of(all_engines(training))
        os.kill(training.process.pid, signal.SIGKILL)
        training.finish()
        training.wait_until_nothing_is_left()
    assert instances
    assert not segments_left_by(instances)


@pytest.mark.parametrize("role", ["-host", "-join"])
def test_an_engine_that_is_stopped_while_it_starts_costs_its_match_only(tmp_path: Path, role: str) -> None:
    with TrainingCommand(*SMALL, f"--train_dir={tmp_path}", "--experiment=e") as training:
        while not (starting := [pid for pid in training.pids(role) if pid in training.pids(ENGINE)]):
            assert training.process.poll() is None
        os.kill(starting[0], signal.SIGSTOP)
        line = training.wait_for("made environment .* anew, which had broken")
        assert re.search(r"the match ended: the engine of player \d has been stopped \(SIGSTOP\), or crashed$", line)
        while len([pid for pid in training.pids(ENGINE) if process_state(pid) != "T"]) < 8:
            training.wait_for("fps ")  # four matches, beside what may have been left of the one that never began
        training.wait_for("lag ")
        instances = instances_of(training.pids(ENGINE))
        training.process.terminate()
        assert training.finish() == 128 + signal.SIGTERM
        training.wait_until_nothing_is_left()
    assert not segments_left_by(instances)
    assert "it is started again" not in training.text, "its worker's other matches went on"
    assert "Traceback" not in training.text


def test_eight_matches_of_one_training_begin_at_once(tmp_path: Path) -> None:
    flags = [flag for flag in SMALL if not flag.startswith("--num_envs_per_worker")]
    with TrainingCommand(*flags, "--num_envs_per_worker=4", f"--train_dir={tmp_path}", "--experiment=e") as training:
        while len(training.pids(ENGINE)) < 16:
            training.wait_for(r"fps ")
        instances = instances_of(training.pids(ENGINE))
        training.wait_for("lag ")
        training.process.terminate()
        assert training.finish() == 128 + signal.SIGTERM
        training.wait_until_nothing_is_left()
    assert len(instances) == 16
    assert not segments_left_by(instances)
    assert "had broken" not in training.text
    assert "started again" not in training.text


def test_trainings_of_matches_run_side_by_side_and_end_in_an_orderly_way(tmp_path: Path) -> None:
    """Eight matches in four trainings that start at once."""
    flags = [flag for flag in SMALL if not flag.startswith("--num_workers")]
    trainings = [
        TrainingCommand(*flags, "--num_workers=1", f"--train_dir={tmp_path}", f"--experiment=e{k}") for k in range(4)
    ]
    instances = set()
    try:
        for training in trainings:
            while len(training.pids(ENGINE)) < 4:
                training.wait_for(r"fps [1-9]")
            instances |= instances_of(training.pids(ENGINE))
        for training in trainings:
            training.process.terminate()
        for training in trainings:
            assert training.finish() == 128 + signal.SIGTERM
            training.wait_until_nothing_is_left()
            assert not [line for line in training.lines if "had broken" in line]
    finally:
        for training in trainings:
            training.__exit__(None, None, None)
    assert len(instances) == 4 * 2 * 2
    assert not segments_left_by(instances)
