"""Long starts of environments: who is being waited for, and for how long at most."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from sf_algo.config.resolve import parse_args
from sf_algo.ipc.control import ControlBlock, WorkerPhase
from sf_algo.processes.slow import SlowWatch
from sf_algo.rollout import env_maker
from sf_algo.rollout.env_maker import EnvMaker
from sf_algo.sampling.worker_process import WorkerProcess
from sf_algo.testing import CountingEnv
from tests.algo.split_harness import Harness


def test_what_takes_long_is_told_again_and_again_but_not_too_often() -> None:
    lines: list[str] = []
    doing: list[tuple[str, float] | None] = [("environment 3 to start", 100.0)]
    watch = SlowWatch(lambda: doing[0], lines.append, every_s=20.0)
    for now in range(100, 165):
        watch.look(float(now))
    assert lines == [f"still waiting for environment 3 to start: {s} s so far" for s in (20, 40, 60)]
    doing[0] = ("environment 4 to start", 165.0)
    watch.look(180.0)
    assert len(lines) == 3, "it has only just begun"
    doing[0] = None
    watch.look(900.0)
    assert len(lines) == 3


def test_the_limit_for_a_start_grows_with_what_the_first_one_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """A constructor of 150 s is not given up after 120 s, again and again."""
    maker = EnvMaker(parse_args(["--env=sf_algo.testing:make_counting"]).config)
    assert maker.reset_limit_s(120.0) == 120.0
    clock = iter([1000.0, 1150.0])
    monkeypatch.setattr(env_maker.time, "monotonic", lambda: next(clock, 1150.0))
    maker.spec()
    assert maker.reset_limit_s(120.0) == 600.0
    assert maker.reset_limit_s(3600.0) == 3600.0


def test_a_worker_says_which_environment_it_starts() -> None:
    control = ControlBlock.create(num_workers=1, num_splits=1, num_slots=2)
    status = control.status(0)
    worker = cast("WorkerProcess", SimpleNamespace(name="rollout worker 0 (environments 0-3)", status=status))
    start_under_way = WorkerProcess.start_under_way.fget
    assert start_under_way is not None
    for phase, env_index, expected in (
        (WorkerPhase.STARTING, -1, "rollout worker 0 (environments 0-3) to start"),
        (WorkerPhase.RESETTING, 2, "rollout worker 0 (environments 0-3), environment 2 to start"),
        (WorkerPhase.STEPPING, 2, None),
        (WorkerPhase.WAITING, -1, None),
    ):
        status.set_phase(phase, env_index)
        start = start_under_way(worker)
        assert (start and start[0]) == expected
    control.close()


class Phases:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def resetting(self, env_index: int) -> None:
        self.seen.append("start")

    def stepping(self, env_index: int) -> None:
        self.seen.append("step")


def test_the_first_step_of_an_environment_is_part_of_its_start() -> None:
    harness = Harness(lambda e: CountingEnv(env_index=e, length=2), num_envs=1)
    phases = Phases()
    harness.envs._watch = phases
    harness.open()
    harness.act(), harness.act(), harness.act()
    # Made, reset, its first step, its second one, the next episode's reset and step.
    assert phases.seen == ["start", "start", "start", "step", "start", "step"]
