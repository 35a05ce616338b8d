"""`pbt.jsonl`: what happened in a population, one JSON object a line, only ever appended to (docs/population.md)."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sf_algo.files import storage_fault

log = logging.getLogger(__name__)

FORMAT_VERSION = 1


class PopulationLog:
    """Appends lines. A failure to write is told and never ends a training."""

    def __init__(self, path: Path | None, objective_name: str) -> None:
        """`path` None: nothing is written (a benchmark)."""
        self._path = path
        self._objective_name = objective_name
        self._failed = False

    def start(self, policy: int, **fields: Any) -> None:
        """A policy as it is when the training begins or goes on."""
        self._append("start", policy, fields)

    def exchange(self, policy: int, **fields: Any) -> None:
        """A policy took over from another, or changed its hyperparameters, or both."""
        self._append("exchange", policy, fields)

    def _append(self, event: str, policy: int, fields: Mapping[str, Any]) -> None:
        if self._path is None:
            return
        document = {
            "version": FORMAT_VERSION,
            "event": event,
            "time": time.time(),
            "policy": policy,
            "objective_name": self._objective_name,
            **fields,
        }
        try:
            _append_line(self._path, json.dumps(document, separators=(",", ":")))
        except OSError as error:
            if not self._failed:
                log.warning("%s", storage_fault("the population's log", self._path, error))
            self._failed = True
        else:
            self._failed = False


def _append_line(path: Path, line: str) -> None:
    """In one write. What a killed writer or a full disk has left of a line is ended first."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, ("\n" * torn + line + "\n").encode())
    finally:
        os.close(descriptor)
