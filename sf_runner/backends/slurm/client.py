"""Slurm's commands, each with a time limit, its complaint kept, and nothing of an outer job in its environment."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import IO

from sf_runner.backends.slurm.batches import ABANDONED, BatchPaths
from sf_runner.backends.slurm.refusals import Kind, Refusal, sort_refusal
from sf_runner.backends.slurm.script import comment_of
from sf_runner.backends.slurm.task_records import TaskHistory, read_history
from sf_runner.basics.errors import BackendError

_TIMEOUT_S = 60.0
SUBMIT_TIMEOUT_S = 240.0
_FORMAT = "%F|%K|%T|%r|%N|%k"
_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT")
_DROPPED = ("SBATCH_", "SLURM_", "SF_RUNNER_JOB", "SF_RUNNER_ATTEMPT", "SF_RUNNER_TAG", "SF_RUNNER_PROGRESS")
_OVERRIDES = (
    "ARRAY_INX", "COMMENT", "ERROR", "GRES", "INPUT", "JOB_NAME", "NO_REQUEUE", "OPEN_MODE", "OUTPUT", "REQUEUE",
    "SIGNAL", "WAIT",
)  # fmt: skip
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
class Entry:
    """A task of an array as squeue shows it. `state` is Slurm's word."""

    state: str
    reason: str = ""
    node: str = ""


@dataclass(frozen=True, kw_only=True)
class Queue:
    """One answer of squeue. `asked_at`, `took_s`: when it was asked (steady clock) and how long that took."""

    asked_at: float
    took_s: float
    tasks: Mapping[tuple[str, int], Entry] = field(default_factory=dict)
    comments: Mapping[str, str] = field(default_factory=dict)
    """Comment -> array."""


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


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Without what a surrounding job or run left in it; the user's own SBATCH_ defaults stay, where they do not
    contradict the script."""
    env = {
        name: value
        for name, value in environ.items()
        if name in _KEPT or not name.startswith(_DROPPED) or _is_own_default(name)
    }
    env.pop("CUDA_VISIBLE_DEVICES", None)  # those of this machine
    return env


def _is_own_default(name: str) -> bool:
    return name.startswith("SBATCH_") and name[len("SBATCH_") :] not in _OVERRIDES


class SlurmClient:
    """Every call blocks; none is made by the run loop itself."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._env = clean_environment(os.environ if environ is None else environ)
        self._sbatch: subprocess.Popen[bytes] | None = None

    def limits(self) -> Limits:
        """SlurmDownError when nobody answers."""
        text = self._run(["scontrol", "show", "config"])
        found = dict(re.findall(r"^(MaxArraySize|MaxJobCount)\s*=\s*(\d+)", text, re.MULTILINE))
        tasks = re.search(r"^SchedulerParameters\s*=.*\bmax_array_tasks=(\d+)", text, re.MULTILINE)
        return Limits(
            max_array_size=int(found.get("MaxArraySize", 1001)),
            max_job_count=int(found.get("MaxJobCount", 10000)),
            max_array_tasks=int(tasks[1]) if tasks else None,
        )

    def queue(self) -> Queue:
        """All of our own jobs that Slurm still remembers, in one call."""
        asked_at = time.monotonic()
        text = self._run(["squeue", "--me", "--noheader", "--states=all", f"--format={_FORMAT}"])
        tasks: dict[tuple[str, int], Entry] = {}
        comments: dict[str, str] = {}
        for line in text.splitlines():
            array, indices, state, reason, node, comment = [*line.split("|", 5), *[""] * 5][:6]
            entry = Entry(state=state, reason=reason, node=node)
            comments[comment.strip()] = array
            for index in expand(indices):
                tasks[array, index] = entry
        return Queue(asked_at=asked_at, took_s=time.monotonic() - asked_at, tasks=tasks, comments=comments)

    def accounting(self, ids: Sequence[str]) -> dict[str, str]:
        """Id -> state of ended tasks, where accounting is kept and knows them."""
        found: dict[str, str] = {}
        for some in _portions(ids):
            command = ["sacct", "-X", "-n", "-P", "--duplicates", "-o", "JobID,State", "-j", ",".join(some)]
            try:
                text = self._run(command)
            except SlurmDownError:
                return found
            for line in text.splitlines():  # of a task that was queued again, the last one counts
                name, _, state = line.partition("|")
                found[name] = state
        return found

    def test_text(self, script: str) -> Refusal | None:
        """What `sbatch --test-only` says of this script; None when it would start the job some time. It also refuses
        what sbatch itself would queue: while all nodes are drained, or are not yet known to a new controller."""
        try:
            done = subprocess.run(
                ["sbatch", "--test-only"], input=script, env=self._env, capture_output=True, text=True,
                errors="surrogateescape", timeout=_TIMEOUT_S, start_new_session=True, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as exc:
            return Refusal(kind="down", text=f"sbatch: {exc}")
        return sort_refusal(done.stderr, f"sbatch: exit code {done.returncode}") if done.returncode else None

    def submit(self, batch: BatchPaths) -> Submitted | Refused:
        """Submit a batch, unless it has been already: sbatch writes its answer into the batch's folder itself and
        holds a lock while it runs, so that however a runner ends, the next one knows what became of it."""
        with batch.lock.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a killed runner's sbatch may still be at it
            found = self.find(batch)
            if found:
                return Submitted(array_id=found)
            with batch.answer.open("wb") as answer, batch.complaint.open("wb") as errors:
                try:
                    code = self._run_sbatch(["sbatch", "--parsable", str(batch.script)], lock, answer, errors)
                except subprocess.TimeoutExpired:
                    return Refused(error=f"sbatch did not answer in {SUBMIT_TIMEOUT_S:.0f} s", kind="down")
                except OSError as exc:
                    return Refused(error=f"sbatch: {exc.strerror}")
            if array := batch.array_id():
                return Submitted(array_id=array)
            refusal = sort_refusal(batch.complained(), f"sbatch: exit code {code} and no word about why")
            if code < 0:  # killed: it may have submitted
                refusal = replace(refusal, kind="down")
            if refusal.untaken:
                batch.answer.unlink()  # Slurm may remember the refused job, which must not be found in its place
            return Refused(error=refusal.line, kind=refusal.kind)

    def _run_sbatch(self, argv: Sequence[str], lock: IO[str], answer: IO[bytes], errors: IO[bytes]) -> int:
        """Its exit code. TimeoutExpired; OSError when it cannot be started."""
        self._sbatch = process = subprocess.Popen(
            argv, env=self._env, stdin=subprocess.DEVNULL, stdout=answer, stderr=errors, pass_fds=(lock.fileno(),),
            start_new_session=True,  # Ctrl-C is not meant for it
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
            _kill_group(process)

    def give_up(self, batch: BatchPaths) -> str:
        """Close a batch of which it is not known whether it was submitted, without asking Slurm: none of its
        experiments will start any more. The array that has begun to run it, which cannot be closed."""
        array = batch.array_id() or _array_by_records(batch)
        if not array:
            batch.answered(ABANDONED)
        return array

    def find(self, batch: BatchPaths) -> str:
        """The array of a batch, if it was ever submitted: by sbatch's answer, in the queue, or by what its tasks wrote.
        SlurmDownError when that cannot be told now."""
        array = batch.array_id()
        if array or not batch.answer.exists():  # sbatch was never started
            return array
        array = self.queue().comments.get(comment_of(str(batch.root)), "") or _array_by_records(batch)
        if array:
            batch.answered(array)
        return array

    def settle(self, batch: BatchPaths) -> str:
        """The array of a batch of an earlier runner; a batch that was never submitted is given up for good."""
        with batch.lock.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            array = self.find(batch)
            if not array:
                batch.answered(ABANDONED)
            return array

    def cancel(self, ids: Sequence[str], *, queued_only: bool = False) -> None:
        """End them; those that Slurm does not know (any more) are no error."""
        only = ["--state=PENDING"] if queued_only else []
        for some in _portions(ids):
            self._run(["scancel", "--quiet", *only, *some], strict=False)

    def kill(self, ids: Sequence[str]) -> None:
        for some in _portions(ids):
            self._run(["scancel", "--quiet", "--signal=KILL", "--full", *some], strict=False)

    def poke(self, ids: Sequence[str]) -> None:
        """Have the wrappers look at their orders now."""
        for some in _portions(ids):
            self._run(["scancel", "--quiet", "--batch", "--signal=USR2", *some], strict=False)

    def release(self, ids: Sequence[str]) -> None:
        """End the two minutes for which Slurm holds a job that was queued again, where that is permitted.

        Not at once: a node refuses a job (`Job credential revoked`, which ends it as FAILED) that starts in the same
        second in which its earlier start was ended there.
        """
        for name in ids:
            self._run(["scontrol", "update", f"JobId={name}", f"StartTime=now+{_RESTART_S}"], strict=False)

    def throttle(self, array: str, number: int) -> None:
        """At most `number` tasks of an array side by side; 0: no limit."""
        self._run(["scontrol", "update", f"JobId={array}", f"ArrayTaskThrottle={number}"], strict=False)

    def _run(self, argv: Sequence[str], *, strict: bool = True) -> str:
        env = {**self._env, "SLURM_BITSTR_LEN": "0"}  # squeue shortens lists of indices otherwise
        try:
            done = subprocess.run(
                argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S,
                errors="replace", start_new_session=True, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise SlurmDownError(f"{argv[0]}: {exc}") from exc
        if done.returncode:
            refusal = sort_refusal(done.stderr, f"{argv[0]}: exit code {done.returncode}")
            if strict or refusal.kind == "down":
                raise SlurmDownError(refusal.line)
            if refusal.kind != "gone" and done.stderr.strip():
                raise SlurmRefusedError(replace(refusal, text=f"{' '.join(argv[:2])}: {refusal.text}"))
        return done.stdout


def expand(indices: str) -> Iterator[int]:
    """`1,4-6%2` -> 1, 4, 5, 6; nothing for what is no list of indices."""
    for part in indices.partition("%")[0].strip("[]").split(","):
        span, _, step = part.partition(":")
        first, _, last = span.partition("-")
        if first.isdigit() and (last or first).isdigit():
            yield from range(int(first), int(last or first) + 1, int(step or 1))


def compress(array: str, indices: Iterable[int]) -> list[str]:
    """Ids for scancel: `17_[1-3,9]`, as few as fit on a command line."""
    spans: list[list[int]] = []
    for index in sorted(indices):
        if spans and index == spans[-1][1] + 1:
            spans[-1][1] = index
        else:
            spans.append([index, index])
    texts = [str(a) if a == b else f"{a}-{b}" for a, b in spans]
    return [f"{array}_[{','.join(texts[at : at + 200])}]" for at in range(0, len(texts), 200)]


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


def _portions(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(ids), _MANY):
        yield ids[at : at + _MANY]
