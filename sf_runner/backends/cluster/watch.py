"""Watching and ending the jobs of a cluster: one list command per interval for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from sf_runner.backends.base import Remark, Report
from sf_runner.backends.cluster.answers import AnswerError, ClusterJob
from sf_runner.backends.cluster.api import JobState
from sf_runner.backends.cluster.calls import CallResult, Calls
from sf_runner.backends.cluster.checked import CheckedCluster
from sf_runner.backends.cluster.jobs import ENDINGS, ClusterAttempt, ended
from sf_runner.backends.cluster.names import run_prefix
from sf_runner.backends.cluster.retry import Retry
from sf_runner.basics.clock import SYSTEM_CLOCK, steady_s

_DAY_S = 86400.0
_MISSES = 3
"""So many lists in a row that do not show a job mean that it is gone."""
_KILL_AGAIN_S = 60.0
_MAX_IDS_PER_KILL = 50
_MAX_LOSSES = 5
"""How often a job may be lost in a row before it is taken to be at fault itself."""


class ClusterWatch:
    """Reads and changes `attempts`, adds to `reports`; both are the backend's.

    on_found: a job was found by its name. on_absent: it is certain that there is none of that name.
    """

    def __init__(
        self,
        run_id: str,
        cluster: CheckedCluster,
        calls: Calls,
        retry: Retry,
        attempts: dict[str, ClusterAttempt],
        reports: list[Report],
        *,
        since: float,
    ) -> None:
        self._prefix = run_prefix(run_id)
        self._cluster = cluster
        self._calls = calls
        self._retry = retry
        self._attempts = attempts
        self._reports = reports
        self._since = since
        self._listing = False
        self._listed_at = float("-inf")
        self._asked = self._kills = 0
        self._unmapped: set[str] = set()
        self._losses: dict[str, int] = {}
        self.on_found: Callable[[ClusterAttempt, str], None] = lambda attempt, job_id: None
        self.on_absent: Callable[[ClusterAttempt], None] = lambda attempt: None

    def poll(self, now: float) -> None:
        """Start the commands that are due."""
        if self._retry.waits(now):
            return
        due = self._list_due()
        if due is not None and now >= due:
            self._ask_for_list(now)
        self._kill(now)

    def next_wake(self, now: float) -> float | None:
        times = [self._list_due()]
        if self._kills < self._cluster.parallel_calls:
            times += [attempt.kill_at for attempt in self._attempts.values() if attempt.to_kill]
        until = [t for t in times if t is not None]
        return max(min(until), self._retry.until) if until else None

    # ---- the list ------------------------------------------------------------------------------------------

    def _list_due(self) -> float | None:
        """When the list should be asked for; None: it is being, or there is nothing to learn."""
        if self._listing:
            return None
        due = []
        for attempt in self._attempts.values():
            if attempt.phase == "known":
                due.append(self._listed_at + self._cluster.poll_s)
            elif attempt.phase == "lookup":
                first = attempt.unsure_since
                due.append(first if self._listed_at < first else first + self._cluster.settle_s)
        return min(due, default=None)

    def _ask_for_list(self, now: float) -> None:
        days = int((SYSTEM_CLOCK.wall() - self._since) / _DAY_S) + 2
        try:
            argv = self._cluster.list(self._prefix, days)
        except AnswerError as exc:
            self._retry.failed(now, str(exc))
            return
        self._listing = self._started(argv, self._take_list)

    def _take_list(self, result: CallResult) -> None:
        now = steady_s()
        self._listing = False
        self._listed_at = result.began
        try:
            jobs = self._cluster.read_jobs(result.output) if result.ok else None
        except AnswerError as exc:
            jobs = None
            result = CallResult(code=1, output="", errors=f"the list cannot be read: {exc}", began=result.began)
        if jobs is None:
            self._retry.failed(now, result.said)
            return
        self._retry.answered()
        by_id = {job.id: job for job in jobs}
        by_name = {job.name: job for job in reversed(jobs)}
        for attempt in list(self._attempts.values()):
            if attempt.phase == "lookup" and result.began >= attempt.unsure_since:
                self._look_up(attempt, by_name, result.began)
            if attempt.phase == "known" and (attempt.id in by_id or result.began >= attempt.known_since):
                self._update(attempt, by_id.get(attempt.id), now)

    def _look_up(self, attempt: ClusterAttempt, by_name: Mapping[str, ClusterJob], began: float) -> None:
        found = next((by_name[name] for name in attempt.names if name in by_name), None)
        if found is not None:
            self.on_found(attempt, found.id)
        elif began >= attempt.unsure_since + self._cluster.settle_s:
            self.on_absent(attempt)

    def _update(self, attempt: ClusterAttempt, job: ClusterJob | None, now: float) -> None:
        if job is not None:
            attempt.misses, attempt.missing_since = 0, None
            self._observe(attempt, job)
            return
        if attempt.missing_since is None:
            attempt.missing_since = now
        try:
            command = self._cluster.info(attempt.id)
        except AnswerError as exc:  # says nothing of the job
            self._retry.failed(now, str(exc))
            return
        if command is not None:
            self._ask_for_one(attempt, command)
        else:
            self._missed(attempt, now)

    def _ask_for_one(self, attempt: ClusterAttempt, command: Sequence[str]) -> None:
        """The list may be limited to what is recent."""
        if not attempt.asking and self._asked < self._cluster.parallel_calls:
            attempt.asking = self._started(command, partial(self._take_one, attempt))
            self._asked += attempt.asking

    def _take_one(self, attempt: ClusterAttempt, result: CallResult) -> None:
        now = steady_s()
        attempt.asking = False
        self._asked -= 1
        if self._attempts.get(attempt.job) is not attempt:
            return
        try:
            job = next(iter(self._cluster.read_jobs(result.output)), None) if result.ok else None
        except AnswerError as exc:  # says nothing of the job: taken for gone, it could run twice
            self._retry.failed(now, f"the answer about a job cannot be read: {exc}")
            return
        if job is not None and job.id == attempt.id:
            attempt.misses, attempt.missing_since = 0, None
            self._observe(attempt, job)
        elif result.code is None or (not result.ok and self._cluster.transient.search(result.text)):
            self._retry.failed(now, result.said)
        else:
            self._missed(attempt, now)

    def _missed(self, attempt: ClusterAttempt, now: float) -> None:
        attempt.misses += 1
        since = attempt.missing_since if attempt.missing_since is not None else now
        if attempt.misses >= _MISSES and now - since >= self._cluster.settle_s and attempt.ending is None:
            attempt.last_seen = None
            attempt.ending = "lost"

    def _observe(self, attempt: ClusterAttempt, job: ClusterJob) -> None:
        """What the list says of a job whose id is known."""
        state = self._cluster.states.get(job.state)
        if attempt.ending is not None and state == "cancelled":  # by us
            self._end(attempt, attempt.ending)
            return
        attempt.last_seen = job
        if state is None:
            self._tell_unmapped(job.state)
        elif state == "running" and not attempt.started:
            self._reports.append(attempt.start(self._cluster.name, job.started or SYSTEM_CLOCK.wall()))
        elif state in ENDINGS:
            attempt.ending = attempt.ending or state
        elif state not in ("queued", "running"):
            self._end(attempt, state)

    def _tell_unmapped(self, state: str) -> None:
        if state not in self._unmapped:
            self._unmapped.add(state)
            name = self._cluster.name
            text = f"{name} speaks of a state '{state}' that is not in its table of states; such jobs are waited for"
            self._reports.append(Remark(text=text))

    def _end(self, attempt: ClusterAttempt, state: JobState) -> None:
        losses = self._losses.get(attempt.job, 0) + 1 if state == "lost" else 0
        self._losses[attempt.job] = losses
        report = ended(attempt, state, self._cluster.name, SYSTEM_CLOCK.wall(), give_up=losses > _MAX_LOSSES)
        if not attempt.started:
            job = attempt.last_seen
            started = job.started if job is not None and job.started is not None else report.t
            self._reports.append(attempt.start(self._cluster.name, min(started, report.t)))
        del self._attempts[attempt.job]
        self._reports.append(report)

    # ---- ending jobs ---------------------------------------------------------------------------------------

    def _kill(self, now: float) -> None:
        wanted = [attempt for attempt in self._attempts.values() if attempt.to_kill and now >= attempt.kill_at]
        several = self._cluster.kills_together
        together = [attempt for attempt in wanted if several and not attempt.kill_alone]
        groups = [together[at : at + _MAX_IDS_PER_KILL] for at in range(0, len(together), _MAX_IDS_PER_KILL)]
        groups += [[attempt] for attempt in wanted if not several or attempt.kill_alone]
        for group in groups:
            if self._kills >= self._cluster.parallel_calls:
                return
            try:
                argv = self._cluster.kill([attempt.id for attempt in group])
            except AnswerError as exc:
                self._not_killed(group, str(exc), now)
                continue
            if self._started(argv, partial(self._killed, group)):
                self._kills += 1
                for attempt in group:
                    attempt.killing = True

    def _killed(self, group: Iterable[ClusterAttempt], result: CallResult) -> None:
        now = steady_s()
        self._kills -= 1
        live = [attempt for attempt in group if self._attempts.get(attempt.job) is attempt]
        if result.code is None or (not result.ok and self._cluster.transient.search(result.text)):
            self._retry.failed(now, result.said)
            for attempt in live:
                attempt.killing = False
            return
        for attempt in live:
            attempt.killing = False
            attempt.kill_at = now + _KILL_AGAIN_S
            if not result.ok and len(live) > 1:  # one that has just ended must not keep the others alive
                attempt.kill_alone, attempt.kill_at = True, now
            elif attempt.ending is not None:
                self._end(attempt, attempt.ending)
            elif not result.ok:
                self._not_killed([attempt], result.said, now)

    def _not_killed(self, group: Iterable[ClusterAttempt], why: str, now: float) -> None:
        for attempt in group:
            attempt.kill_at = now + _KILL_AGAIN_S
            if not attempt.kill_failed:
                attempt.kill_failed = True
                text = f"cannot be cancelled: {why}; trying again every minute"
                self._reports.append(Remark(text=text, job=attempt.job))

    def _started(self, argv: Sequence[str], then: Callable[[CallResult], None]) -> bool:
        try:
            self._calls.start(argv, then, {})
        except OSError as exc:
            self._retry.failed(steady_s(), f"cannot start '{argv[0]}': {exc.strerror}")
            return False
        return True
