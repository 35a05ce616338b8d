"""--tune: which ways are tried, how they are judged, and that nothing is left behind."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sf_algo.config import Config, RunConfig
from sf_algo.config.resolve import Invocation, parse_args
from sf_algo.errors import WorkerError
from sf_algo.own.additions import NOTHING_ADDED, Additions
from sf_algo.speed.tune import BUDGET_S, _program, candidates, measure_command, run_tuning, speed, trial_words

DOOM = ("--env=doom_basic", "--batch_size=2048")


def invocation(*flags: str) -> Invocation:
    return parse_args([*flags])


def test_the_command_as_it_stands_comes_first_and_ways_of_every_kind_follow() -> None:
    command = invocation(*DOOM, "--num_workers=2", "--num_envs_per_worker=16")
    free = invocation(*DOOM)
    found = candidates(free.config, free.typed, cores=2)
    assert found[0]["num_workers"] == free.config.sampling.num_workers
    assert len(found) == len({tuple(choice.items()) for choice in found})
    assert {(choice["serial_mode"], choice["async_rl"]) for choice in found[1:5]} >= {(False, True), (True, True)}
    for choice in candidates(command.config, command.typed, cores=2):
        assert (choice["num_workers"], choice["num_envs_per_worker"]) == (2, 16)


def test_a_machine_with_a_gpu_tries_more_environments_on_fewer_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sf_algo.speed.tune.usable_gpus", lambda: 1)
    found = candidates(invocation(*DOOM).config, frozenset(), 16)
    parallel = [choice for choice in found[1:] if not choice["serial_mode"]]
    assert {choice["num_workers"] for choice in parallel} == {14, 7}
    assert max(int(str(c["num_workers"])) * int(str(c["num_envs_per_worker"])) for c in parallel) == 14 * 32


def test_who_asks_for_a_serial_training_keeps_it() -> None:
    command = invocation("--env=CartPole-v1", "--serial_mode=True")
    for choice in candidates(command.config, command.typed, cores=4):
        assert (choice["serial_mode"], choice["async_rl"]) == (True, False)


@pytest.mark.parametrize("flags", [("--env=CartPole-v1",), DOOM, ("--env=doom_basic", "--async_rl=False")])
def test_every_trial_is_a_valid_command_that_learns_the_same(flags: tuple[str, ...]) -> None:
    command = invocation(*flags)
    for choice in candidates(command.config, command.typed, cores=2):
        trial = parse_args(trial_words(command, choice))
        assert trial.config.rl == command.config.rl
        assert trial.config.model == command.config.model
        assert trial.config.env == command.config.env
        for name, value in choice.items():
            assert getattr(trial.config.sampling, name) == value


def fake(speeds: Sequence[float | None]) -> Callable[[Sequence[str], int], float | None]:
    left = list(speeds)
    return lambda words, settled: left.pop(0) if left else 1.0


def test_the_fastest_way_is_printed_as_flags() -> None:
    out = io.StringIO()
    assert run_tuning(invocation(*DOOM), measure=fake([1000.0, None, 1500.0]), out=out, clock=lambda: 0.0, cores=2) == 0
    lines = out.getvalue().splitlines()
    assert lines[0].split() == ["1,000", "frames/s", "as", "it", "stands"]
    assert "did not train" in lines[1]
    best = lines[2].split("frames/s")[1].strip()
    assert best.startswith("--")
    assert lines[-1] == f"1.50 times as fast as it stands: {best}"


def test_noise_is_no_reason_to_change_flags() -> None:
    out = io.StringIO()
    run_tuning(invocation(*DOOM), measure=fake([1000.0, 1030.0]), out=out, clock=lambda: 0.0, cores=2)
    assert out.getvalue().splitlines()[-1] == "nothing was clearly faster than the command as it stands"


def test_it_ends_when_its_time_is_over() -> None:
    now = [0.0]

    def measure(words: Sequence[str], settled: int) -> float:
        now[0] += BUDGET_S * 0.6
        return 1000.0

    out = io.StringIO()
    run_tuning(invocation(*DOOM), measure=measure, out=out, clock=lambda: now[0], cores=2)
    assert out.getvalue().count("frames/s") == 2


def test_an_interrupt_leaves_the_best_so_far() -> None:
    speeds = [1000.0, 2000.0]

    def measure(words: Sequence[str], settled: int) -> float:
        if not speeds:
            raise KeyboardInterrupt
        return speeds.pop(0)

    out = io.StringIO()
    assert run_tuning(invocation(*DOOM), measure=measure, out=out, clock=lambda: 0.0, cores=2) == 0
    assert out.getvalue().splitlines()[-1].startswith("2.00 times as fast")


def test_a_command_that_does_not_train_is_told() -> None:
    with pytest.raises(WorkerError, match="start it without --tune"):
        run_tuning(invocation(*DOOM), measure=fake([None]), out=io.StringIO(), clock=lambda: 0.0, cores=2)


def test_speed_is_the_slope_of_frames_over_time() -> None:
    assert speed([(10.0, 100), (11.0, 300), (12.0, 500)]) == pytest.approx(200.0)
    assert speed([(10.0, 100), (11.0, 300)]) is None


def test_a_real_trial_is_measured_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    command = invocation("--env=CartPole-v1", "--seed=1")
    choice = candidates(command.config, command.typed, cores=2)[0]
    found = measure_command(trial_words(command, choice), 512, seconds=1.0)
    assert found is not None
    assert found > 100
    assert list(tmp_path.iterdir()) == []
    assert measure_command(["--env=CartPole-v1", "--no_such_flag=1"], 512, seconds=1.0) is None


@pytest.mark.parametrize(
    ("program", "env", "argv0", "expected"),
    [
        (NOTHING_ADDED, "CartPole-v1", "x.py", ("-m", "sf_algo.train_appo")),
        (NOTHING_ADDED, "__main__:make", "x.py", ("x.py",)),
        (Additions(envs={"mine": print}), "mine", "x.py", ("x.py",)),
        (Additions("pkg.train:app"), "CartPole-v1", "pkg/train.py", ("x.py",)),
        (Additions("pkg.train:app"), "CartPole-v1", "somewhere/sf_algo/train_appo.py", ("-m", "pkg.train")),
    ],
)
def test_trials_of_a_program_are_started_as_it_was(
    program: Additions, env: str, argv0: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [argv0, "--tune", "--seed=1"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "x.py", "--tune", "--seed=1"])
    config = replace(Config(), run=RunConfig(env=env))
    assert tuple(_program(Invocation(config=config, typed=frozenset(), program=program))) == expected
