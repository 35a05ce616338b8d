"""Ids of submitted jobs, on disk before anything else happens: `.runner/ngc/ids.jsonl`, one JSON object a line.

The run's journal learns of an id when the job runs; this file tells it to a runner that starts in between.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from sf_runner.basics.errors import StorageError


class IdFile:
    """Appended to by the one runner that holds the run's lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ids: dict[tuple[str, int], tuple[str, str]] = {}
        self._unwritten = b""

    def open(self) -> None:
        """Read what earlier runners left. StorageError when the folder cannot be written."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            data = self._path.read_bytes() if self._path.exists() else b""
        except OSError as exc:
            raise StorageError(f"cannot use {self._path}: {exc.strerror}; choose another --train_dir") from exc
        for line in data.splitlines():
            try:
                entry = json.loads(line)
                self._ids[entry["job"], int(entry["attempt"])] = (str(entry["cloud"]), str(entry["id"]))
            except (ValueError, KeyError, TypeError):  # torn by a crash: the job is found by its name
                continue
        if data and not data.endswith(b"\n"):
            self._unwritten = b"\n"

    def get(self, job: str, attempt: int) -> tuple[str, str] | None:
        """(name of the cluster, id there)."""
        return self._ids.get((job, attempt))

    def add(self, job: str, attempt: int, cluster: str, job_id: str, job_name: str) -> None:
        """Remember it, on disk too unless the disk is full: then with the next one."""
        self._ids[job, attempt] = (cluster, job_id)
        line = json.dumps({"job": job, "attempt": attempt, "cloud": cluster, "id": job_id, "name": job_name})
        self._unwritten += line.encode() + b"\n"
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                self._unwritten = self._unwritten[os.write(fd, self._unwritten) :]
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError:  # a job without a line is found by its name
            pass
