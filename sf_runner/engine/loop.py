"""The run loop: hear what happened, write it down, decide, act, wait. One step of it reads as a checklist."""

from __future__ import annotations

import selectors
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sf_runner.backends.base import Backend, Bounded, Report
from sf_runner.basics.clock import SYSTEM_CLOCK, Clock
from sf_runner.basics.requests import Request, take
from sf_runner.describe.plan import Job
from sf_runner.engine.asked import Refusal, cancel, change_pace, retry
from sf_runner.engine.clock_news import look_at_clock
from sf_runner.engine.launching import LaunchBuilder
from sf_runner.engine.notify import Notifier
from sf_runner.engine.outbox import Outbox
from sf_runner.engine.outcomes import record_reports
from sf_runner.engine.scheduler import Hold, Policy, StartMemory, breaker_tripped, decide, overdue
from sf_runner.engine.screen import RunView, Screen
from sf_runner.engine.silence import Silence
from sf_runner.engine.slot_manager import SlotManager
from sf_runner.linux.lifeline import Lifeline
from sf_runner.linux.signals import SignalInbox
from sf_runner.slots.types import SlotRequest
from sf_runner.state import events as ev
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import JobRecord, Running, Stopping, StopReason
from sf_runner.store.journal import Journal

_TICK_S = 0.5
_SYNC_S = 1.0
_SUPERVISE_S = 1.0
_ABSENT_S = 2 * _SUPERVISE_S

Ending = Literal["finished", "drained", "detached"]


@dataclass(frozen=True, kw_only=True)
class LoopEnd:
    """Why the loop ended. `interrupted_by`: the last signal that asked for an end."""

    ending: Ending
    interrupted_by: int | None = None


@dataclass(kw_only=True)
class RunLoop:
    """Runs a plan to its end. The caller holds the run's lock and has replayed and reconciled the journal.

    is_lost: whether another runner holds the run now.
    """

    jobs: Mapping[str, Job]
    state: RunState
    journal: Journal
    backend: Backend
    slots: SlotManager
    requests: Mapping[str, SlotRequest]
    launches: LaunchBuilder
    policy: Policy
    screen: Screen
    signals: SignalInbox
    lifeline: Lifeline | None = None
    notifier: Notifier | None = None
    leave_when_submitted: bool = False
    clock: Clock = SYSTEM_CLOCK
    is_lost: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self._bounded = self.backend if isinstance(self.backend, Bounded) else None
        self._memory = StartMemory()
        self._news: list[ev.Event] = []
        self._outbox = Outbox(self.backend, self.policy.grace_s)
        self._hold = Hold(why="nothing_ready")
        # Of the steady clock, as all intervals of this process; `now` is unix time, the scale of the journal.
        self._synced_at = self._supervised_at = self._ticked_at = float("-inf")
        self._silence = Silence(max(_ABSENT_S, (self.policy.stall_timeout_s or 0) / 2))
        self._interrupts = 0
        self._detach = False
        self._line_rang = True
        """Whether the lifeline may have something to say; it is not asked at every step."""
        self._interrupted_by: int | None = None

    def run(self, adopted: Sequence[Report], news: Sequence[ev.Event] = ()) -> LoopEnd:
        """Until every job ended, or nothing is started any more and nothing runs, or it was told to let go.

        `adopted`: what the backend found of earlier attempts. `news`: events already written, to be shown.
        """
        with selectors.DefaultSelector() as selector:
            lifeline = (self.lifeline.fd,) if self.lifeline is not None else ()
            for fd in (self.signals.fd, *lifeline, *self.backend.fds(), *self.screen.fds()):
                selector.register(fd, selectors.EVENT_READ)
            self.screen.start(self.view())
            self._news.extend(news)
            self._take_reports(adopted)
            self._go_on_stopping()
            while True:
                self._step()
                if self._detach:
                    return LoopEnd(ending="detached", interrupted_by=self._interrupted_by)
                if not self.state.active and not self._outbox.starts and not self.journal.trouble:
                    if self.state.finished:
                        return LoopEnd(ending="finished", interrupted_by=self._interrupted_by)
                    if self.state.draining is not None:
                        return LoopEnd(ending="drained", interrupted_by=self._interrupted_by)
                ready = selector.select(self._timeout())
                self._line_rang = any(key.fd in lifeline for key, _ in ready)

    def _step(self) -> None:
        self._look_at_clock()
        now, steady = self.clock.wall(), self.clock.steady()
        self._take_signals(now)
        if self._line_rang and self.lifeline is not None and self.lifeline.is_cut():
            self._detach_now(now)
        self._take_reports(self.backend.poll(steady))
        self._look_at_slots(now, steady)
        self._take_requests(now, steady)
        self._supervise(now, steady)
        self._check_breaker(now)
        self._choose_starts(now)
        self._notify()
        self._commit(steady)
        self._leave(now)
        news, self._news = self._news, []
        self.screen.update(news, self.view())

    def stop_screen(self) -> None:
        self.screen.stop(self.view())

    def view(self) -> RunView:
        trouble = self.journal.trouble
        return RunView(
            now=self.clock.wall(),
            steady=self.clock.steady(),
            state=self.state,
            gpus=self.slots.snapshot,
            hold=self._hold.text,
            trouble=f"cannot write {self.journal.path}: {trouble}; nothing is started until it can" if trouble else "",
        )

    def _emit(self, event: ev.Event) -> None:
        self.journal.append((event,))
        self.state.apply(event)
        self._news.append(event)

    def _note(self, text: str, job: str = "", level: Literal["info", "warning", "error"] = "warning") -> None:
        self._emit(ev.Note(t=self.clock.wall(), text=text, job=job, level=level))

    # ---- what happened -------------------------------------------------------------------------------------

    def _look_at_clock(self) -> None:
        """First of all in a step: where the clock was set, what the journal knows of times is put right."""
        opened = self.state.opened
        jump, news = look_at_clock(self.clock, local=opened is None or bool(opened.local))
        for event in news:
            self._emit(event)
        if news:
            self._memory.last_start += jump.set_s

    def _take_reports(self, reports: Sequence[Report]) -> None:
        now = self.clock.wall()
        record_reports(reports, self.state.jobs, self.launches.paths, self.policy, self._emit_reported, now=now)

    def _emit_reported(self, event: ev.Event) -> None:
        if isinstance(event, ev.AttemptEnded | ev.AttemptWithdrawn):
            peak = self.slots.freed(event.job, self.clock.steady())
            if peak is not None and isinstance(event, ev.AttemptEnded):
                event = replace(event, gpu_peak_mb=peak)
        self._emit(event)

    def _take_signals(self, now: float) -> None:
        for signum in self.signals.take():
            if signum == signal.SIGHUP:
                self._detach_now(now)
                continue
            self._interrupted_by = signum
            self._interrupts += 1
            if signum == signal.SIGTERM and self._interrupts == 1:
                self._interrupts = 2
            self._wind_down(now, self._interrupts)

    def _wind_down(self, now: float, level: int) -> None:
        """1: nothing is started any more; 2: running jobs are told to end; 3: they are killed."""
        reason: ev.DrainReason = "interrupted" if level == 1 else "terminated" if level == 2 else "killed"
        if self.state.draining is None or self.state.draining.reason != reason:
            self._emit(ev.RunDraining(t=now, reason=reason))
        self._take_back(leaving=False)
        if level >= 2:
            for record in list(self.state.active.values()):
                self._stop(record, "shutdown", now, kill=level >= 3)

    def _detach_now(self, now: float) -> None:
        self._take_back(leaving=True)
        self._emit(ev.RunDraining(t=now, reason="detached"))
        self._detach = True

    def _take_back(self, *, leaving: bool) -> None:
        """What was submitted and did not get to where it could run does not run, and is not waited for."""
        if self._bounded is not None:
            self._take_reports(self._bounded.give_back(leaving=leaving))

    def _take_requests(self, now: float, steady: float) -> None:
        for request in self.screen.requests():
            if isinstance(text := self._obey(request, now), Refusal):
                self._note(text)
        if steady - self._ticked_at >= _TICK_S and not self.journal.given_up:
            self._ticked_at = steady
            for request in take(self.launches.run_paths.requests_dir):
                self._outbox.answer(request, self._obey(request, now))

    def _look_at_slots(self, now: float, steady: float) -> None:
        warnings, lost = self.slots.refresh(steady)
        for text in warnings:
            self._note(text)
        for job in lost:
            record = self.state.jobs[job]
            if not isinstance(record.state, Stopping):
                self._note("its GPU was lost; it is ended and will be started again elsewhere", job)
                self._stop(record, "slot_lost", now)

    def _notify(self) -> None:
        if self.notifier is not None:
            for text in self.notifier.took(self._news, self.state):
                self._note(text)

    # ---- what people ask for -------------------------------------------------------------------------------

    def _obey(self, request: Request, now: float) -> str:
        """Do it; what was done, in one line."""
        if request.action in ("cancel", "kill"):
            active, events, text = cancel(request, self.state, now)
            for record in active:
                self._stop(record, "cancelled", now, kill=request.action == "kill")
            for event in events:
                self._emit(event)
            return text
        if request.action in ("retry", "pause", "resume", "parallel"):
            follow = retry if request.action == "retry" else change_pace
            events, text = follow(request, self.state, now)
            for event in events:
                self._emit(event)
            if request.action == "parallel" and events:
                self.backend.set_parallel(self.state.max_parallel)
            return text
        if request.action == "detach":
            self._detach_now(now)
            return "the runner lets go; running jobs go on"
        self._wind_down(now, 1 if request.action == "drain" else 2)
        return "nothing is started any more" if request.action == "drain" else "the run is being ended"

    # ---- supervision ---------------------------------------------------------------------------------------

    def _supervise(self, now: float, steady: float) -> None:
        if steady - self._supervised_at < _SUPERVISE_S:
            return
        self._supervised_at = steady
        if self.is_lost() and not self.journal.given_up:
            self._give_way(now)
        records = list(self.state.active.values())
        silent_s: Mapping[str, float] = {}
        if self.policy.stall_timeout_s:
            running = (record for record in records if isinstance(record.state, Running))
            silent_s = self._silence.look(((r.job_id, r.attempts, self.launches.paths(r)) for r in running), steady)
        for record in records:
            reason = overdue(record, self.policy, now, silent_s.get(record.job_id))
            if reason is not None:
                self._stop(record, reason, now)

    def _give_way(self, now: float) -> None:
        """Another runner starts again what runs here, so that has to end. The journal is that one's."""
        self.journal.give_up()
        self._note("another runner has taken over this run; this one ends, and so do its experiments", level="error")
        self._wind_down(now, 2)

    def _stop(self, record: JobRecord, reason: StopReason, now: float, *, kill: bool = False) -> None:
        state = record.state
        if not isinstance(state, Stopping):
            self._emit(ev.StopRequested(t=now, job=record.job_id, attempt=record.attempts, reason=reason))
        self._outbox.stop(record.job_id, kill=kill)

    def _check_breaker(self, now: float) -> None:
        if self.state.draining is None and (why := breaker_tripped(self.state, self.policy)):
            self._note(f"no further experiment is started: {why}", level="error")
            self._emit(ev.RunDraining(t=now, reason="max_failures"))
            self._take_back(leaving=False)

    def _go_on_stopping(self) -> None:
        """What an earlier runner was ending: it may have been killed before it could ask for it."""
        for record in self.state.active.values():
            if isinstance(record.state, Stopping):
                self.backend.stop(record.job_id, "terminate", self.policy.grace_s)

    # ---- starting ------------------------------------------------------------------------------------------

    def _choose_starts(self, now: float) -> None:
        if self._detach:
            return
        self.state.release_delayed(now)
        room = self._bounded.room() if self._bounded is not None and self.state.draining is None else None
        begun = len(self._outbox.starts)
        while not self.journal.trouble:
            if room is not None and len(self._outbox.starts) - begun >= room.number and self.state.ready():
                self._hold = Hold(why="full", until=now + room.wait_s, words=room.why)
                break
            decision = decide(self.state, self.slots.table, self.requests, self.policy, self._memory, now)
            if isinstance(decision, Hold):
                self._hold = decision
                break
            record = decision.job
            self.slots.taken(record, decision.placement, decision.table)
            self._outbox.starts.append(decision)
            self._emit(
                ev.AttemptSubmitted(
                    t=now,
                    job=record.job_id,
                    attempt=record.attempts + 1,
                    placement=decision.placement.to_json(),
                )
            )
        self._give_up_if_stuck(now)

    def _give_up_if_stuck(self, now: float) -> None:
        """Nothing runs, and what waits can never be placed: say so instead of waiting for ever."""
        hold = self._hold
        if hold.why != "no_room" or self.state.active or self.state.draining or self.slots.waiting_for_memory:
            return
        if hold.until is not None:  # another waits for its retry
            return
        if all(refusal.kind in ("never", "lost") for refusal in hold.reasons):
            self._note(f"no waiting experiment can be placed: {hold.reasons[0].reason}", level="error")
            self._emit(ev.RunDraining(t=now, reason="max_failures"))

    def _commit(self, steady: float) -> None:
        """Write the events; only then let the backend do what they say, and tell who asked for it."""
        written = self.journal.flush()
        self._outbox.send(self.state, self.journal.trouble)
        if not written:
            return
        for start in self._outbox.starts:
            self.backend.submit(self.launches.launch(self.jobs[start.job.job_id], start.job, start.placement))
        self._outbox.starts.clear()
        if steady - self._synced_at >= _SYNC_S:
            self._synced_at = steady
            self.journal.sync_soon()
            self.journal.cache(self.state)

    def _leave(self, now: float) -> None:
        """Submit and leave: everything that could be submitted has been."""
        if not self.leave_when_submitted or self._outbox.starts:
            return
        waiting = self.state.ready() or self.state.next_delayed_at() is not None
        nothing_more = self.state.draining is not None or not waiting or self._hold.why == "full"
        if nothing_more and self.backend.settled():
            self._detach_now(now)

    def _timeout(self) -> float:
        waits = [_TICK_S]
        if self._hold.until is not None:
            waits.append(self._hold.until - self.clock.wall())
        wake = self.backend.next_wake()
        if wake is not None:
            waits.append(wake - self.clock.steady())
        return max(0.0, min(waits))
