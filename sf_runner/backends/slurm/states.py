"""Slurm's words for the state of a job, and what each means to us. The only table of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from sf_runner.state.jobs import CauseKind

Phase = Literal["queued", "running", "over"]


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """`fate` and `words`: of an attempt that Slurm ended in that state, in `backends.base`'s terms."""

    phase: Phase
    fate: Literal["requeue", "failed", "cancelled"] = "requeue"
    kind: CauseKind = "lost"
    words: str = ""


_QUEUED, _RUNNING = Meaning(phase="queued"), Meaning(phase="running")
_VANISHED = "Slurm no longer knows it, and nobody saw how it ended"

STATES: dict[str, Meaning] = {
    "PENDING": _QUEUED,
    "REQUEUED": _QUEUED,
    "REQUEUE_FED": _QUEUED,
    "REQUEUE_HOLD": _QUEUED,
    "SPECIAL_EXIT": _QUEUED,
    "RESV_DEL_HOLD": _QUEUED,
    "CONFIGURING": _RUNNING,
    "RUNNING": _RUNNING,
    "COMPLETING": _RUNNING,
    "RESIZING": _RUNNING,
    "SIGNALING": _RUNNING,
    "STAGE_OUT": _RUNNING,
    "STOPPED": _RUNNING,
    "SUSPENDED": _RUNNING,
    "COMPLETED": Meaning(phase="over", words="its job completed, but nobody saw how the experiment ended"),
    "FAILED": Meaning(phase="over", fate="failed", kind="spawn", words="its job failed outside the experiment"),
    "BOOT_FAIL": Meaning(phase="over", kind="node_failed", words="its node did not start (BOOT_FAIL)"),
    "NODE_FAIL": Meaning(phase="over", kind="node_failed", words="its node failed (NODE_FAIL)"),
    "PREEMPTED": Meaning(phase="over", kind="preempted", words="it was preempted (PREEMPTED)"),
    "REVOKED": Meaning(phase="over", words="its job moved to another cluster (REVOKED)"),
    "CANCELLED": Meaning(
        phase="over", fate="cancelled", kind="cancelled", words="cancelled in Slurm, not by this runner (CANCELLED)"
    ),
    "DEADLINE": Meaning(phase="over", fate="failed", kind="timeout", words="it missed its deadline (DEADLINE)"),
    "TIMEOUT": Meaning(
        phase="over",
        fate="failed",
        kind="timeout",
        words="ended at Slurm's time limit (TIMEOUT) before it had saved and was queued again; raise --slurm_time, or "
        "--slurm_signal_ahead where the limit leaves room for more",
    ),
    "OUT_OF_MEMORY": Meaning(
        phase="over", fate="failed", kind="host_oom", words="out of memory (OUT_OF_MEMORY); raise --slurm_mem"
    ),
    "VANISHED": Meaning(phase="over", words=_VANISHED),
}
"""VANISHED is ours: neither squeue nor sacct knows the job."""

STUCK_REASONS: dict[str, str] = {
    "AccountNotAllowed": "the account may not use this partition: --slurm_account, --slurm_partition",
    "AssocGrpCPUMinutesLimit": "the account has used up its hours",
    "BadConstraints": "no node fulfils what is asked for: --slurm_constraint, --slurm_mem, --slurm_gpus_per_job",
    "DependencyNeverSatisfied": "what it depends on failed",
    "InvalidAccount": "--slurm_account is not valid any more",
    "InvalidQOS": "--slurm_qos is not valid any more",
    "JobHeldAdmin": "an administrator holds it",
    "JobHeldUser": "it is held: `scontrol release`",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition is inactive",
    "PartitionNodeLimit": "it asks for more than a node of the partition has",
    "PartitionTimeLimit": "--slurm_time is more than the partition allows",
    "QOSMaxWallDurationPerJobLimit": "--slurm_time is more than the QOS allows",
    "launch failed requeued held": "its node could not start it; `scontrol release` tries again",
}
"""Why a job may wait for ever, and what to do; told once each."""


_NOT_LAUNCHED = re.compile(r"JobLaunchFailure|RaisedSignal:53\b")
_LAUNCH_WORDS = (
    "its node could not start the job script ({}): the folder of the scripts' output (--slurm_workdir, else in "
    "--train_dir) and the folder it runs in have to be there and writable on the nodes"
)


def meaning(state: str, reason: str = "") -> Meaning:
    """Of a state as squeue or sacct prints it (`CANCELLED by 0`, `PREEMPTED+`). Unknown ones count as running."""
    words = state.split()
    found = STATES.get(words[0].rstrip("+"), _RUNNING) if words else STATES["VANISHED"]
    if found.phase == "over" and _NOT_LAUNCHED.match(reason):
        return replace(found, words=_LAUNCH_WORDS.format(reason))
    return found
