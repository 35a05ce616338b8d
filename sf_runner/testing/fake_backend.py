"""A backend without processes: what its jobs do is written down, and happens when the clock says so.

    clock = FakeClock()
    machine = FakeMachine(clock, lambda launch: FakeProgram(duration_s=60, exit_code=1))
    backend = FakeBackend(machine)
    backend.submit(launch)
    clock.advance(60)
    backend.poll(clock())      # [Started(...), Ended(...)]

The machine outlives the backend, as real jobs outlive their runner: a second backend on it can adopt them. With
`clock.steady` and `clock.wall` of one clock (`basics/clock.py`, `SettableClock`) it drives a real run loop.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sf_runner.backends.base import Backend, Ended, Known, Launch, NotStarted, Report, Started, StopLevel


@dataclass(frozen=True, kw_only=True)
class FakeProgram:
    """What a job does. `duration_s` None: it runs until `FakeMachine.finish`."""

    duration_s: float | None = None
    exit_code: int = 0
    ignores_term: bool = False
    cannot_start: str = ""
    """Why it cannot be started at all; empty: it can."""
    may_start_later: bool = False
    """That reason may pass."""


@dataclass(kw_only=True)
class _FakeJob:
    number: int
    launch: Launch
    program: FakeProgram
    started_at: float
    ended: dict[str, Any] | None = None
    kill_at: float | None = None


class FakeMachine:
    """Where the fake jobs run. `programs` says what each launch does. `wall`: unix time, for reports; without it
    `clock` tells that."""

    def __init__(
        self,
        clock: Callable[[], float],
        programs: Callable[[Launch], FakeProgram] = lambda launch: FakeProgram(),
        *,
        wall: Callable[[], float] | None = None,
    ) -> None:
        self.clock = clock
        self._wall = wall or clock
        self.launches: list[Launch] = []
        """Everything that was submitted, in order."""
        self._programs = programs
        self._jobs: dict[int, _FakeJob] = {}
        self._wake_ups: list[int] = []

    def finish(self, job: str, exit_code: int = 0, *, signum: int | None = None) -> None:
        """The running attempt of that job ends now. KeyError when there is none."""
        for fake in self._jobs.values():
            if fake.launch.job == job and fake.ended is None:
                self._end(fake, self.clock(), None if signum else exit_code, signum)
                self._wake()
                return
        raise KeyError(f"{job} is not running")

    def running(self) -> list[str]:
        """Jobs that run now, in the order in which they were started."""
        self.advance()
        return [fake.launch.job for fake in self._jobs.values() if fake.ended is None]

    def start(self, launch: Launch) -> _FakeJob | FakeProgram:
        """The job, or the program that could not be started."""
        self.launches.append(launch)
        program = self._programs(launch)
        if program.cannot_start:
            return program
        number = len(self._jobs) + 1
        fake = _FakeJob(number=number, launch=launch, program=program, started_at=self.clock())
        self._jobs[number] = fake
        return fake

    def find(self, known: Known) -> _FakeJob | None:
        for fake in self._jobs.values():
            if (fake.launch.job, fake.launch.attempt) == (known.job, known.attempt):
                return fake
        return None

    def signal(self, fake: _FakeJob, level: StopLevel, grace_s: float) -> None:
        now = self.clock()
        if fake.ended is not None:
            return
        if level == "terminate" and fake.kill_at is None and not fake.program.ignores_term:
            self._end(fake, now, None, signal.SIGTERM)
            return
        kill_at = now + (0.0 if level == "kill" else grace_s)
        fake.kill_at = kill_at if fake.kill_at is None else min(fake.kill_at, kill_at)

    def unix(self, when: float) -> float:
        """Unix time of a moment of `clock`."""
        return self._wall() - (self.clock() - when)

    def advance(self) -> None:
        """Let happen what is due."""
        now = self.clock()
        for fake in self._jobs.values():
            due = self._due(fake)
            if fake.ended is None and due is not None and due[0] <= now:
                self._end(fake, *due)

    def next_event(self) -> float | None:
        """When something happens by itself."""
        times = [due[0] for fake in self._jobs.values() if fake.ended is None and (due := self._due(fake))]
        return min(times, default=None)

    def wake_fd(self) -> tuple[int, int]:
        """A pipe of which the first end becomes readable when something happened by hand."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        self._wake_ups.append(writing)
        return reading, writing

    def forget_wake_fd(self, ends: tuple[int, int]) -> None:
        self._wake_ups.remove(ends[1])
        for fd in ends:
            os.close(fd)

    def _wake(self) -> None:
        for fd in self._wake_ups:
            with suppress(BlockingIOError):
                os.write(fd, b"!")

    def _due(self, fake: _FakeJob) -> tuple[float, int | None, int | None] | None:
        """(when, exit code, signal) of its end, as far as it is settled."""
        ends: list[tuple[float, int | None, int | None]] = []
        if fake.program.duration_s is not None:
            ends.append((fake.started_at + fake.program.duration_s, fake.program.exit_code, None))
        if fake.kill_at is not None:
            ends.append((fake.kill_at, None, int(signal.SIGKILL)))
        return min(ends, key=lambda end: end[0], default=None)

    def _end(self, fake: _FakeJob, when: float, exit_code: int | None, signum: int | None) -> None:
        fake.ended = {
            "version": 1,
            "attempt": fake.launch.attempt,
            "pid": fake.number,
            "exit_code": exit_code,
            "signal": signum,
            "started": fake.started_at,
            "ended": when,
        }


class FakeBackend(Backend):
    """The backend protocol over a `FakeMachine`."""

    name = "fake"

    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine
        self._watched: dict[str, _FakeJob] = {}
        self._reports: list[Report] = []
        self._wake: tuple[int, int] | None = None

    def open(self) -> None:
        self._wake = self._machine.wake_fd()

    def adopt(self, known: Sequence[Known]) -> list[Report]:
        reports: list[Report] = []
        for attempt in known:
            fake = self._machine.find(attempt)
            if fake is None:
                reports.append(
                    Ended(
                        job=attempt.job,
                        attempt=attempt.attempt,
                        t=self._machine.unix(self._machine.clock()),
                        record=None,
                    )
                )
                continue
            if attempt.handle is None:
                reports.append(self._started(fake))
            self._watched[attempt.job] = fake
        return [*reports, *self._endings()]

    def submit(self, launch: Launch) -> None:
        started = self._machine.start(launch)
        if isinstance(started, FakeProgram):
            report = NotStarted(
                job=launch.job,
                attempt=launch.attempt,
                t=self._machine.unix(self._machine.clock()),
                error=started.cannot_start,
                permanent=not started.may_start_later,
            )
            self._reports.append(report)
        else:
            self._watched[launch.job] = started
            self._reports.append(self._started(started))

    def stop(self, job: str, level: StopLevel, grace_s: float) -> None:
        if job in self._watched:
            self._machine.signal(self._watched[job], level, grace_s)

    def poll(self, now: float) -> list[Report]:
        if self._wake is not None:
            with suppress(BlockingIOError):
                os.read(self._wake[0], 4096)
        reports, self._reports = self._reports, []
        return [*reports, *self._endings()]

    def fds(self) -> Sequence[int]:
        return (self._wake[0],) if self._wake is not None else ()

    def settled(self) -> bool:
        return not self._reports

    def certain(self) -> bool:
        return True

    def next_wake(self) -> float | None:
        if self._reports or any(fake.ended is not None for fake in self._watched.values()):
            return self._machine.clock()
        return self._machine.next_event()

    def close(self, *, detach: bool) -> None:
        assert detach or not self._watched, f"jobs still run: {list(self._watched)}"
        if self._wake is not None:
            self._machine.forget_wake_fd(self._wake)
            self._wake = None

    def sessions(self) -> Mapping[int, str]:
        return {fake.number: job for job, fake in self._watched.items()}

    def _endings(self) -> list[Report]:
        self._machine.advance()
        reports: list[Report] = []
        for job, fake in list(self._watched.items()):
            if fake.ended is not None:
                del self._watched[job]
                attempt = fake.launch.attempt
                reports.append(
                    Ended(job=job, attempt=attempt, t=self._machine.unix(fake.ended["ended"]), record=fake.ended)
                )
        return reports

    def _started(self, fake: _FakeJob) -> Started:
        t = self._machine.unix(fake.started_at)
        return Started(job=fake.launch.job, attempt=fake.launch.attempt, handle={"number": fake.number}, t=t)
