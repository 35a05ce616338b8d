"""Whole trainings on environments that behave badly: they just work, or end in one clear line; and whatever happens, no
damaged weights are saved."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sf_algo.checkpoints import load_checkpoint, unsound_tensors
from sf_algo.paths import ExperimentPaths
from sf_algo.train_appo import main
from tests.algo.training_command import TrainingCommand

SMALL = (
    "--serial_mode=True",
    "--async_rl=False",
    "--use_rnn=False",
    "--hidden_size=8",
    "--num_envs_per_worker=4",
    "--rollout=8",
    "--batch_size=32",
    "--num_batches_per_iteration=1",
    "--ppo_epochs=1",
    "--normalize_input=True",
    "--normalize_returns=True",
    "--decorrelate_experience_max_seconds=0",
    "--seed=1",
    "--learner_main_loop_num_cores=1",
)


@pytest.fixture(autouse=True)
def same_folder(one_torch_thread: None) -> Iterator[None]:
    folder = Path.cwd()
    yield
    os.chdir(folder)


def flags(kind: str, folder: Path, *more: str) -> list[str]:
    return [
        f"--env=tests.algo.bad_envs:make_{kind}",
        f"--train_dir={folder}",
        "--experiment=e",
        "--train_for_env_steps=1600",
        *SMALL,
        *more,
    ]


def check_saved(folder: Path) -> int:
    """Number of checkpoints; all of them are sound."""
    found = list((folder / "e").rglob("*.pth"))
    for path in found:
        assert unsound_tensors(load_checkpoint(path).learner["model"]) == []
    return len(found)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("tame", ""),
        ("nan_observations", "its observation 'obs' is nan at [0]; what this episode has collected is thrown away"),
        ("huge_observations", "its observation 'obs' is inf at [0]"),
        ("inf_rewards", "its reward is inf"),
        ("no_rewards", "its reward is nan"),
        ("rewards_too_large", "its reward is inf"),
        ("rewards_in_arrays", ""),
        ("no_info", ""),
        ("strange_statistics", ""),
        ("lists", ""),
        ("closing", ""),
        ("mutable", ""),
        ("noisy", ""),
        ("wanderer", ""),
        ("small_images", ""),
        ("texts", ""),
        ("without_choice", "its action_mask forbids every choice; it is taken as if every choice were allowed"),
        ("sometimes", "RuntimeError: a step breaks"),
        ("exiting", "SystemExit"),
        ("cancelled", "Cancelled: a step is cancelled"),
        ("big_endian", ""),
        ("tensors", ""),
        ("proxy", ""),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore:noise")
def test_what_can_be_lived_with(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, told: str) -> None:
    assert main(flags(kind, tmp_path)) == 0
    assert check_saved(tmp_path) >= 1
    log = ExperimentPaths(tmp_path / "e").log.read_text()
    assert told in log
    if told and not told.endswith(("breaks", "SystemExit", "cancelled")):
        assert log.count("; what this episode") + log.count("; it is taken") == 1, "not a line for each"
    results = json.loads((tmp_path / "e" / "results.json").read_text())
    assert results["metrics"]["len"] <= 10
    assert 1600 <= results["env_steps"] < 1800
    # Nothing is lost beside the episodes concerned: one every 151 steps.
    assert results["policies"][0]["episodes"] > 100


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("nan_rewards_at_the_end", 1, "gave numbers that are not finite 3 times without finishing an episode"),
        ("nan_observations_always", 1, "gave numbers that are not finite 3 times"),
        ("overflowing", 1, " iterations: the gradient was not finite ("),
        ("longer", 2, "observation 'obs' has shape (1,), but the observation_space says (4,)"),
        ("wrong_shape", 2, "observation 'obs' has shape (4, 1)"),
        ("float_images", 2, "observation 'obs' holds float64 numbers from 0.5 to 0.5"),
        ("out_of_range", 2, "observation 'obs' is 4, outside of [0] to [3]"),
        ("old_reset", 2, "reset must take seed and options and return (observation, info)"),
        ("old_step", 2, "step must return (observation, reward, terminated, truncated, info)"),
        ("ends_in_arrays", 2, "terminated and truncated must be one truth value each"),
        ("text_rewards", 2, "the reward must be one number, not a str"),
        (
            "unresettable",
            1,
            "environment 0 broke 3 times without finishing an episode; the last time with RuntimeError",
        ),
        ("breaking", 1, "broke 3 times without finishing an episode; the last time with RuntimeError: a step breaks"),
        ("wordless", 1, "the last time with tests.algo.bad_envs.WordlessError: <exception str() failed>"),
        ("interrupting", 130, "interrupted (KeyboardInterrupt)"),
        ("exiting_always", 1, "broke 3 times without finishing an episode; the last time with SystemExit: 0"),
        ("constructor", 2, "RuntimeError: the constructor breaks"),
        ("recursive", 2, "RecursionError"),
        ("exit", 2, "SystemExit: 0"),
        ("nothing", 2, "returned a NoneType; return a gymnasium.Env"),
        ("unsupported", 2, "observation 'obs' is a Sequence space, which has no array form"),
        ("clashing", 2, "two observations would both be called 'a/b'"),
    ],
)
def test_what_cannot_ends_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, code: int, message: str
) -> None:
    more = ("--normalize_input=False", "--normalize_returns=False") if kind == "overflowing" else ()
    assert main(flags(kind, tmp_path, *more)) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    check_saved(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode", [("--serial_mode=True",), ("--serial_mode=False", "--async_rl=True", "--num_workers=2")]
)
def test_one_observation_that_is_none_does_not_keep_a_training_from_learning(
    tmp_path: Path, mode: tuple[str, ...]
) -> None:
    """Before, the running mean of the observations was none from then on, and no weight changed any more."""
    learning = ("--hidden_size=64", "--num_envs_per_worker=16", "--rollout=32", "--batch_size=1024", "--ppo_epochs=4")
    more = (*mode, *learning, "--learning_rate=0.002", "--train_for_env_steps=60000", "--num_batches_per_iteration=1")
    assert main(flags("pole", tmp_path, *more)) == 0
    assert "its observation 'obs' is nan" in ExperimentPaths(tmp_path / "e").log.read_text()
    assert json.loads((tmp_path / "e" / "results.json").read_text())["metrics"]["reward"] > 80


def test_updates_that_are_skipped_are_counted_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = ("--normalize_input=False", "--normalize_returns=False", "--status_interval=0.001")
    assert main(flags("overflowing", tmp_path, *plain)) == 1
    out = capsys.readouterr().out
    assert "trajectories left out (not finite)" in out or "updates skipped (gradient not finite)" in out


@pytest.mark.parametrize("kind", ["nan_observations", "noisy", "parent", "threaded", "old_step"])
def test_the_same_in_workers(tmp_path: Path, kind: str) -> None:
    """As a command: nothing of it may stay, whatever threads and processes an environment has started."""
    argv = flags(kind, tmp_path, "--serial_mode=False", "--async_rl=True", "--num_workers=1", "--worker_num_splits=1")
    with TrainingCommand(*argv) as command:
        code = command.finish()
        assert code == (2 if kind == "old_step" else 0), command.text
        errors = [line for line in command.lines if line.startswith("error: ")]
        assert len(errors) == (kind == "old_step")
        assert ("nan at [0]" in command.text) is (kind == "nan_observations")
        if kind == "old_step":
            assert "rollout worker 0" in errors[0]
            assert "step must return" in errors[0]
    check_saved(tmp_path)


def test_threads_that_never_end_do_not_keep_a_serial_training(tmp_path: Path) -> None:
    with TrainingCommand(*flags("threaded", tmp_path)) as command:
        assert command.finish() == 0
    assert check_saved(tmp_path) >= 1


@pytest.mark.parametrize("serial", [True, False])
def test_a_first_step_that_compiles_is_a_start(tmp_path: Path, serial: bool) -> None:
    """The limit for steps is 0.6 s here, that for starts its usual 120 s. Each of 4 environments takes 1 s."""
    more: tuple[str, ...] = ("--heartbeat_interval=0.2",)
    if not serial:
        more += ("--serial_mode=False", "--async_rl=True", "--num_workers=1", "--worker_num_splits=1")
    with TrainingCommand(*flags("compiling", tmp_path, *more), env={"SF_FAKE_COMPILE_SECONDS": "1"}) as command:
        assert command.finish() == 0, command.text
    assert "has not" not in command.text
