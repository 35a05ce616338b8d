"""What a job script itself printed: the only witness when it failed before the wrapper was started."""

from __future__ import annotations

import re
from pathlib import Path

from sf_runner.backends.slurm.batches import BatchPaths

_TAIL_BYTES = 4096
_SLURMS_OWN = re.compile(r"slurmstepd: .*\*\*\* (JOB|STEP) ")
"""`*** JOB 7 ON n1 CANCELLED AT ... DUE TO JOB REQUEUE ***`: what Slurm did to an earlier start of the task."""


def last_words(batch: BatchPaths, task: int) -> str:
    """The last line with anything on it; empty when there is none."""
    return _last_line(batch.root / f"{task}.out")


def _last_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    said = (line.strip() for line in reversed(lines) if not _SLURMS_OWN.match(line))
    return next((line for line in said if line), "")
