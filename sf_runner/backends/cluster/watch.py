"""Watching and ending the jobs of a cluster: one list command per interval for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from sf_runner.backends.cluster.answers import AnswerError, ClusterJob
from sf_runner.backends.cluster.calls import CallResult, Commands, Pause
from sf_runner.backends.cluster.checked import CheckedCluster
from sf_runner.backends.cluster.jobs import ClusterAttempt, ClusterJobs
from sf_runner.basics.clock import SYSTEM_CLOCK, steady_s
from sf_runner.basics.said import Said

_DAY_S = 86400.0
_MISSES = 3
"""So many lists in a row that do not show a job mean that it is gone."""
_KILL_AGAIN_S = 60.0
_MAX_IDS_PER_KILL = 50


class ClusterWatch:
    """prefix: how the names of the run's jobs begin. since: unix time before which none of them was submitted."""

    def __init__(
        self, cluster: CheckedCluster, commands: Commands, jobs: ClusterJobs, *, prefix: str, since: float
    ) -> None:
        self._cluster = cluster
        self._commands = commands
        self._jobs = jobs
        self._prefix = prefix
        self._since = since
        name = cluster.name
        self._pause = Pause(f"{name} cannot be asked", f"{name} answers again", cluster.retry_s, jobs.tell)
        self._said = Said()
        self._listing = False
        self._listed_at = float("-inf")
        self._asked = self._kills = 0

    def poll(self, now: float) -> None:
        """Start the commands that are due."""
        if now < self._pause.until:
            return
        due = self._list_due()
        if due is not None and now >= due:
            self._ask_for_list(now)
        self._kill(now)

    def next_wake(self) -> float | None:
        times = [self._list_due()]
        if self._kills < self._cluster.parallel_calls:
            times += [attempt.kill_at for attempt in self._jobs.attempts.values() if attempt.to_kill]
        until = [t for t in times if t is not None]
        return max(min(until), self._pause.until) if until else None

    # ---- the list ------------------------------------------------------------------------------------------

    def _list_due(self) -> float | None:
        """When the list should be asked for; None: it is being, or there is nothing to learn."""
        if self._listing:
            return None
        due = []
        for attempt in self._jobs.in_phase("known", "lookup"):
            if attempt.phase == "known":
                due.append(self._listed_at + self._cluster.poll_s)
            else:
                first = attempt.unsure_since
                due.append(first if self._listed_at < first else first + self._cluster.settle_s)
        return min(due, default=None)

    def _ask_for_list(self, now: float) -> None:
        days = int((SYSTEM_CLOCK.wall() - self._since) / _DAY_S) + 2
        try:
            self._commands.start(self._cluster.list(self._prefix, days), self._take_list)
            self._listing = True
        except AnswerError as exc:
            self._pause.failed(now, str(exc))

    def _take_list(self, result: CallResult) -> None:
        now = steady_s()
        self._listing = False
        self._listed_at = result.began
        if not result.ok:
            self._pause.failed(now, result.said)
            return
        try:
            jobs = self._cluster.read_jobs(result.output)
        except AnswerError as exc:
            self._pause.failed(now, f"the list cannot be read: {exc}")
            return
        self._pause.answered()
        by_id = {job.id: job for job in jobs}
        by_name = {job.name: job for job in reversed(jobs)}
        for attempt in self._jobs.in_phase("known", "lookup"):
            if attempt.phase == "lookup" and result.began >= attempt.unsure_since:
                self._look_up(attempt, by_name, result.began)
            if attempt.phase == "known":
                job = by_id.get(attempt.id)
                if job is not None:
                    self._observe(attempt, job)
                elif result.began >= attempt.known_since:
                    self._not_listed(attempt, now)

    def _look_up(self, attempt: ClusterAttempt, by_name: Mapping[str, ClusterJob], began: float) -> None:
        found = next((by_name[name] for name in attempt.names if name in by_name), None)
        if found is not None:
            self._jobs.found(attempt, found.id)
        elif began >= attempt.unsure_since + self._cluster.settle_s:
            self._jobs.absent(attempt)

    def _not_listed(self, attempt: ClusterAttempt, now: float) -> None:
        """The list may be limited to what is recent."""
        attempt.missing_since = attempt.missing_since or now
        try:
            command = self._cluster.info(attempt.id)
        except AnswerError as exc:  # says nothing of the job
            self._pause.failed(now, str(exc))
            return
        if command is None:
            self._missed(attempt, now)
        elif not attempt.asking and self._asked < self._cluster.parallel_calls:
            attempt.asking = True
            self._asked += 1
            self._commands.start(command, partial(self._take_one, attempt))

    def _take_one(self, attempt: ClusterAttempt, result: CallResult) -> None:
        now = steady_s()
        attempt.asking = False
        self._asked -= 1
        if not self._jobs.has(attempt):
            return
        if result.passes(self._cluster.transient):
            self._pause.failed(now, result.said)
            return
        try:
            job = next(iter(self._cluster.read_jobs(result.output)), None) if result.ok else None
        except AnswerError as exc:  # says nothing of the job: taken for gone, it could run twice
            self._pause.failed(now, f"the answer about a job cannot be read: {exc}")
            return
        if job is not None and job.id == attempt.id:
            self._observe(attempt, job)
        else:
            self._missed(attempt, now)

    def _missed(self, attempt: ClusterAttempt, now: float) -> None:
        attempt.misses += 1
        waited_s = now - attempt.missing_since
        if attempt.misses >= _MISSES and waited_s >= self._cluster.settle_s and attempt.ending is None:
            attempt.last_seen = ClusterJob(id=attempt.id, name="", state="")
            attempt.ending = "lost"

    def _observe(self, attempt: ClusterAttempt, job: ClusterJob) -> None:
        """What the cluster says of a job whose id is known."""
        attempt.misses, attempt.missing_since = 0, 0.0
        state = self._cluster.states.get(job.state)
        if attempt.ending is not None and state == "cancelled":  # by us
            self._jobs.ended(attempt, attempt.ending)
            return
        attempt.last_seen = job
        if state is None:
            if self._said.first(job.state):
                what = f"a state '{job.state}' that is not in its table of states"
                self._jobs.tell(f"{self._cluster.name} speaks of {what}; such jobs are waited for")
        elif state == "running":
            self._jobs.started(attempt, job.started or SYSTEM_CLOCK.wall())
        elif state in ("preempted", "lost"):
            attempt.ending = attempt.ending or state
        elif state != "queued":
            self._jobs.ended(attempt, state)

    # ---- ending jobs ---------------------------------------------------------------------------------------

    def _kill(self, now: float) -> None:
        wanted = [attempt for attempt in self._jobs.attempts.values() if attempt.to_kill and now >= attempt.kill_at]
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
            self._commands.start(argv, partial(self._killed, group))
            self._kills += 1
            for attempt in group:
                attempt.killing = True

    def _killed(self, group: Sequence[ClusterAttempt], result: CallResult) -> None:
        now = steady_s()
        self._kills -= 1
        live = [attempt for attempt in group if self._jobs.has(attempt)]
        for attempt in live:
            attempt.killing = False
        if result.passes(self._cluster.transient):
            self._pause.failed(now, result.said)
        elif not result.ok and len(live) > 1:  # one that has just ended must not keep the others alive
            for attempt in live:
                attempt.kill_alone, attempt.kill_at = True, now
        else:
            for attempt in live:
                attempt.kill_at = now + _KILL_AGAIN_S
                if attempt.ending is not None:
                    self._jobs.ended(attempt, attempt.ending)
                elif not result.ok:
                    self._not_killed([attempt], result.said, now)

    def _not_killed(self, group: Sequence[ClusterAttempt], why: str, now: float) -> None:
        for attempt in group:
            attempt.kill_at = now + _KILL_AGAIN_S
            if not attempt.kill_failed:
                attempt.kill_failed = True
                self._jobs.tell(f"cannot be cancelled: {why}; trying again every minute", attempt.job)
