"""Jobs in a cluster that is driven by a command line: NVIDIA's `ngc`, or any other that a class describes (`api.py`).

Nothing here blocks: every command is a process of its own (`calls.py`) whose answer is taken when it has ended.
One list command per interval tells the states of all jobs. A job is never submitted twice: it has a name of its own,
and whenever nobody knows what became of a submission (a crash, an error, an answer without an id) the list is asked
for that name, until it is certain that the cluster does not have it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sf_runner.backends.base import Ended, Known, Launch, NotStarted, Report, StopLevel
from sf_runner.backends.cluster.answers import AnswerError
from sf_runner.backends.cluster.api import Cluster, SubmitRequest
from sf_runner.backends.cluster.calls import CallResult, Calls
from sf_runner.backends.cluster.checked import CheckedCluster
from sf_runner.backends.cluster.ids import IdFile
from sf_runner.backends.cluster.jobs import ClusterAttempt, Refusal
from sf_runner.backends.cluster.names import job_names
from sf_runner.backends.cluster.retry import Retry
from sf_runner.backends.cluster.watch import ClusterWatch
from sf_runner.basics.clock import SYSTEM_CLOCK, steady_s
from sf_runner.basics.errors import BackendError
from sf_runner.linux.exit_record import read_record
from sf_runner.linux.kernel import TAG_VARIABLE
from sf_runner.linux.process_tools import boot_id, is_alive, make_tag, tagged_processes

_LEFT_BEHIND_POLL_S = 0.5
_LOOKS = 2
_USAGE_ERROR = 2
"""What command lines exit with when an option of theirs is wrong."""


class ClusterBackend:
    """Runs attempts as jobs of a cluster.

    request_of: from a launch to what the cluster is asked to submit.
    since: unix time before which no job of the run was submitted.
    """

    def __init__(
        self,
        run_id: str,
        cluster: Cluster,
        request_of: Callable[[Launch], SubmitRequest],
        ids: IdFile,
        *,
        since: float,
    ) -> None:
        checked = CheckedCluster(cluster)
        self.name = cluster.name
        self._run_id = run_id
        self._cluster = checked
        self._request_of = request_of
        self._ids = ids
        self._calls = Calls(cluster.call_timeout_s)
        name = cluster.name
        self._submit_retry = Retry(f"{name} takes no jobs", f"{name} takes jobs again", cluster.retry_s)
        self._ask_retry = Retry(f"{name} cannot be asked", f"{name} answers again", cluster.retry_s)
        self._attempts: dict[str, ClusterAttempt] = {}
        self._reports: list[Report] = []
        self._submitting = 0
        self._left_behind_at = 0.0
        self._detached = False
        self._watch = ClusterWatch(
            run_id, checked, self._calls, self._ask_retry, self._attempts, self._reports, since=since
        )
        self._watch.on_found = self._found
        self._watch.on_absent = self._absent

    # ---- the protocol --------------------------------------------------------------------------------------

    def open(self) -> None:
        self._ids.open()

    def adopt(self, known: Sequence[Known]) -> list[Report]:
        for item in known:
            handle = item.handle
            other = self._ids.other_cluster(item.job, item.attempt)
            if other or (handle is not None and handle.get("cloud") != self._cluster.name):
                self._foreign(item, handle or {"cloud": other})
                continue
            found = str(handle["id"]) if handle is not None else self._ids.get(item.job, item.attempt)
            self._attempts[item.job] = ClusterAttempt(
                job=item.job,
                attempt=item.attempt,
                names=job_names(self._run_id, item.job, item.attempt),
                argv=None,
                log=item.log,
                exit_record=item.exit_record,
                phase="known" if found else "left_behind",
                id=found or "",
                started=handle is not None,
            )
        return self.poll(steady_s())

    def submit(self, launch: Launch) -> None:
        try:
            argv = self._cluster.submit(self._request_of(launch))
        except AnswerError as exc:  # it would fail in the same way again
            error = f"cannot submit it: {exc}"
            self._reports.append(
                NotStarted(job=launch.job, attempt=launch.attempt, t=SYSTEM_CLOCK.wall(), error=error, permanent=True)
            )
            return
        self._attempts[launch.job] = ClusterAttempt(
            job=launch.job,
            attempt=launch.attempt,
            names=job_names(self._run_id, launch.job, launch.attempt),
            argv=argv,
            log=launch.log,
            exit_record=launch.exit_record,
            phase="waiting",
        )

    def stop(self, job: str, level: StopLevel, grace_s: float) -> None:
        """The cluster has one way to end a job; how long it leaves it is the cluster's own affair."""
        attempt = self._attempts.get(job)
        if attempt is None:
            return
        attempt.stop = True
        if attempt.phase == "waiting":
            self._over(attempt)
        elif level == "kill":
            attempt.kill_at = 0.0

    def poll(self, now: float) -> list[Report]:
        self._calls.poll(now)
        self._look_for_left_behind(now)
        self._watch.poll(now)
        self._submit_more(now)
        self._reports += [*self._submit_retry.remarks(), *self._ask_retry.remarks()]
        reports = list(self._reports)
        self._reports.clear()  # in place: the watch has it too
        return reports

    def fds(self) -> Sequence[int]:
        return (self._calls.fd,)

    def set_parallel(self, number: int) -> None:
        """The runner itself submits no more than that."""

    def settled(self) -> bool:
        return all(attempt.phase == "known" for attempt in self._attempts.values())

    def certain(self) -> bool:
        """Whether of every adopted attempt it is known if it is over: the cluster has told its state since."""
        return all(a.phase == "known" and a.last_seen is not None for a in self._attempts.values())

    def next_wake(self) -> float | None:
        now = steady_s()
        times = [self._calls.next_wake(), self._watch.next_wake(now)]
        if self._reports or self._submit_retry.has_remarks or self._ask_retry.has_remarks:
            times.append(now)
        phases = {attempt.phase for attempt in self._attempts.values()}
        if "left_behind" in phases:
            times.append(self._left_behind_at)
        if "waiting" in phases and self._submitting < self._cluster.parallel_calls:
            times.append(self._submit_retry.until)
        return min((t for t in times if t is not None), default=None)

    def close(self, *, detach: bool) -> None:
        self._detached = detach
        if not (detach and self._submitting):
            self._calls.close()

    def outlive_jobs(self) -> None:
        """Until what is being submitted has been, and its ids are on disk: the next start need not look for them."""
        if self._detached and self._submitting:
            self._calls.wait()
            self._calls.close()

    def sessions(self) -> Mapping[int, str]:
        return {}

    # ---- submitting ----------------------------------------------------------------------------------------

    def _submit_more(self, now: float) -> None:
        if self._submit_retry.waits(now):
            return
        for attempt in list(self._attempts.values()):
            if self._submitting >= self._cluster.parallel_calls:
                return
            if attempt.phase == "waiting":
                self._submit_one(attempt)

    def _submit_one(self, attempt: ClusterAttempt) -> None:
        assert attempt.argv is not None
        attempt.make_room()
        # The tag lets a later runner see that the command still runs.
        env = {TAG_VARIABLE: make_tag(self._run_id, attempt.job, attempt.attempt)}
        try:
            self._calls.start(attempt.argv, lambda result: self._submitted(attempt, result), env)
        except OSError as exc:
            program = attempt.argv[0]
            missing = exc.errno in (errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.E2BIG)
            why = f"program '{program}' was not found on PATH" if exc.errno == errno.ENOENT else exc.strerror
            self._refused(attempt, Refusal(error=f"cannot submit it: {why}", permanent=missing))
            return
        attempt.phase = "submitting"
        self._submitting += 1

    def _submitted(self, attempt: ClusterAttempt, result: CallResult) -> None:
        now = steady_s()
        self._submitting -= 1
        attempt.phase, attempt.unsure_since, attempt.refusal = "lookup", now, None
        if result.ok:
            self._submit_retry.answered()
            try:
                self._found(attempt, self._cluster.read_id(result.output))
            except AnswerError as exc:
                error = f"{self._cluster.name} took it, but its answer cannot be read: {exc}"
                attempt.refusal = Refusal(error=error, permanent=True)
        elif result.code == _USAGE_ERROR:
            self._refused(attempt, Refusal(error=self._says(result), permanent=True))
        elif result.code is None or self._cluster.transient.search(result.text):
            self._submit_retry.failed(now, result.said)
        else:
            attempt.refusal = Refusal(error=self._says(result), permanent=False)

    def _says(self, result: CallResult) -> str:
        return f"{self._cluster.name} refused it: {result.said}"

    def _found(self, attempt: ClusterAttempt, job_id: str) -> None:
        """The cluster has it; from now on the list tells of it."""
        attempt.phase, attempt.id, attempt.known_since = "known", job_id, steady_s()
        self._ids.add(attempt.job, attempt.attempt, job_id, attempt.names[0])
        attempt.note(f"{self._cluster.name} job {job_id}, called {attempt.names[0]}")

    def _absent(self, attempt: ClusterAttempt) -> None:
        """It is certain that the cluster does not have it."""
        if attempt.stop or attempt.argv is None:
            self._over(attempt)
        elif attempt.refusal is not None:
            self._refused(attempt, attempt.refusal)
        else:
            attempt.phase = "waiting"

    def _refused(self, attempt: ClusterAttempt, refusal: Refusal) -> None:
        if attempt.stop:
            self._over(attempt)
            return
        del self._attempts[attempt.job]
        self._reports.append(
            NotStarted(
                job=attempt.job,
                attempt=attempt.attempt,
                t=SYSTEM_CLOCK.wall(),
                error=refusal.error,
                permanent=refusal.permanent,
            )
        )

    def _over(self, attempt: ClusterAttempt) -> None:
        """It never ran in the cluster, or (of an earlier runner with another backend) has left its record."""
        del self._attempts[attempt.job]
        record = read_record(attempt.exit_record, attempt.attempt)
        self._reports.append(Ended(job=attempt.job, attempt=attempt.attempt, t=SYSTEM_CLOCK.wall(), record=record))

    # ---- what earlier runners left -------------------------------------------------------------------------

    def _foreign(self, item: Known, handle: Mapping[str, Any]) -> None:
        """An attempt that another backend, or cluster, has. BackendError while it may run: it must not run twice."""
        record = read_record(item.exit_record, item.attempt)
        local = "pid" in handle
        if record is None and (not local or is_alive(handle, boot_id())):
            raise BackendError(
                f"'{item.job}' was started with another --runner or cloud and may still run; go on with that one until "
                "it has ended, or cancel it there"
            )
        self._reports.append(Ended(job=item.job, attempt=item.attempt, t=SYSTEM_CLOCK.wall(), record=record))

    def _look_for_left_behind(self, now: float) -> None:
        """Submissions that an earlier runner had begun: as long as the command runs, nobody knows how it will end."""
        left = [attempt for attempt in self._attempts.values() if attempt.phase == "left_behind"]
        if not left or now < self._left_behind_at:
            return
        self._left_behind_at = now + _LEFT_BEHIND_POLL_S
        tags = {make_tag(self._run_id, attempt.job, attempt.attempt): attempt for attempt in left}
        alive = tagged_processes(tags)
        for tag, attempt in tags.items():
            # A process that is just becoming another program has no environment for a moment: one look is not enough.
            attempt.unseen = 0 if tag in alive else attempt.unseen + 1
            if attempt.unseen == _LOOKS:
                attempt.phase, attempt.unsure_since = "lookup", now
