"""The benchmarks of the trainer: their arithmetic, and that they end what they start."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module(name)


def ended(pid: int) -> bool:
    """Gone, or waiting for its parent to take note of it."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_ratios_are_of_medians_and_name_the_disturbance(monkeypatch: pytest.MonkeyPatch) -> None:
    throughput = module("throughput", monkeypatch)

    def figure(side: str, fps: float) -> object:
        return throughput.Figure(
            workload="w", side=side, setting="s", frames_per_s=fps, first_step_s=2.0, core_us_per_frame=500.0,
            other_cores=0.1, stolen_cores=0.05, date="d",
        )  # fmt: skip

    text = throughput.table([figure("ours", fps) for fps in (3000.0, 5000.0, 4000.0)] + [figure("peer", 1000.0)])
    ours, peer = text.splitlines()[2:]
    assert ours == "| w | ours | s | 3 | 4,000 | 3,000 to 5,000 | 500.0 | 2.00 | 0.15 | 1.00 |"
    assert peer.endswith("| 1,000 | 1,000 to 1,000 | 500.0 | 2.00 | 0.15 | 4.00 |")


def test_speed_is_the_slope_after_the_warm_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    programs = module("programs", monkeypatch)
    with subprocess.Popen([sys.executable, "-c", ""], text=True) as process:
        running = programs.Running(process, tmp_path, "mark", 0.0)
    running.points = [(10.0, 100), (11.0, 5000), (12.0, 5200), (13.0, 5400), (14.0, 5600)]
    assert running.frames_per_s(1.0) == pytest.approx(200.0)
    with pytest.raises(SystemExit, match="too few reports"):
        running.frames_per_s(3.0)


def test_conditions_tell_own_work_from_that_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = module("programs", monkeypatch)
    begin = programs.CoreUse(at=0.0, busy_s=100.0, stolen_s=5.0, own_s=10.0)
    end = programs.CoreUse(at=10.0, busy_s=119.0, stolen_s=6.0, own_s=27.0)
    assert programs.Conditions.between(begin, end) == programs.Conditions(
        own_cores=1.7, other_cores=pytest.approx(0.2), stolen_cores=0.1
    )


def test_what_a_program_leaves_running_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = module("programs", monkeypatch)
    leave = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE, start_new_session=True)\n"
        "print('Total num frames: 7', child.pid, flush=True)\n"
        "sys.stdin.read() or child.wait()"
    )
    with programs.started([sys.executable, "-c", leave]) as running:
        running.wait_for_frames()
        assert running.points[0][1] == 7
        left = int(running.log[-1].split()[-1])
        assert {running.process.pid, left} <= set(running.pids)
    assert ended(left)
    assert not running.folder.exists()


def test_the_first_step_of_an_environment_is_told_and_costs_nothing_afterwards(tmp_path: Path) -> None:
    program = (
        "import gymnasium\n"
        "from gymnasium.envs.classic_control.cartpole import CartPoleEnv\n"
        "wrapped = CartPoleEnv.step\n"
        "env = gymnasium.make('CartPole-v1'); env.reset(seed=1); env.step(0)\n"
        "assert CartPoleEnv.step is not wrapped\n"
        "env.step(1); print(CartPoleEnv.step.__name__)"
    )
    env = {**os.environ, "PYTHONPATH": str(BENCHMARKS / "first_step"), "SF_BENCH_FIRST_STEP": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("step\n", "")
    (found,) = tmp_path.iterdir()
    assert float(found.read_text()) > 0


@pytest.mark.parametrize("name", ["doom_benchmark", "cartpole", "atari_pong"])
def test_every_setting_of_ours_is_a_valid_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from sf_algo.config.resolve import parse_args

    workloads = module("workloads", monkeypatch)
    load = workloads.WORKLOADS[name]
    for setting in load.settings["ours"]:
        words = workloads.command("ours", load, setting, Path(), 10.0)
        assert parse_args(words[3:]).config.run.env == load.env


@pytest.mark.slow
def test_the_check_of_gpus_runs_without_one_and_names_what_it_leaves_out(tmp_path: Path) -> None:
    out = tmp_path / "table.md"
    command = [
        sys.executable,
        str(BENCHMARKS / "gpu_check.py"),
        "--only=parity,no_lag,graphs,locked,ahead,side_by_side,stall",
    ]
    run = subprocess.run(
        [*command, "--device=cpu", f"--out={out}"], capture_output=True, text=True, cwd=tmp_path, timeout=560
    )
    assert run.returncode == 0, run.stdout + run.stderr
    table = out.read_text()
    for name in ("parity", "graphs", "locked", "side_by_side"):
        assert f"| {name} | skipped: needs a GPU |" in table
    assert "| no_lag | ok |" in table
    assert "| ahead | ok |" in table
    assert "| stall | ok |" in table
    wrong = subprocess.run([*command, "--only=speeed"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "there is no speeed" in wrong.stderr


def test_both_programs_train_the_same_seeds_of_the_same_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    description = module("reliability", monkeypatch).RUN_DESCRIPTION
    seeds = {experiment.base_name: [p["seed"] for p in experiment.params] for experiment in description.experiments}
    assert len(seeds) == 6
    assert all(listed == list(range(1, 21)) for listed in seeds.values())
    commands = {experiment.base_name: experiment.cmd for experiment in description.experiments}
    for name in ("cartpole", "doom_basic", "doom_health_gathering"):
        ours, peer = commands[f"ours_{name}"].split(), commands[f"peer_{name}"].split()
        for flag in ("--env=", "--train_for_env_steps=", "--batch_size=", "--rollout=", "--learning_rate=", "--gamma="):
            values = [[word for word in command if word.startswith(flag)] for command in (ours, peer)]
            assert values[0] == values[1] != []
