"""The dummy sampler as a command: counts, limits, faults, signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sf_algo import run_algorithm
from sf_algo.config import Command, parse_args
from sf_algo.cpus import usable_cpus
from sf_algo.own.additions import NOTHING_ADDED, Additions
from sf_algo.speed.dummy_sampler.settings import make_plan
from tests.algo.waiting import wait_for_end

BASE = ["--algo=DUMMY_SAMPLER", "--experiment=dummy", "--status_interval=0.2"]


def command(tmp_path: Path, *flags: str) -> list[str]:
    return [*BASE, f"--train_dir={tmp_path}", *flags]


def results(tmp_path: Path) -> dict[str, Any]:
    loaded = json.loads((tmp_path / "dummy" / "results.json").read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_frames_are_counted_with_their_skip_up_to_the_limit(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = tmp_path / "progress.json"
    monkeypatch.setenv("SF_RUNNER_PROGRESS_FILE", str(progress))
    flags = ["--env=CartPole-v1", "--env_frameskip=2", "--num_workers=2", "--num_envs_per_worker=3"]
    assert run_algorithm.main(command(tmp_path, *flags, "--sample_env_frames_per_worker=60000")) == 0
    report = results(tmp_path)
    assert report["status"] == "finished"
    assert report["frames"] == 120_000, "60000 is a multiple of 3 environments x 2 frames"
    assert report["episodes"] > 1000
    assert report["fps"] == pytest.approx(report["frames"] / report["seconds"])
    assert report["fps_per_env"] == pytest.approx(report["fps"] / 6)
    assert sum(report["worker_fps"]) == pytest.approx(report["fps"])
    out = capfd.readouterr().out
    assert "2 workers x 3 environments" in out
    assert "frames/s" in out
    written = json.loads(progress.read_text())
    assert (written["phase"], written["step"], written["total"]) == ("sampling", 120_000, 120_000)


def test_the_time_limit_ends_it(tmp_path: Path) -> None:
    flags = ["--env=sf_algo.testing:MemoryEnv", "--num_workers=1", "--num_envs_per_worker=2"]
    assert run_algorithm.main(command(tmp_path, *flags, "--timeout_seconds=0.5")) == 0
    report = results(tmp_path)
    assert report["frames"] > 0
    assert report["seconds"] >= 0.5


@pytest.mark.parametrize(
    ("flags", "workers"),
    [
        (["--env=CartPole-v1"], usable_cpus()),
        (["--env=CartPole-v1", "--num_workers=3"], 3),
        (["--env=CartPole-v1", "--serial_mode=True"], 1),
        (["--env=doom_basic", "--num_workers=5"], 5),
    ],
)
def test_all_cores_are_used_unless_told_otherwise(flags: list[str], workers: int) -> None:
    invocation = parse_args([*BASE, *flags], Command.RUN_ALGORITHM)
    assert make_plan(invocation.config, invocation.typed).num_workers == workers


def test_another_algorithm_is_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    from sf_algo import train_appo

    given: list[list[str]] = []

    def train(argv: list[str], additions: Additions) -> int:
        assert additions is NOTHING_ADDED
        given.append(argv)
        return 5

    monkeypatch.setattr(train_appo, "main", train)
    assert run_algorithm.main(["--algo=APPO", "--env=CartPole-v1"]) == 5
    assert run_algorithm.main(["--env=CartPole-v1"]) == 5
    assert given == [["--algo=APPO", "--env=CartPole-v1"], ["--env=CartPole-v1"]]


def test_limits_combine() -> None:
    flags = [
        "--env=CartPole-v1",
        "--num_workers=4",
        "--sample_env_frames=900",
        "--sample_env_frames_per_worker=200",
    ]
    invocation = parse_args([*BASE, *flags], Command.RUN_ALGORITHM)
    assert make_plan(invocation.config, invocation.typed).total_frames == 800


@pytest.mark.parametrize(
    ("env", "code", "message"),
    [
        ("CartPole-v9", 2, "did you mean CartPole-v1"),
        ("tests.algo.test_dummy_sampler:make_failing", 1, "sampling worker 0: RuntimeError: out of coffee"),
    ],
)
def test_faults_are_told_in_one_line(
    env: str, code: int, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_algorithm.main(command(tmp_path, f"--env={env}", "--num_workers=1")) == code
    err = capfd.readouterr().err
    assert message in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("error: ")


def make_failing() -> object:
    from sf_algo.testing import CountingEnv

    class Failing(CountingEnv):
        def step(self, actions: Any, out: Any) -> Any:
            raise RuntimeError("out of coffee")

    return Failing()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_signal_ends_it_and_its_workers(number: signal.Signals, code: int, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "sf_algo.run_algorithm", *command(tmp_path, "--env=CartPole-v1")]

    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as main:
        assert main.stdout is not None
        while "frames/s" not in main.stdout.readline():
            assert main.poll() is None
        workers = Path(f"/proc/{main.pid}/task/{main.pid}/children").read_text().split()
        assert len(workers) == usable_cpus()
        main.send_signal(number)
        main.stdout.read()
        assert main.wait() == code
    for pid in workers:
        wait_for_end(int(pid))
    if code > 0:
        assert results(tmp_path)["status"] == number.name
