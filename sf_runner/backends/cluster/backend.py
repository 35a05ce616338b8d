"""Jobs in a cluster that is driven by a command line: NVIDIA's `ngc`, or any other that a class describes (`api.py`).

Nothing here blocks: commands run in the background (`calls.py`), and one list command per interval tells the states of
all jobs (`watch.py`). A job is never submitted twice: it has a name of its own, and whenever nobody knows what became
of a submission (a crash, an error, an answer without an id) the list is asked for that name, until it is certain that
the cluster does not have it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from sf_runner.backends.base import Backend, Ended, Known, Launch, NotStarted, Report, StopLevel
from sf_runner.backends.cluster.answers import AnswerError
from sf_runner.backends.cluster.api import Cluster, SubmitRequest, job_names, run_prefix
from sf_runner.backends.cluster.calls import CallResult, Commands, Pause
from sf_runner.backends.cluster.checked import CheckedCluster
from sf_runner.backends.cluster.ids import IdFile
from sf_runner.backends.cluster.jobs import ClusterAttempt, ClusterJobs
from sf_runner.backends.cluster.watch import ClusterWatch
from sf_runner.basics.clock import SYSTEM_CLOCK, boot_id, steady_s
from sf_runner.basics.errors import BackendError
from sf_runner.linux.exit_record import read_record
from sf_runner.linux.kernel import TAG_VARIABLE
from sf_runner.linux.process_tools import is_alive, make_tag, tagged_processes

_LEFT_BEHIND_POLL_S = 0.5
_LOOKS = 2
_USAGE_ERROR = 2
"""What command lines exit with when an option of theirs is wrong."""


class ClusterBackend(Backend):
    """Runs attempts as jobs of a cluster.

    request_of: from a launch to what the cluster is asked to submit; None where nothing is submitted (see `reopen`).
    since: unix time before which no job of the run was submitted.
    """

    def __init__(
        self,
        run_id: str,
        cluster: Cluster,
        request_of: Callable[[Launch], SubmitRequest] | None,
        ids: IdFile,
        *,
        since: float,
    ) -> None:
        self.name = name = cluster.name
        self._run_id = run_id
        self._cluster = checked = CheckedCluster(cluster)
        self._request_of = request_of
        self._ids = ids
        self._jobs = ClusterJobs(name, ids)
        # Submissions, kills and questions about single jobs side by side, and the list.
        self._commands = Commands(cluster.call_timeout_s, 3 * cluster.parallel_calls + 1)
        self._watch = ClusterWatch(checked, self._commands, self._jobs, prefix=run_prefix(run_id), since=since)
        self._pause = Pause(f"{name} takes no jobs", f"{name} takes jobs again", cluster.retry_s, self._jobs.tell)
        self._submitting = 0
        self._left_behind_at = 0.0
        self._closed = False

    # ---- the protocol --------------------------------------------------------------------------------------

    def open(self) -> None:
        self._ids.open()

    def adopt(self, known: Sequence[Known]) -> list[Report]:
        for item in known:
            where = self._ids.get(item.job, item.attempt)
            if item.handle is not None:
                where = (str(item.handle.get("cloud", "")), str(item.handle.get("id", "")))
            if where is not None and where[0] != self.name:
                self._foreign(item)
                continue
            attempt = self._add(item, argv=None)
            attempt.phase, attempt.id = ("known", where[1]) if where else ("left_behind", "")
            attempt.started = item.handle is not None
        return self.poll(steady_s())

    def submit(self, launch: Launch) -> None:
        assert self._request_of is not None, f"'{launch.job}' is submitted while the run is being ended"
        try:
            argv = self._cluster.submit(self._request_of(launch))
        except AnswerError as exc:  # it would fail in the same way again
            self._jobs.reports.append(_refusal(launch, f"cannot submit it: {exc}", permanent=True))
        else:
            self._add(launch, argv)

    def stop(self, job: str, level: StopLevel, grace_s: float) -> None:
        """The cluster has one way to end a job; how long it leaves it is the cluster's own affair."""
        attempt = self._jobs.attempts.get(job)
        if attempt is None:
            return
        attempt.stop = True
        if attempt.phase == "waiting":
            self._jobs.never_ran(attempt)
        elif level == "kill":
            attempt.kill_at = 0.0

    def poll(self, now: float) -> list[Report]:
        self._commands.collect()
        self._look_for_left_behind(now)
        self._watch.poll(now)
        self._submit_more(now)
        return self._jobs.take_reports()

    def fds(self) -> Sequence[int]:
        return (self._commands.fd,)

    def settled(self) -> bool:
        return all(attempt.phase == "known" for attempt in self._jobs.attempts.values())

    def certain(self) -> bool:
        """Whether of every adopted attempt it is known if it is over: the cluster has told its state since."""
        return all(a.phase == "known" and a.last_seen.state for a in self._jobs.attempts.values())

    def next_wake(self) -> float | None:
        times = [self._watch.next_wake()]
        if self._jobs.reports:
            times.append(steady_s())
        phases = {attempt.phase for attempt in self._jobs.attempts.values()}
        if "left_behind" in phases:
            times.append(self._left_behind_at)
        if "waiting" in phases and self._submitting < self._cluster.parallel_calls:
            times.append(self._pause.until)
        return min((t for t in times if t is not None), default=None)

    def close(self, *, detach: bool) -> None:
        if not (detach and self._submitting):
            self._close(wait=False)

    def outlive_jobs(self) -> None:
        """Until what is being submitted has been, and its ids are on disk: the next start need not look for them."""
        self._close(wait=True)

    def _close(self, *, wait: bool) -> None:
        if not self._closed:
            self._closed = True
            self._commands.close(wait=wait)

    # ---- submitting ----------------------------------------------------------------------------------------

    def _add(self, source: Launch | Known, argv: tuple[str, ...] | None) -> ClusterAttempt:
        attempt = self._jobs.attempts[source.job] = ClusterAttempt(
            job=source.job,
            attempt=source.attempt,
            names=job_names(self._run_id, source.job, source.attempt),
            argv=argv,
            log=source.log,
            exit_record=source.exit_record,
            phase="waiting",
        )
        return attempt

    def _submit_more(self, now: float) -> None:
        if now < self._pause.until:
            return
        for attempt in self._jobs.in_phase("waiting")[: max(0, self._cluster.parallel_calls - self._submitting)]:
            assert attempt.argv is not None
            attempt.make_room()
            # The tag lets a later runner see that the command still runs.
            env = {TAG_VARIABLE: make_tag(self._run_id, attempt.job, attempt.attempt)}
            self._commands.start(attempt.argv, partial(self._submitted, attempt), env)
            attempt.phase = "submitting"
            self._submitting += 1

    def _submitted(self, attempt: ClusterAttempt, result: CallResult) -> None:
        now = steady_s()
        self._submitting -= 1
        attempt.phase, attempt.unsure_since, attempt.refusal = "lookup", now, None
        refused = f"{self.name} refused it: {result.said}"
        if result.unstarted:
            error = f"cannot submit it: {result.unstarted}"
            self._jobs.refused(attempt, _refusal(attempt, error, permanent=result.hopeless))
        elif result.ok:
            self._pause.answered()
            try:
                self._jobs.found(attempt, self._cluster.read_id(result.output))
            except AnswerError as exc:
                error = f"{self.name} took it, but its answer cannot be read: {exc}"
                attempt.refusal = _refusal(attempt, error, permanent=True)
        elif result.code == _USAGE_ERROR:
            self._jobs.refused(attempt, _refusal(attempt, refused, permanent=True))
        elif result.passes(self._cluster.transient):
            self._pause.failed(now, result.said)
        else:
            attempt.refusal = _refusal(attempt, refused, permanent=False)

    # ---- what earlier runners left -------------------------------------------------------------------------

    def _foreign(self, item: Known) -> None:
        """An attempt that another backend, or cluster, has. BackendError while it may run: it must not run twice."""
        record = read_record(item.exit_record, item.attempt)
        local = item.handle is not None and "pid" in item.handle
        if record is None and not (local and not is_alive(item.handle or {}, boot_id())):
            raise BackendError(
                f"'{item.job}' was started with another --runner or cloud and may still run; go on with that one until "
                "it has ended, or cancel it there"
            )
        self._jobs.reports.append(Ended(job=item.job, attempt=item.attempt, t=SYSTEM_CLOCK.wall(), record=record))

    def _look_for_left_behind(self, now: float) -> None:
        """Submissions that an earlier runner had begun: as long as the command runs, nobody knows how it will end."""
        left = self._jobs.in_phase("left_behind")
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


def _refusal(source: Launch | ClusterAttempt, error: str, *, permanent: bool) -> NotStarted:
    return NotStarted(job=source.job, attempt=source.attempt, t=SYSTEM_CLOCK.wall(), error=error, permanent=permanent)
