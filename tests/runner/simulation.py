"""A whole run in memory: the real scheduler, reducer, codec and reconciliation; time, machine and jobs are made up.

It goes through the steps of the run loop in its order, with everything that may go wrong in between: attempts fail, run
out of memory, hang, cannot be started; people cancel, retry, pause; runners are killed and started again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from sf_runner.describe.plan import Plan
from sf_runner.engine.reconcile import slot_requests
from sf_runner.engine.retries import MAX_OOM_RETRIES, judge
from sf_runner.engine.scheduler import (
    Policy,
    Start,
    StartMemory,
    breaker_tripped,
    decide,
    overdue,
)
from sf_runner.slots.devices import GpuSnapshot
from sf_runner.slots.placement import Placement
from sf_runner.slots.table import SlotTable
from sf_runner.slots.types import Occupant
from sf_runner.state import events as ev
from sf_runner.state.fold import RunState, replay
from sf_runner.state.jobs import ACTIVE, ENDED, Failed, FailureCause, JobRecord, Stopping, Succeeded, Waiting
from tests.runner.builders import CAUSE, NOT_STARTED, OOM, check_consistency, essence, opening

TIMEOUT = FailureCause(kind="timeout", summary="ran longer than 100 s", fingerprint="22222222")
LOST = FailureCause(kind="lost", summary="nobody saw how it ended", fingerprint="33333333")


@dataclass(kw_only=True)
class Chances:
    """How likely things are, per attempt or per step."""

    fail: float = 0.2
    oom: float = 0.1
    hang: float = 0.05
    not_started: float = 0.05
    person: float = 0.1
    killed: float = 0.03
    unseen: float = 0.3
    """That nobody sees the end of an attempt which ends while there is no runner."""


@dataclass(kw_only=True)
class Simulation:
    plan: Plan
    table: SlotTable
    policy: Policy
    random: Random
    chances: Chances
    max_parallel: int
    snapshot: GpuSnapshot
    now: float = 1000.0
    events: list[ev.Event] = field(default_factory=list)
    ends_at: dict[str, float] = field(default_factory=dict)
    """When the running attempts end by themselves; far away: they hang."""
    requeued: set[str] = field(default_factory=set)
    """Jobs that somebody asked for again."""

    def __post_init__(self) -> None:
        self.requests = slot_requests(self.plan)
        self.state = RunState()
        self._write(ev.JournalCreated(t=self.now, version=1, run_id="cafe", run_name="study"))
        self._open()

    # ---- the run loop, in its order ------------------------------------------------------------------------

    def run(self, max_steps: int = 5000) -> None:
        """Until everything has ended or nothing is started any more and nothing runs."""
        for _ in range(max_steps):
            self._end_attempts()
            if self.random.random() < self.chances.person:
                self._somebody_asks()
            self._supervise()
            if self.state.draining is None and breaker_tripped(self.state, self.policy):
                self._write(ev.RunDraining(t=self.now, reason="max_failures"))
            until = self._start()
            if not self.state.active and (self.state.finished or self.state.draining is not None):
                return
            if self.random.random() < self.chances.killed:
                self._killed()
            self._wait(until)
        raise AssertionError(f"not over after {max_steps} steps: {self.state.counts}")

    def _wait(self, until: float | None) -> None:
        times = [*self.ends_at.values(), self.now + 60.0]
        if until is not None:
            times.append(until)
        self.now = max(self.now + 0.001, min(times))

    def _write(self, event: ev.Event) -> None:
        before = {job: record.state for job, record in self.state.jobs.items()}
        self.state.apply(event)
        self.events.append(event)
        self._check(event, before)

    def _open(self) -> None:
        for event in opening(self.plan, self.state, self.now, max_parallel=self.max_parallel):
            self._write(event)
        self.memory = StartMemory()

    def _start(self) -> float | None:
        self.state.release_delayed(self.now)
        while True:
            decision = decide(self.state, self.table, self.requests, self.policy, self.memory, self.now)
            if not isinstance(decision, Start):
                return decision.until
            record = decision.job
            assert len(self.state.active) < self.state.max_parallel
            assert record.job_id not in self.state.active
            self.table = decision.table
            placement = decision.placement.to_json()
            attempt = record.attempts + 1
            self._write(ev.AttemptSubmitted(t=self.now, job=record.job_id, attempt=attempt, placement=placement))
            self._begin(record)

    def _begin(self, record: JobRecord) -> None:
        job = record.job_id
        if self.random.random() < self.chances.not_started:
            self._over(record, None, NOT_STARTED)
            return
        self._write(ev.AttemptStarted(t=self.now, job=job, attempt=record.attempts, handle={"pid": 1}))
        hangs = self.random.random() < self.chances.hang
        self.ends_at[job] = self.now + (1e9 if hangs else self.random.uniform(0.0, 90.0))

    def _end_attempts(self) -> None:
        for job, at in list(self.ends_at.items()):
            if at <= self.now:
                self._end_one(self.state.jobs[job])

    def _end_one(self, record: JobRecord) -> None:
        luck = self.random.random()
        if isinstance(record.state, Stopping):
            cause = TIMEOUT if record.state.reason == "timeout" else CAUSE
            self._over(record, {"exit_code": None, "signal": 15}, cause)
        elif luck < self.chances.fail:
            self._over(record, {"exit_code": 1}, CAUSE)
        elif luck < self.chances.fail + self.chances.oom:
            self._over(record, {"exit_code": 1}, OOM)
        else:
            self._over(record, {"exit_code": 0}, None)

    def _over(self, record: JobRecord, exit_record: dict[str, Any] | None, cause: FailureCause | None) -> None:
        state = record.state
        assert isinstance(state, ACTIVE)
        self.ends_at.pop(record.job_id, None)
        self.table = self.table.release(Placement.from_json(state.placement))
        event = judge(
            record,
            t=self.now,
            duration_s=1.0,
            exit_record=exit_record,
            cause=cause,
            completed=False,
            policy=self.policy,
        )
        self._write(event)

    def _supervise(self) -> None:
        for record in list(self.state.active.values()):
            reason = overdue(record, self.policy, self.now, None)
            if reason is not None:
                self._stop(record, reason)

    def _stop(self, record: JobRecord, reason: Any) -> None:
        if not isinstance(record.state, Stopping):
            self._write(ev.StopRequested(t=self.now, job=record.job_id, attempt=record.attempts, reason=reason))
            self.ends_at[record.job_id] = self.now + self.random.uniform(0.0, 5.0)

    # ---- what comes from outside ---------------------------------------------------------------------------

    def _somebody_asks(self) -> None:
        action = self.random.choice(["cancel", "retry", "pause", "parallel", "interrupt"])
        record = self.random.choice(list(self.state.jobs.values()))
        if action == "cancel" and isinstance(record.state, ACTIVE):
            self._stop(record, "cancelled")
        elif action == "cancel" and isinstance(record.state, Waiting):
            self._write(ev.JobCancelled(t=self.now, job=record.job_id))
        elif action == "retry" and isinstance(record.state, ENDED) and not isinstance(record.state, Succeeded):
            self.requeued.add(record.job_id)
            self._write(ev.JobRequeued(t=self.now, job=record.job_id))
        elif action == "pause":
            self._write(ev.PaceChanged(t=self.now, paused=not self.state.paused))
            if self.state.paused:
                self._write(ev.PaceChanged(t=self.now, paused=False))
        elif action == "parallel":
            self._write(ev.PaceChanged(t=self.now, max_parallel=self.random.randint(1, 2 * self.max_parallel)))
        elif action == "interrupt" and self.random.random() < 0.1:
            for active in list(self.state.active.values()):
                self._stop(active, "shutdown")
            self._write(ev.RunDraining(t=self.now, reason="terminated"))

    def _killed(self) -> None:
        """The runner is killed and started again: all it knows is what its journal says."""
        before = essence(self.state)
        self.events = [ev.decode(ev.encode(event)) for event in self.events]
        self.state = replay(self.events, "journal")
        check_consistency(self.state)
        assert set(essence(self.state)["jobs"]) == set(before["jobs"])
        assert essence(self.state)["counts"] == before["counts"]
        self.now += self.random.uniform(0.0, 100.0)
        occupants = [
            Occupant(job=job, placement=Placement.from_json(record.state.placement))
            for job, record in self.state.active.items()
            if isinstance(record.state, ACTIVE)
        ]
        self.table = self.table.setup.table(self.snapshot, occupants)
        self._open()
        for job in [job for job, at in self.ends_at.items() if at <= self.now]:
            if self.random.random() < self.chances.unseen:
                self._over(self.state.jobs[job], None, LOST)

    # ---- what must hold after every event ------------------------------------------------------------------

    def _check(self, event: ev.Event, before: dict[str, Any]) -> None:
        check_consistency(self.state)
        if isinstance(event, ev.AttemptSubmitted):
            assert isinstance(before[event.job], Waiting), "only what waits is started"
            assert before[event.job].not_before <= self.now, "not before its time"
            assert self.state.jobs[event.job].attempts == event.attempt
        for job, state in before.items():
            if isinstance(state, Succeeded):
                assert self.state.jobs[job].state is state, "what succeeded is never touched again"
            if isinstance(state, Failed) and not isinstance(event, ev.JobRequeued):
                assert self.state.jobs[job].state is state

    def check_end(self) -> None:
        """Nothing lost, nothing twice, retries bounded."""
        planned = {job.job_id for job in self.plan.jobs}
        assert set(self.state.jobs) == planned
        ends: dict[str, list[str]] = {job: [] for job in planned}
        submitted: dict[str, int] = dict.fromkeys(planned, 0)
        for event in self.events:
            if isinstance(event, ev.AttemptSubmitted):
                submitted[event.job] += 1
                assert event.attempt == submitted[event.job], "attempts are numbered without a gap"
            elif isinstance(event, ev.AttemptEnded):
                ends[event.job].append(event.verdict)
        for job, verdicts in ends.items():
            assert len(verdicts) == submitted[job], "every attempt ended once"
            assert verdicts.count("succeeded") == isinstance(self.state.jobs[job].state, Succeeded)
            if job not in self.requeued:
                assert verdicts.count("retry") <= max(self.policy.max_retries, MAX_OOM_RETRIES) + MAX_OOM_RETRIES
                assert verdicts.count("failed") <= 1
        if self.state.draining is None:
            assert all(isinstance(record.state, ENDED) for record in self.state.jobs.values())
