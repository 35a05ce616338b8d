"""The run loop itself, step by step, with made-up jobs and clocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sf_runner.backends.base import Launch
from sf_runner.describe.plan import Plan
from sf_runner.engine.launching import LaunchBuilder
from sf_runner.engine.loop import RunLoop
from sf_runner.engine.reconcile import slot_requests
from sf_runner.engine.scheduler import Policy
from sf_runner.engine.slot_manager import SlotManager
from sf_runner.linux.signals import SignalInbox
from sf_runner.slots.cores import Core, CpuTopology
from sf_runner.slots.devices import GpuSnapshot
from sf_runner.slots.table import SlotSetup
from sf_runner.slots.types import SlotPolicy
from sf_runner.state.jobs import Running, Succeeded
from sf_runner.store.journal import Journal
from sf_runner.testing.fake_backend import FakeBackend, FakeMachine, FakeProgram
from sf_runner.testing.fake_clock import SettableClock
from sf_runner.tui.plain import SilentScreen
from tests.runner.builders import opening, simple_plan

Programs = Callable[[Launch], FakeProgram]


class Stepped:
    """A run loop that makes a step whenever it is told to."""

    def __init__(
        self, plan: Plan, programs: Programs, *, leave: bool = False, parallel: int = 2, **policy: float
    ) -> None:
        self.clock = SettableClock()
        self.machine = FakeMachine(self.clock.steady, programs, wall=self.clock.wall)
        self.backend = FakeBackend(self.machine)
        self.journal, self.state = Journal.open(plan.paths.journal, plan.run_name)
        now = self.clock.now()
        for event in opening(plan, self.state, now.wall, max_parallel=parallel, clocks=now.unset):
            self.journal.append((event,))
            self.state.apply(event)
        snapshot, cores = GpuSnapshot(), CpuTopology(cores=tuple(Core(cpus=(index,)) for index in range(8)))
        setup = SlotSetup.create(SlotPolicy(), snapshot, cores)
        self.signals = SignalInbox()
        self.signals.__enter__()
        self.backend.open()
        self.loop = RunLoop(
            jobs=plan.by_id(),
            state=self.state,
            journal=self.journal,
            backend=self.backend,
            slots=SlotManager(setup, None, snapshot, self.backend.sessions),
            requests=slot_requests(plan),
            launches=LaunchBuilder(plan.paths),
            policy=Policy(**policy),  # type: ignore[arg-type]
            screen=SilentScreen(),
            signals=self.signals,
            clock=self.clock,
            leave_when_submitted=leave,
        )

    def step(self, seconds: float = 0.0, *, set_s: float = 0.0, slept_s: float = 0.0) -> None:
        """Let time pass; two steps then: what the first starts is heard of in the second."""
        self.clock.pass_time(seconds, set_s=set_s, slept_s=slept_s)
        self.loop._step()
        self.loop._step()

    def states(self) -> list[str]:
        return [type(record.state).__name__ for record in self.state.jobs.values()]

    def close(self) -> None:
        for job in self.machine.running():
            self.machine.finish(job)
        self.backend.poll(0.0)
        self.backend.close(detach=True)
        self.signals.__exit__()
        self.journal.close()


Make = Callable[..., Stepped]


@pytest.fixture
def stepped(tmp_path: Path) -> Iterator[Make]:
    made: list[Stepped] = []

    def make(count: int, programs: Programs, **settings: object) -> Stepped:
        made.append(Stepped(simple_plan(count, tmp_path), programs, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for loop in made:
        loop.close()


def patient(launch: Launch) -> FakeProgram:
    return FakeProgram()


def fails_once(launch: Launch) -> FakeProgram:
    return FakeProgram(duration_s=1.0, exit_code=3 if launch.attempt == 1 else 0)


SETS = [0.0, -600.0, 28_800.0]


@pytest.mark.parametrize("set_s", SETS)
def test_a_time_limit_whatever_the_clock_is_set_to(stepped: Make, set_s: float) -> None:
    run = stepped(1, patient, timeout_s=60.0)
    run.step()
    run.step(50.0, set_s=set_s)
    assert run.states() == ["Running"]
    run.step(9.0)
    assert run.states() == ["Running"]
    run.step(2.0)
    assert not any(isinstance(record.state, Running) for record in run.state.jobs.values())


def test_sleep_of_the_machine_counts_for_no_time_limit(stepped: Make) -> None:
    run = stepped(1, patient, timeout_s=60.0)
    run.step()
    run.step(50.0, slept_s=28_800.0)
    run.step(9.0)
    assert run.states() == ["Running"]


@pytest.mark.parametrize("set_s", SETS)
def test_a_retry_comes_in_time_whatever_the_clock_is_set_to(stepped: Make, set_s: float) -> None:
    run = stepped(1, fails_once, max_retries=1, retry_delay_s=20.0)
    run.step()
    run.step(1.0)
    assert run.states() == ["Waiting"]
    run.step(10.0, set_s=set_s)
    run.step(9.0)
    assert run.states() == ["Waiting"]
    run.step(2.0)
    assert run.states() == ["Running"]


@pytest.mark.parametrize("set_s", SETS)
def test_a_pause_between_starts_whatever_the_clock_is_set_to(stepped: Make, set_s: float) -> None:
    run = stepped(3, patient, parallel=3, pause_between_s=30.0)
    run.step()
    assert run.states() == ["Running", "Waiting", "Waiting"]
    run.step(29.0, set_s=set_s)
    assert run.states() == ["Running", "Waiting", "Waiting"]
    run.step(2.0)
    assert run.states() == ["Running", "Running", "Waiting"]


def cannot_start_at_first(launch: Launch) -> FakeProgram:
    return FakeProgram(cannot_start="no process left" if launch.attempt == 1 else "", may_start_later=True)


@pytest.mark.parametrize("set_s", SETS)
def test_what_could_not_be_started_is_tried_again_in_time(stepped: Make, set_s: float) -> None:
    run = stepped(1, cannot_start_at_first)
    run.step()
    assert run.states() == ["Waiting"]
    run.step(0.5, set_s=set_s)
    assert run.states() == ["Waiting"]
    run.step(1.0)
    assert run.states() == ["Running"]


def test_who_submits_and_leaves_waits_for_what_could_not_be_submitted_yet(stepped: Make) -> None:
    run = stepped(1, cannot_start_at_first, leave=True)
    run.step()
    assert run.states() == ["Waiting"]
    assert run.state.draining is None, "it would never be submitted"
    run.step(2.0)
    assert run.states() == ["Running"]
    assert run.state.draining is not None
    assert run.state.draining.reason == "detached"


@pytest.mark.parametrize("set_s", SETS)
def test_durations_are_true_whatever_the_clock_is_set_to(stepped: Make, set_s: float) -> None:
    run = stepped(1, lambda launch: FakeProgram(duration_s=40.0))
    run.step()
    run.step(20.0, set_s=set_s)
    run.step(21.0)
    (record,) = run.state.jobs.values()
    assert isinstance(record.state, Succeeded)
    assert record.state.duration_s == pytest.approx(40.0, abs=0.1)
