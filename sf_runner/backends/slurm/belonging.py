"""Which task of which array a wrapper is, and whether the batch is its to run. Standard library only."""

from __future__ import annotations

import os

from sf_runner.backends.slurm.batches import BatchPaths


def own_array() -> str:
    """Job id of the array."""
    return os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID", "")


def own_id() -> str:
    """Job id of this task alone. SLURM_JOB_ID of an array's last task is the id of the whole array."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")


def why_foreign(batch: BatchPaths) -> str:
    """Why this job is not one that the runner submitted; empty: it is, and no other will be."""
    expected, own = batch.array_id(), os.environ.get("SLURM_ARRAY_JOB_ID", "")
    if batch.is_abandoned():
        return "it was given up before it was known to be submitted"
    if expected and own and expected != own:
        return f"its experiments belong to job {expected}, not to job {own}"
    if not own:
        return ""
    try:
        owner = batch.own(own)
    except OSError as exc:
        return f"whether job {own} is to run it cannot be written there: {exc.strerror}"
    return "" if owner == own else f"its experiments belong to job {owner}, not to job {own}"
