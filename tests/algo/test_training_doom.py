"""Real engines in a whole training: they are replaced when they die, and nothing of theirs is left behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.algo.engines import instances_of, segments_left_by
from tests.algo.training_command import TrainingCommand

pytest.importorskip("vizdoom", reason="VizDoom environments need the vizdoom package")
pytestmark = pytest.mark.doom

ENGINE = "-iwad"
SMALL = (
    "--env=doom_basic",
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
    "--decorrelate_experience_max_seconds=0",
)


def all_engines(training: TrainingCommand) -> list[int]:
    """The four engines, once all of them play."""
    while True:
        training.wait_for(r"fps [1-9]")
        engines = training.pids(ENGINE)
        if len(engines) == 4:
            return engines


def test_engines_die_and_are_replaced_and_leave_nothing(tmp_path: Path) -> None:
    with TrainingCommand(*SMALL, f"--train_dir={tmp_path}", "--experiment=e") as training:
        engines = all_engines(training)
        instances = instances_of(engines)
        os.kill(engines[0], signal.SIGKILL)
        training.wait_for("made environment .* anew, which had broken")
        training.wait_for(r"fps [1-9]")

        worker = training.pids("sf_worker")[0]
        os.kill(worker, signal.SIGKILL)
        training.wait_for("was killed by SIGKILL .*; it is started again")
        instances |= instances_of(all_engines(training))

        os.kill(training.process.pid, signal.SIGKILL)
        training.finish()
        training.wait_until_nothing_is_left()
    assert instances
    assert not segments_left_by(instances)


def starting_engines(training: TrainingCommand, number: int, but: set[str]) -> set[str]:
    """So many of them, other than `but`, with the names that their shared memory has until they have started."""
    while True:
        found = instances_of(training.pids(ENGINE)) - but
        if len(found) == number and len(segments_left_by(found)) == 2 * number:
            return found
        assert training.process.poll() is None, training.text


def test_engines_that_are_killed_while_they_start_leave_nothing(tmp_path: Path) -> None:
    """They wait for a person to join, so they start for as long as one likes."""
    (tmp_path / "arena.cfg").write_text("doom_scenario_path = basic.wad\navailable_buttons = { ATTACK }\n")
    match = ("--env=doom_arena", f"--doom_scenarios_dir={tmp_path}", "--num_agents=1", "--num_humans=1")
    with TrainingCommand(*SMALL, *match, f"--train_dir={tmp_path}", "--experiment=e") as training:
        first = starting_engines(training, 2, set())
        os.kill(training.pids("sf_worker")[0], signal.SIGKILL)
        training.wait_for("was killed by SIGKILL .*; it is started again")
        new = starting_engines(training, 1, first)
        assert len(segments_left_by(first)) == 2, "of the worker that lives"

        # Nobody is left who knows of these but the process that forks workers.
        for pid in (*training.pids("sf_worker"), training.process.pid):
            os.kill(pid, signal.SIGKILL)
        training.finish()
        training.wait_until_nothing_is_left()
    assert not segments_left_by(first | new)


def test_a_terminated_training_closes_its_engines(tmp_path: Path) -> None:
    with TrainingCommand(*SMALL, f"--train_dir={tmp_path}", "--experiment=e", "--serial_mode=True") as training:
        training.wait_for(r"fps [1-9]")
        instances = instances_of(training.pids(ENGINE))
        training.process.terminate()
        assert training.finish() == 128 + signal.SIGTERM
        training.wait_until_nothing_is_left()
    assert instances
    assert not segments_left_by(instances)
