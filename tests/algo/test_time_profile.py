"""--profile: counters of processes become a table of microseconds per frame."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from sf_algo.config.resolve import configure
from sf_algo.ipc.control import ControlBlock
from sf_algo.timing import ProcessTimes, Profiler, Stage, difference, merged, process_cpu_times
from sf_algo.training.launch import run_training


class Counters:
    """A source whose counters the test sets."""

    def __init__(self) -> None:
        self.times: list[ProcessTimes] = []

    def process_times(self) -> Sequence[ProcessTimes]:
        return self.times


def test_parts_of_one_process_add_up_under_its_first_name() -> None:
    parts = [
        ProcessTimes(name="main", pid=1, busy_s={Stage.INFERENCE: 1.0}),
        ProcessTimes(name="worker 0", pid=2, busy_s={Stage.ENVIRONMENT: 5.0}),
        ProcessTimes(name="other", pid=1, busy_s={Stage.INFERENCE: 0.5, Stage.LEARNING: 2.0}),
    ]
    main, worker = merged(parts)
    assert (main.name, main.busy_s[Stage.INFERENCE], main.busy_s[Stage.LEARNING]) == ("main", 1.5, 2.0)
    assert worker == parts[1]


def test_a_process_that_was_replaced_counts_from_its_own_beginning() -> None:
    before = [ProcessTimes(name="worker 0", pid=2, busy_s={Stage.ENVIRONMENT: 5.0})]
    after = [ProcessTimes(name="worker 0", pid=9, busy_s={Stage.ENVIRONMENT: 3.0})]
    (row,) = difference(before, after, {2: 4.0}, {9: 2.5})
    assert (row.busy_s[Stage.ENVIRONMENT], row.cpu_s) == (3.0, 2.5)


def test_the_table_says_how_long_every_process_takes_for_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    now, frames, cpu = [100.0], [1000], {7: 10.0, 8: 1.0}
    source = Counters()
    source.times = [ProcessTimes(name="main process", pid=7, busy_s={Stage.INFERENCE: 1.0, Stage.BATCHING: 0.5})]
    source.times.append(ProcessTimes(name="learner", pid=8, busy_s={Stage.LEARNING: 2.0}))
    work = {Stage.INFERENCE: 3e6, Stage.LEARNING: 17e6}
    profiler = Profiler([source], lambda: frames[0], clock=lambda: now[0], cpu_times=lambda _: dict(cpu), work=work)
    assert profiler.report() == "no profile: the training ended before its first iterations"
    profiler.begin()
    assert profiler.report() == "no profile: nothing was trained after its first iterations"
    now[0], frames[0] = 110.0, 101_000
    cpu.update({7: 14.0, 8: 9.0})
    source.times = [ProcessTimes(name="main process", pid=7, busy_s={Stage.INFERENCE: 4.0, Stage.BATCHING: 1.0})]
    source.times.append(ProcessTimes(name="learner", pid=8, busy_s={Stage.LEARNING: 10.5}))
    assert profiler.report().splitlines() == [
        "where the time of a frame went: 100,000 frames in 10.0 s, 10,000 frames/s on 2 cores (200 us of cores per "
        "frame)",
        "us per frame             environment   transport   inference    batching    learning        idle   processor",
        "main process                     0.0         0.0        30.0         5.0         0.0        65.0        40.0",
        "learner                          0.0         0.0         0.0         0.0        85.0        15.0        80.0",
        "all                              0.0         0.0        30.0         5.0        85.0        80.0       120.0",
        "products, GFLOP/s while a stage was busy: inference 100.0, learning 200.0",
        "the cores were busy 60% of the time with this training",
    ]


def test_processor_time_includes_children_that_are_no_processes_of_their_own_right() -> None:
    me = os.getpid()
    before = process_cpu_times([me])[me]
    burn = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()  # it has burnt its share and lives on
        assert process_cpu_times([me])[me] - before >= 0.15
        both = process_cpu_times([me, child.pid])
        assert both[child.pid] >= 0.15
        child.stdin.write(b"\n")
    assert child.pid not in process_cpu_times([me, child.pid])


def test_a_worker_tells_what_it_does_with_its_time() -> None:
    control = ControlBlock.create(num_workers=2, num_splits=1, num_slots=2)
    try:
        status = control.status(1)
        status.add_times(stepping_ns=3_000_000_000, waiting_ns=1_000_000_000, loop_ns=5_000_000_000)
        status.add_times(stepping_ns=1_000_000_000, waiting_ns=0, loop_ns=1_500_000_000)
        assert status.times_s == (4.0, 1.5)
        assert control.status(0).times_s == (0.0, 0.0)
    finally:
        control.close()


@pytest.mark.parametrize(
    ("mode", "rows"),
    [
        (("--serial_mode=True",), {"main process": ("environment", "inference", "learning")}),
        (
            ("--num_workers=2",),
            {"main process": ("inference",), "worker 0": ("environment",), "learner": ("learning",)},
        ),
        (("--num_workers=1", "--async_rl=False"), {"main process": ("inference", "learning"), "worker 0": ()}),
    ],
)
def test_a_training_tells_its_profile(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], mode: tuple[str, ...], rows: dict[str, tuple[str, ...]]
) -> None:
    flags = [
        "--env=CartPole-v1",
        "--train_for_env_steps=20000",
        f"--train_dir={tmp_path}",
        "--seed=1",
        "--profile=True",
    ]
    assert run_training(configure([*flags, *mode]).config) == 0
    lines = (tmp_path / "default_experiment" / "sf_log.txt").read_text().splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("us per frame"))
    columns = lines[head].split()[3:]
    found = {
        line[:24].strip(): dict(zip(columns, line[24:].split(), strict=True))
        for line in lines[head + 1 : head + 5]
        if not line.startswith(("the cores", "products"))
    }
    for name, busy in rows.items():
        for stage in busy:
            assert float(found[name][stage]) > 0
    capfd.readouterr()
