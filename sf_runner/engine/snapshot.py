"""A run as somebody outside its runner can read it: journal, progress files and lock, nothing written."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sf_runner.basics.paths import RunPaths, attempt_files
from sf_runner.engine.detached import DetachedRun
from sf_runner.engine.outcomes import attempt_progress
from sf_runner.progress import Progress
from sf_runner.slots.placement import Placement
from sf_runner.state.estimate import Estimate, estimate, etas
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import ACTIVE, Failed, JobRecord, Succeeded, Waiting, is_queued, last_cause, running_of
from sf_runner.store.follower import JournalFollower
from sf_runner.store.lock import is_held

STATE_NAMES = {
    "Waiting": "waiting",
    "Submitted": "starting",
    "Running": "running",
    "Stopping": "ending",
    "Succeeded": "succeeded",
    "Failed": "failed",
    "Cancelled": "cancelled",
}


@dataclass(frozen=True, kw_only=True)
class RunSnapshot:
    """`live`: a runner is at work on it now. `progress` holds what running jobs say of themselves."""

    paths: RunPaths
    state: RunState
    live: bool
    progress: Mapping[str, Progress] = field(default_factory=dict)

    def estimate(self, now: float) -> Estimate | None:
        return estimate(self.state, now, etas(self.progress, now)) if self.live else None


def read_run(paths: RunPaths) -> RunSnapshot:
    """Read a run once. StorageError when there is no readable journal."""
    return snapshot_of(JournalFollower(paths.journal), paths)


def snapshot_of(follower: JournalFollower, paths: RunPaths) -> RunSnapshot:
    """The run as it is now. StorageError when its journal cannot be read."""
    follower.catch_up()
    live = is_held(paths)
    state = follower.state if live else DetachedRun(paths).state(follower.state, time.time())
    return RunSnapshot(paths=paths, state=state, live=live, progress=running_progress(state, paths))


def running_progress(state: RunState, paths: RunPaths) -> dict[str, Progress]:
    """What running jobs say of themselves in their progress files."""
    root = str(paths.root)
    found = {}
    for job, record in state.active.items():
        running = running_of(record.state)
        if running is not None:
            progress = attempt_progress(attempt_files(root, job, record.attempts)[2], record.attempts)
            if progress is not None:
                found[job] = progress
    return found


def state_name(record: JobRecord) -> str:
    """For people: waiting, queued, starting, running, ending, succeeded, failed or cancelled."""
    state = record.state
    if isinstance(state, Waiting) and record.attempts:
        return "retrying"
    if is_queued(record):
        return "queued"
    return STATE_NAMES[type(state).__name__]


def job_json(snapshot: RunSnapshot, record: JobRecord) -> dict[str, Any]:
    """One job as `status --json` tells it. Times are unix seconds; absent where not known."""
    state, root = record.state, str(snapshot.paths.root)
    body: dict[str, Any] = {
        "job": record.job_id,
        "state": state_name(record),
        "attempts": record.attempts,
        "directory": f"{root}/{record.job_id}",
        "command": shlex.join(record.argv),
        "params": dict(record.params),
    }
    if record.attempts:
        body["log"] = attempt_files(root, record.job_id, record.attempts)[0]
    if isinstance(state, ACTIVE):
        body["slot"] = Placement.from_json(state.placement).label
    running = running_of(state)
    if running is not None:
        body["started"] = running.started_at
        body["handle"] = dict(running.handle)
    if isinstance(state, Succeeded | Failed):
        body["ended"] = state.ended_at
        body["duration_s"] = state.duration_s
    cause = last_cause(state)
    if cause is not None:
        body["error"] = cause.summary
    progress = snapshot.progress.get(record.job_id)
    if progress is not None:
        body["progress"] = {
            "step": progress.step,
            "total": progress.total,
            "fps": progress.fps,
            "phase": progress.phase,
            "eta_s": progress.eta_s,
            "metrics": dict(progress.metrics),
        }
    return body


def run_json(snapshot: RunSnapshot, now: float) -> dict[str, Any]:
    """A whole run, without its jobs, as `status --json` tells it."""
    state = snapshot.state
    guess = snapshot.estimate(now)
    return {
        "version": 1,
        "run": state.run_name,
        "directory": str(snapshot.paths.root),
        "live": snapshot.live,
        "backend": state.opened.backend if state.opened else None,
        "counts": {_count_name(name, state): count for name, count in state.counts.items() if count},
        "total": state.total,
        "started": state.first_opened_at or None,
        "left_s": round(guess.left_s, 1) if guess else None,
    }


def _count_name(name: str, state: RunState) -> str:
    return "queued" if name == "Submitted" and state.num_queued else STATE_NAMES[name]


def shown_jobs(state: RunState) -> list[JobRecord]:
    """Those that people want to see: planned ones, and others that still run. In the order of the description."""
    shown = [record for record in state.jobs.values() if record.planned or isinstance(record.state, ACTIVE)]
    return sorted(shown, key=lambda record: record.index)
