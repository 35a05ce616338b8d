"""Slurm's commands, each with a time limit, its complaint kept, and nothing of an outer job in its environment."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import IO

from sf_runner.backends.slurm.answers import (
    SQUEUE_FORMAT,
    Listing,
    Place,
    Queue,
    parse_accounting,
    parse_jobs,
    parse_queue,
)
from sf_runner.backends.slurm.batches import ABANDONED, BatchPaths
from sf_runner.backends.slurm.environment import asking_environment, clean_environment, submitting_environment
from sf_runner.backends.slurm.refusals import Kind, Refusal, sort_refusal
from sf_runner.backends.slurm.script import comment_of
from sf_runner.backends.slurm.task_records import TaskHistory, read_history
from sf_runner.backends.slurm.time_limit import TimeLimit, partition_limit, qos_limit, shortest
from sf_runner.basics.errors import BackendError

_TIMEOUT_S = 60.0
_START_TIMEOUT_S = 15.0
"""Of calls that a start waits for: whatever Slurm does not say in that time is found out later."""
SUBMIT_TIMEOUT_S = 240.0
_RESTART_S = 3
"""Slurm reckons in whole seconds; one more for each of two clocks."""
_MANY = 400
"""Ids in one command."""


class SlurmDownError(BackendError):
    """The controller does not answer, or not now."""


class SlurmRefusedError(BackendError):
    """It answered, and does not do it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.line)
        self.refusal = refusal


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """What the controller and accounting say of one array. `listing` is None: the controller says that there is no such
    job. `sure`: accounting was asked and answered, or is not kept."""

    listing: Listing | None
    accounting: Listing
    sure: bool


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one cluster takes."""

    max_array_size: int = 1001
    max_job_count: int = 10000
    max_array_tasks: int | None = None
    """Of SchedulerParameters; None: not limited."""

    @property
    def tasks_per_array(self) -> int:
        """Indices run from 0 to MaxArraySize - 1."""
        limits = (self.max_array_size, self.max_job_count, self.max_array_tasks or self.max_array_size)
        return max(1, min(limits))


@dataclass(frozen=True, kw_only=True)
class Submitted:
    array_id: str


@dataclass(frozen=True, kw_only=True)
class Refused:
    """What sbatch said; see `refusals.Kind`."""

    error: str
    kind: Kind = "permanent"


def is_here() -> bool:
    """Whether this machine can submit."""
    return shutil.which("sbatch") is not None and shutil.which("squeue") is not None


class SlurmClient:
    """Every call blocks; none is made by the run loop itself. `cluster`: that jobs are submitted to; empty: this
    machine's own. Other calls name the cluster that they are about."""

    def __init__(self, environ: Mapping[str, str] | None = None, *, cluster: str = "") -> None:
        self._env = clean_environment(os.environ if environ is None else environ)
        self._asking = asking_environment(self._env)
        self.cluster = cluster
        self.given_up: set[str] = set()
        """Marks of batches that are not to run, should the controller take them after all."""
        self._sbatch: subprocess.Popen[bytes] | None = None
        self._aborted = False

    def limits(self) -> Limits:
        """SlurmDownError when nobody answers."""
        text = self._run(["scontrol", *_at(self.cluster), "show", "config"])
        found = dict(re.findall(r"^(MaxArraySize|MaxJobCount)\s*=\s*(\d+)", text, re.MULTILINE))
        tasks = re.search(r"^SchedulerParameters\s*=.*\bmax_array_tasks=(\d+)", text, re.MULTILINE)
        return Limits(
            max_array_size=int(found.get("MaxArraySize", 1001)),
            max_job_count=int(found.get("MaxJobCount", 10000)),
            max_array_tasks=int(tasks[1]) if tasks else None,
        )

    def time_limit(self, partition: str, qos: str) -> TimeLimit | None:
        """Of jobs that ask for none in this partition (empty: the default one) and QOS (empty: none is named); None:
        not known. SlurmDownError when nobody answers."""
        command = ["scontrol", *_at(self.cluster), "show", "partition", "-o"]
        found, more = partition_limit(self._run(command, timeout_s=_START_TIMEOUT_S), partition)
        limits = [found]
        for name in filter(None, [qos, *more]):
            with suppress(SlurmDownError):  # it may be that no accounting is kept
                command = ["sacctmgr", "-nP", "show", "qos", name, "format=Name,MaxWall"]
                text = self._run(command, timeout_s=_START_TIMEOUT_S)
                limits.append(qos_limit(text, name))
        return shortest(limits)

    def queue(self, clusters: Collection[str] = ("",)) -> Queue:
        """All of our own jobs that these clusters still remember, in one call for each. SlurmDownError when none of
        them answers."""
        asked_at = time.monotonic()
        arrays: dict[Place, Listing] = {}
        marks: dict[str, set[Place]] = {}
        heard: set[str] = set()
        failure: SlurmDownError | None = None
        for cluster in clusters:
            command = ["squeue", *_at(cluster), "--me", "--noheader", "--states=all", f"--format={SQUEUE_FORMAT}"]
            try:
                parse_queue(self._run(command), cluster, arrays, marks)
                heard.add(cluster)
            except SlurmDownError as exc:
                failure = exc
        if failure is not None and not heard:
            raise failure
        found = {mark: frozenset(places) for mark, places in marks.items()}
        took_s = time.monotonic() - asked_at
        return Queue(asked_at=asked_at, took_s=took_s, clusters=frozenset(heard), arrays=arrays, marks=found)

    def look_up(self, cluster: str, array: str, indices: Collection[int]) -> Sighting:
        """Tasks of an array that squeue does not show: by the controller's own word, and by accounting where the
        controller does not know them. SlurmDownError when the controller does not answer."""
        listing: Listing | None = None
        done = self._call(["scontrol", *_at(cluster), "show", "job", "--oneliner", array])
        if done.returncode == 0:
            listing = parse_jobs(done.stdout)
        elif (refusal := sort_refusal(done.stderr, f"scontrol: exit code {done.returncode}")).kind != "gone":
            raise SlurmDownError(refusal.line)
        if listing is not None and all(listing.find(index) is not None for index in indices):
            return Sighting(listing=listing, accounting=Listing(), sure=True)
        try:
            command = ["sacct", *_at(cluster), "-X", "-n", "-P", "--duplicates", "-o", "JobID,State", "-j", array]
            done = self._call(command)
        except SlurmDownError:
            return Sighting(listing=listing, accounting=Listing(), sure=False)
        sure = not done.returncode or sort_refusal(done.stderr).kind == "permanent"  # it may keep none
        return Sighting(listing=listing, accounting=parse_accounting(done.stdout), sure=sure)

    def test_text(self, script: str) -> Refusal | None:
        """What `sbatch --test-only` says of this script; None when it would start the job some time. It also refuses
        what sbatch itself would queue: while all nodes are drained, or are not yet known to a new controller."""
        try:
            done = subprocess.run(
                ["sbatch", "--test-only"], input=script, env=submitting_environment(self._env, script),
                capture_output=True, text=True, errors="surrogateescape", timeout=_START_TIMEOUT_S,
                start_new_session=True, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as exc:
            return Refusal(kind="down", text=_unanswered("sbatch", exc))
        return sort_refusal(done.stderr, f"sbatch: exit code {done.returncode}") if done.returncode else None

    def submit(self, batch: BatchPaths, after: str = "") -> Submitted | Refused:
        """Submit a batch, unless it has been already: sbatch writes its answer into the batch's folder itself and
        holds a lock while it runs, so that however a runner ends, the next one knows what became of it.

        after: what has to end before any of its tasks begins."""
        command = ["sbatch", "--parsable", *([f"--dependency={after}"] if after else []), str(batch.script)]
        with batch.lock.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a killed runner's sbatch may still be at it
            found = self.find(batch, self.cluster)
            if found:
                return Submitted(array_id=found)
            with batch.answer.open("wb") as answer, batch.complaint.open("wb") as errors:
                try:
                    code = self._run_sbatch(command, lock, answer, errors)
                except subprocess.TimeoutExpired:
                    return Refused(error=f"sbatch did not answer in {SUBMIT_TIMEOUT_S:.0f} s", kind="down")
                except OSError as exc:
                    return Refused(error=f"sbatch: {exc.strerror}")
            if array := batch.array_id():
                return Submitted(array_id=batch.own(array))
            return self._not_answered(batch, code)

    def _not_answered(self, batch: BatchPaths, code: int) -> Submitted | Refused:
        """sbatch named no job. It may have been killed after it had submitted, or its answer got lost."""
        if self._aborted:
            return Refused(error="sbatch was given up", kind="down")
        how = f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit code {code}"
        refusal = sort_refusal(batch.complained(), f"{how} and named no job")
        if code > 0 and refusal.untaken and batch.complained().strip():
            batch.answer.unlink()  # Slurm may remember the refused job, which must not be found in its place
            return Refused(error=refusal.line, kind=refusal.kind)
        if array := self.find(batch, self.cluster):
            return Submitted(array_id=array)
        return Refused(error=refusal.line, kind="down")

    def _run_sbatch(self, argv: Sequence[str], lock: IO[str], answer: IO[bytes], errors: IO[bytes]) -> int:
        """Its exit code. TimeoutExpired; OSError when it cannot be started."""
        self._aborted = False
        self._sbatch = process = subprocess.Popen(
            argv, env=submitting_environment(self._env, _text(argv[-1])), stdin=subprocess.DEVNULL, stdout=answer,
            stderr=errors, pass_fds=(lock.fileno(),), start_new_session=True,  # Ctrl-C is not meant for it
        )  # fmt: skip
        try:
            return process.wait(SUBMIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            _kill_group(process)
            process.wait()
            raise
        finally:
            self._sbatch = None

    def abort(self) -> None:
        """End the sbatch that is at work; `submit` returns. From another thread."""
        if (process := self._sbatch) is not None:
            self._aborted = True
            _kill_group(process)

    def give_up(self, batch: BatchPaths) -> str:
        """Close a batch of which it is not known whether it was submitted, without asking Slurm: none of its
        experiments will start any more. The array that has begun to run it, which cannot be closed."""
        array = batch.array_id() or _array_by_records(batch)
        array = batch.own(array) if array else batch.abandon()
        if array in ("", ABANDONED):
            self.given_up |= set(marks_of(batch))
            return ""
        return array

    def find(self, batch: BatchPaths, cluster: str) -> str:
        """The array of a batch, if it was ever submitted: by its owner, sbatch's answer, in the queue, or by what its
        tasks wrote. SlurmDownError when that cannot be told now."""
        if owner := batch.owner():
            return "" if owner == ABANDONED else owner
        array = batch.array_id()
        if not array:
            if not batch.answer.exists():  # sbatch was never started
                return ""
            marks = self.queue((cluster,)).marks
            places = marks.get(str(batch.script)) or marks.get(comment_of(str(batch.root))) or ()
            array = _array_by_records(batch) or min((array for _, array in places), key=int, default="")
        if not array:
            return ""
        owner = batch.own(array)
        batch.answered(owner)
        return owner

    def settle(self, batch: BatchPaths, cluster: str) -> str:
        """The array of a batch of an earlier runner; a batch that was never submitted is given up for good."""
        with batch.lock.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            array = self.find(batch, cluster)
            return array or self.give_up(batch)

    def cancel(self, cluster: str, ids: Sequence[str], *, queued_only: bool = False) -> None:
        """End them; those that Slurm does not know (any more) are no error."""
        self._scancel(cluster, ids, *(["--state=PENDING"] if queued_only else []))

    def kill(self, cluster: str, ids: Sequence[str]) -> None:
        self._scancel(cluster, ids, "--signal=KILL", "--full")

    def poke(self, cluster: str, ids: Sequence[str]) -> None:
        """Have the wrappers look at their orders now."""
        self._scancel(cluster, ids, "--batch", "--signal=USR2")

    def _scancel(self, cluster: str, ids: Sequence[str], *options: str) -> None:
        for at in range(0, len(ids), _MANY):
            self._run(["scancel", *_at(cluster), "--quiet", *options, *ids[at : at + _MANY]], strict=False)

    def release(self, cluster: str, ids: Sequence[str]) -> None:
        """End the two minutes for which Slurm holds a job that was queued again, where that is permitted.

        Not at once: a node refuses a job (`Job credential revoked`, which ends it as FAILED) that starts in the same
        second in which its earlier start was ended there.
        """
        for name in ids:
            command = ["scontrol", *_at(cluster), "update", f"JobId={name}", f"StartTime=now+{_RESTART_S}"]
            self._run(command, strict=False)

    def limit(self, cluster: str, array: str, throttle: int, after: str | None = None) -> None:
        """At most `throttle` tasks of an array side by side (0: no limit). after: what has to end before more of them
        begin; empty: nothing; None: as it is."""
        command = ["scontrol", *_at(cluster), "update", f"JobId={array}", f"ArrayTaskThrottle={throttle}"]
        self._run(command if after is None else [*command, f"Dependency={after}"], strict=False)

    def _run(self, argv: Sequence[str], *, strict: bool = True, timeout_s: float = _TIMEOUT_S) -> str:
        done = self._call(argv, timeout_s)
        if done.returncode:
            refusal = sort_refusal(done.stderr, f"{argv[0]}: exit code {done.returncode}")
            if strict or refusal.kind == "down":
                raise SlurmDownError(refusal.line)
            if refusal.kind != "gone" and done.stderr.strip():
                raise SlurmRefusedError(replace(refusal, text=f"{' '.join(argv[:2])}: {refusal.text}"))
        return done.stdout

    def _call(self, argv: Sequence[str], timeout_s: float = _TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                argv, env=self._asking, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s,
                errors="replace", start_new_session=True, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise SlurmDownError(_unanswered(argv[0], exc)) from exc


def _unanswered(program: str, exc: OSError | subprocess.TimeoutExpired) -> str:
    if isinstance(exc, subprocess.TimeoutExpired):
        return f"{program} did not answer in {exc.timeout:.0f} s"
    return f"{program}: {exc.strerror or exc}"


def marks_of(batch: BatchPaths) -> tuple[str, str]:
    """By what the arrays of a batch are found in the queue."""
    return str(batch.script), comment_of(str(batch.root))


def _at(cluster: str) -> tuple[str, ...]:
    return ("-M", cluster) if cluster else ()


def _text(script: str) -> str:
    with open(script, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        return file.read()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Where sbatch is a script of the site, what it has started holds the batch's lock as well."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _array_by_records(batch: BatchPaths) -> str:
    folder = batch.root / "tasks"
    for path in folder.iterdir() if folder.is_dir() else ():
        history = TaskHistory()
        if read_history(path, history) and history.array_id:
            return history.array_id
    return ""
