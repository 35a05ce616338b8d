"""What a job script itself printed: the only witness when it failed before the wrapper was started."""

from __future__ import annotations

import re

from sf_runner.backends.slurm.batches import BatchPaths
from sf_runner.basics.tail import last_line

_SLURMS_OWN = re.compile(r"slurmstepd: .*\*\*\* (JOB|STEP) ")
"""`*** JOB 7 ON n1 CANCELLED AT ... DUE TO JOB REQUEUE ***`: what Slurm did to an earlier start of the task."""


def last_words(batch: BatchPaths, task: int) -> str:
    """The last line with anything on it; empty when there is none."""
    return last_line(batch.root / f"{task}.out", ignore=_SLURMS_OWN.match)
