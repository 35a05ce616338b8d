"""Whole trainings that meet bad input or a bad disk: one clear line, and nothing lost."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from sf_algo.checkpoints import Checkpoint, CheckpointStore
from sf_algo.errors import StorageError
from sf_algo.experiment import ExperimentLock
from sf_algo.paths import ExperimentPaths
from sf_algo.train_appo import main

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SMALL = (
    "--hidden_size=8",
    "--num_envs_per_worker=4",
    "--rollout=8",
    "--batch_size=32",
    "--num_batches_per_iteration=1",
    "--ppo_epochs=1",
)


class Experiment:
    """An experiment in a temporary folder, trained in this process."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.train_dir = folder / "train_dir"
        self.paths = ExperimentPaths(self.train_dir / "e")
        self._capsys = capsys

    def train(self, *argv: str, env: str | None = "CartPole-v1") -> tuple[int, list[str]]:
        """Exit code, and the lines on stderr."""
        named = [f"--env={env}"] if env else []
        code = main([*named, f"--train_dir={self.train_dir}", "--experiment=e", *SMALL, *argv])
        captured = self._capsys.readouterr()
        self.out = captured.out
        return code, captured.err.splitlines()

    def files(self) -> dict[str, bytes]:
        """All files but the log."""
        found = [p for p in self.train_dir.rglob("*") if p.is_file() and p.name not in ("sf_log.txt", ".lock")]
        return {str(p.relative_to(self.train_dir)): p.read_bytes() for p in found}


@pytest.fixture
def experiment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Experiment:
    return Experiment(tmp_path, capsys)


@pytest.fixture
def trained(experiment: Experiment) -> Experiment:
    assert experiment.train("--train_for_env_steps=320")[0] == 0
    return experiment


@pytest.mark.parametrize(
    ("env", "argv", "message"),
    [
        ("CartPole-v9", [], "--env=CartPole-v9: there is no such environment; did you mean CartPole-v"),
        ("doom_basik", [], "--env=doom_basik: there is no such environment; did you mean doom_basic?"),
        ("no_such_module:make", [], "there is no module no_such_module"),
        ("CartPole-v1", ["--encoder_type=conv"], "--encoder_type=conv needs an image"),
        (
            "CartPole-v1",
            ["--encoder_custom=no_such:make"],
            "--encoder_custom=no_such:make: cannot be imported",
        ),
        (
            "CartPole-v1",
            ["--per_policy", "shaping/kill:1"],
            "--per_policy=shaping/kill: the environment has no such reward shaping; it has none",
        ),
        ("dmlab_30", [], "dmlab_* environments need the package deepmind_lab"),
        ("doom_basic", ["--num_bots=3"], "--num_bots=3: doom_basic is no match; matches are doom_deathmatch_bots"),
        ("CartPole-v1", ["--batch_size=48"], "cannot be filled by whole rounds of 4"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    experiment: Experiment, env: str, argv: list[str], message: str
) -> None:
    code, errors = experiment.train(*argv, "--train_for_env_steps=320", env=env)
    faults = [line for line in errors if line.startswith("error: ")]
    assert (code, len(faults), len(errors)) == (2, 1, 1)
    assert message in faults[0]
    assert not experiment.train_dir.exists()


def test_another_network_is_refused_and_the_old_one_still_resumes(trained: Experiment) -> None:
    before = trained.files()
    code, errors = trained.train("--hidden_size=16", "--train_for_env_steps=640")
    assert code == 2
    assert "another network" in errors[-1]
    assert "instead of" in errors[-1]
    assert trained.files() == before
    assert trained.train("--train_for_env_steps=640", env=None)[0] == 0


@pytest.mark.parametrize("behavior", ["restart", "overwrite"])
def test_a_mistake_beside_a_wish_to_begin_anew_costs_nothing(trained: Experiment, behavior: str) -> None:
    before = trained.files()
    assert trained.train(f"--restart_behavior={behavior}", env="CartPole-v9")[0] == 2
    assert trained.files() == before


def test_beginning_anew_once_is_not_repeated_by_the_next_resume(trained: Experiment) -> None:
    assert trained.train("--restart_behavior=restart", "--train_for_env_steps=320")[0] == 0
    assert trained.train("--train_for_env_steps=640", env=None)[0] == 0
    assert "goes on from" in trained.out
    assert sorted(path.name for path in trained.train_dir.iterdir()) == ["e", "e_old1"]
    assert json.loads(trained.paths.results.read_text())["env_steps"] >= 640


def test_two_trainings_of_one_experiment(trained: Experiment) -> None:
    with ExperimentLock(trained.paths):
        code, errors = trained.train("--train_for_env_steps=640")
    assert code == 2
    assert "is being trained by process" in errors[-1]


def test_a_folder_that_cannot_be_written(experiment: Experiment) -> None:
    experiment.train_dir.write_text("a file where the folder should be")
    code, errors = experiment.train("--train_for_env_steps=320")
    assert code == 1
    assert errors[-1].startswith("error: cannot write into ")


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def save(store: CheckpointStore, checkpoint: Checkpoint) -> Any:
        raise StorageError(f"cannot write checkpoint: {errno.errorcode[errno.ENOSPC]}")

    monkeypatch.setattr(CheckpointStore, "save", save)


@pytest.mark.usefixtures("full_disk")
def test_a_disk_that_is_full_at_the_end(experiment: Experiment) -> None:
    code, errors = experiment.train("--train_for_env_steps=320")
    assert code == 1
    (line,) = errors
    assert line == ("error: cannot write checkpoint: ENOSPC; what was learned since the checkpoint before is lost")
    assert json.loads(experiment.paths.results.read_text())["outcome"] == "failed"


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_on_the_way_is_told_and_survived(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment.train("--train_for_env_steps=640", "--save_every_sec=0.001")
    assert experiment.out.count("the training goes on") == 1


def test_a_damaged_checkpoint_is_passed_over(trained: Experiment) -> None:
    assert trained.train("--train_for_env_steps=640")[0] == 0
    newest = sorted(trained.paths.checkpoints(0).glob("checkpoint_*.pth"))[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    assert trained.train("--train_for_env_steps=960")[0] == 0
    assert f"{newest} is damaged" in trained.out
    assert f"moved {newest.name} to" in trained.out


def test_no_best_checkpoint_yet(trained: Experiment) -> None:
    code, errors = trained.train("--load_checkpoint_kind=best", "--train_for_env_steps=640")
    assert code == 1
    assert "use --load_checkpoint_kind=latest" in errors[-1]


def test_a_metric_that_no_episode_has(experiment: Experiment) -> None:
    argv = ("--save_best_metric=kills", "--train_for_env_steps=3200")
    assert experiment.train(*argv)[0] == 0
    log = experiment.paths.log.read_text()
    assert log.count("--save_best_metric=kills: no episode has it; they have reward, ") == 1
