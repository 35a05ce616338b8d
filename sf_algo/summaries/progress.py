"""The progress file that a launcher reads, and the result file at the end."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sf_algo.files import write_bytes_atomically

PROGRESS_VARIABLE = "SF_RUNNER_PROGRESS_FILE"
"""Environment variable with the path of the progress file; set by whoever launched the training."""
ATTEMPT_VARIABLE = "SF_RUNNER_ATTEMPT"
"""Which attempt of its experiment the training is: the file of an earlier one must not be taken for this one's."""
FORMAT_VERSION = 1

log = logging.getLogger(__name__)


class ProgressFile:
    """Replaces the launcher's progress file; does nothing where none was asked for.

    Progress is a courtesy: a failure to write it is told once and never ends a training.
    """

    def __init__(self, path: Path | None, attempt: int | None = None) -> None:
        self._path = path
        self._attempt = {} if attempt is None else {"attempt": attempt}
        self._failed = False

    @staticmethod
    def from_environment(environment: Mapping[str, str] | None = None) -> ProgressFile:
        environment = os.environ if environment is None else environment
        path, attempt = environment.get(PROGRESS_VARIABLE), environment.get(ATTEMPT_VARIABLE, "")
        return ProgressFile(Path(path) if path else None, int(attempt) if attempt.isdecimal() else None)

    def write(
        self,
        *,
        phase: str,
        step: int,
        total: int | None,
        fps: float | None = None,
        metrics: Mapping[str, float] | None = None,
        eta_s: float | None = None,
    ) -> None:
        """`step` of `total` environment frames; `total` and `eta_s` are None where nobody knows them."""
        if self._path is None:
            return
        document = {
            "version": FORMAT_VERSION,
            "time": time.time(),
            **self._attempt,
            "phase": phase,
            "step": step,
            "total": total,
            "fps": fps,
            "metrics": dict(metrics or {}),
            "eta_s": eta_s,
        }
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(json.dumps(document))
            temporary.replace(self._path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            if not self._failed:
                log.warning("cannot write the progress file %s: %s", self._path, error.strerror or error)
            self._failed = True


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Writes ``results.json``. Raises StorageError."""
    text = json.dumps({"version": FORMAT_VERSION, **results}, indent=2)
    write_bytes_atomically(path, text.encode() + b"\n", what="results")
