"""One folder per array of jobs: what is to run, written before sbatch is asked, and what sbatch answered.

<run>/.runner/slurm/0001/
  script.sh     exactly what is submitted
  tasks.jsonl   a line about the whole batch, then one per task of the array
  tasks/<i>.jsonl, orders/<i>.json    see task_records.py and task.py
  sbatch.out    sbatch's answer, written by sbatch itself: it is kept even if the runner is killed meanwhile
  sbatch.lock   held by sbatch for as long as it runs
  owner         the array whose tasks run the batch, by the first who knew: the controller may take a submission twice
<run>/.runner/slurm/claims/   which task runs which attempt of an experiment

Standard library only: the wrapper imports it on the node.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sf_runner.backends.slurm.answers import parse_array_id
from sf_runner.basics.files import create_once, replace_file

ABANDONED = "never submitted"
_FORMAT = 1
_WRITING_S = 2.0
_SIDE_BY_SIDE = "lanes"
"""Key of `BatchHeader.side_by_side` on disk, where arrays that are queued for days must be able to read it."""


@dataclass(frozen=True, kw_only=True)
class TaskJob:
    """One attempt of a task. `attempt`: its first; when the task is queued again the next ones follow."""

    job: str
    attempt: int
    argv: Sequence[str]
    env: Mapping[str, str]
    folder: str
    """Of its log, exit record and progress."""

    def log(self, attempt: int) -> str:
        return f"{self.folder}/attempt_{attempt}.log"

    @property
    def exit_record(self) -> str:
        return f"{self.folder}/exit.json"


@dataclass(frozen=True, kw_only=True)
class BatchHeader:
    """What holds for all tasks of a batch. Times in seconds."""

    run_id: str
    num_tasks: int
    side_by_side: int = 1
    """Experiments of a task that run side by side."""
    timeout_s: float | None = None
    grace_s: float = 30.0
    signal_ahead_s: float = 120.0
    fits_ahead: bool = False
    """Whether `signal_ahead_s` is only what is usual, and gives way to a short limit."""
    max_requeues: int = 100
    asks_end: bool = False
    """Whether the wrapper has to ask Slurm when its time is over, because no signal reaches it."""
    throttle: int = 0
    """Tasks side by side; 0: no limit."""
    cluster: str = ""
    """That it was submitted to; empty: the one of the machine on which the runner was started."""


@dataclass(frozen=True, kw_only=True)
class BatchPaths:
    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def script(self) -> Path:
        return self.root / "script.sh"

    @property
    def tasks(self) -> Path:
        return self.root / "tasks.jsonl"

    @property
    def answer(self) -> Path:
        return self.root / "sbatch.out"

    @property
    def complaint(self) -> Path:
        return self.root / "sbatch.err"

    @property
    def lock(self) -> Path:
        return self.root / "sbatch.lock"

    def records(self, task: int) -> Path:
        return self.root / "tasks" / f"{task}.jsonl"

    def orders(self, task: int) -> Path:
        return self.root / "orders" / f"{task}.json"

    def output(self, task: int) -> Path:
        """What the script of a task printed, unless it was told to print elsewhere."""
        return self.root / f"{task}.out"

    def prints_here(self) -> bool:
        """Whether `output` is where the scripts print."""
        try:
            return f"{self.root}/%a.out" in self.script.read_text(errors="replace")
        except OSError:
            return False

    def array_id(self) -> str:
        """The array's job id; empty: not known to be submitted."""
        if owner := self.owner():
            return "" if owner == ABANDONED else owner
        try:
            return parse_array_id(self.answer.read_text(errors="replace"))
        except OSError:
            return ""

    def owner(self) -> str:
        """The array that its experiments belong to, or `ABANDONED`; empty: not decided."""
        try:
            return (read_claim(self.root / "owner") or "").strip()
        except OSError:
            return ""

    def own(self, array: str) -> str:
        """Decide that it belongs to this array, if that is not decided; the owner."""
        return claim(self.root / "owner", array + "\n").strip()

    def abandon(self) -> str:
        """Give it up, unless it has an owner: none of its experiments will start. The owner; empty: it is given up."""
        owner = self.own(ABANDONED)
        self.answered(owner)
        return "" if owner == ABANDONED else owner

    def claim_attempt(self, run_id: str, job: str, attempt: int, claimant: Mapping[str, Any]) -> Mapping[str, Any]:
        """Decide who runs an attempt, if that is not decided; who does. OSError when it cannot be written down."""
        path = self._claim_path(run_id, job, attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        return _claimant(claim(path, json.dumps({**claimant, "job": job, "attempt": attempt})))

    def attempt_claimant(self, run_id: str, job: str, attempt: int) -> Mapping[str, Any]:
        """Who runs it; empty: nobody yet."""
        try:
            return _claimant(read_claim(self._claim_path(run_id, job, attempt)) or "")
        except OSError:
            return {}

    def _claim_path(self, run_id: str, job: str, attempt: int) -> Path:
        name = hashlib.blake2b(f"{run_id}\0{job}\0{attempt}".encode(errors="surrogateescape"), digest_size=12)
        return self.root.parent / "claims" / name.hexdigest()[:2] / name.hexdigest()[2:]

    def complained(self) -> str:
        """What sbatch said on standard error so far."""
        try:
            return self.complaint.read_text(errors="replace")
        except OSError:
            return ""

    def is_abandoned(self) -> bool:
        if owner := self.owner():
            return owner == ABANDONED
        try:
            return self.answer.read_text(errors="replace").strip() == ABANDONED
        except OSError:
            return False

    def answered(self, text: str) -> None:
        """Keep what was found out about its submission."""
        replace_file(self.answer, f"{text}\n".encode())


def claim(path: Path, text: str) -> str:
    """Create `path` with this text unless it exists; the text that is in it then, the same for all that try.

    It has to say who wrote it: a reply of a file server may be lost, so that only what is read back tells who was
    first. OSError when nothing can be written there.
    """
    create_once(path, text)
    return read_claim(path) or ""


def read_claim(path: Path) -> str | None:
    """What the one who was first wrote; None: nobody claimed it. OSError when that cannot be told."""
    deadline = time.monotonic() + _WRITING_S
    while True:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        if text or time.monotonic() > deadline:  # without links it is empty for a moment
            return text
        time.sleep(0.05)


def _claimant(text: str) -> Mapping[str, Any]:
    try:
        body = json.loads(text)
    except ValueError:
        return {"by": "unknown"} if text else {}
    return body if isinstance(body, dict) else {"by": "unknown"}


def list_batches(folder: Path) -> list[BatchPaths]:
    """All batches of a run, oldest first."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name.isdigit())
    except FileNotFoundError:
        return []
    return [BatchPaths(root=folder / name) for name in sorted(names, key=int)]


def next_batches(folder: Path) -> Iterator[BatchPaths]:
    """Folders for new batches."""
    existing = list_batches(folder)
    number = int(existing[-1].name) if existing else 0
    while True:
        number += 1
        yield BatchPaths(root=folder / f"{number:04d}")


def write_batch(paths: BatchPaths, header: BatchHeader, tasks: Sequence[Sequence[TaskJob]], script: str) -> None:
    """All of it or nothing. OSError when it cannot be written."""
    draft = paths.root.with_name(f".{paths.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    (draft / "tasks").mkdir(parents=True)
    (draft / "orders").mkdir()
    with (draft / "tasks.jsonl").open("w", encoding="ascii") as file:
        file.write(json.dumps(_header_json(header)) + "\n")
        for jobs in tasks:
            file.write(json.dumps([_task_json(job) for job in jobs], separators=(",", ":")) + "\n")
        file.flush()
        os.fsync(file.fileno())
    (draft / "script.sh").write_text(script, encoding="utf-8", errors="surrogateescape")
    (draft / "script.sh").chmod(0o755)
    draft.rename(paths.root)


def _header_json(header: BatchHeader) -> dict[str, Any]:
    body = asdict(header)
    return {"version": _FORMAT, _SIDE_BY_SIDE: body.pop("side_by_side"), **body}


def _task_json(job: TaskJob) -> dict[str, Any]:
    return {"job": job.job, "attempt": job.attempt, "argv": list(job.argv), "env": dict(job.env), "dir": job.folder}


def read_header(line: str) -> BatchHeader:
    """ValueError when it was written by a version that this one does not understand."""
    body = json.loads(line)
    if not isinstance(body, dict) or body.pop("version", None) != _FORMAT:
        raise ValueError("unknown format")
    if _SIDE_BY_SIDE in body:
        body["side_by_side"] = body.pop(_SIDE_BY_SIDE)
    known = {name: value for name, value in body.items() if name in BatchHeader.__dataclass_fields__}
    return BatchHeader(**known)


def read_task(line: str) -> list[TaskJob]:
    return [
        TaskJob(job=item["job"], attempt=item["attempt"], argv=item["argv"], env=item["env"], folder=item["dir"])
        for item in json.loads(line)
    ]


def read_batch(paths: BatchPaths) -> tuple[BatchHeader, list[list[TaskJob]]]:
    """ValueError or OSError when it is damaged."""
    with paths.tasks.open(encoding="ascii") as file:
        header = read_header(file.readline())
        return header, [read_task(line) for line in file]


def read_one_task(paths: BatchPaths, task: int) -> tuple[BatchHeader, list[TaskJob]]:
    """Only what one wrapper has to know. ValueError or OSError when it is not there."""
    with paths.tasks.open(encoding="ascii") as file:
        header = read_header(file.readline())
        for number, line in enumerate(file):
            if number == task:
                return header, read_task(line)
    raise ValueError(f"batch {paths.root} has no task {task}")
