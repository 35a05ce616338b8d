"""Durations and GPU memory measured per configuration, kept for the next run: ordering, estimates, admission."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from sf_runner.basics.files import replace_file
from sf_runner.basics.paths import iter_runs
from sf_runner.slots.gpu_memory import LearnedPeaks
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import Succeeded


@dataclass(frozen=True, kw_only=True)
class History:
    """By `Job.config_key`: mean seconds of succeeded attempts, and the largest GPU memory seen in MiB."""

    durations_s: dict[str, float] = field(default_factory=dict)
    peaks: LearnedPeaks = field(default_factory=LearnedPeaks)


def load_history(train_dir: Path) -> History:
    """What all runs under `train_dir` have measured; unreadable files count as empty."""
    durations: dict[str, float] = {}
    peaks: dict[str, int] = {}
    for run in iter_runs(train_dir):
        try:
            body = json.loads(run.history.read_text(encoding="utf-8"))
            durations.update({str(k): float(v) for k, v in body["durations_s"].items()})
            for key, value in body["gpu_peaks_mb"].items():
                peaks[str(key)] = max(int(value), peaks.get(str(key), 0))
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            continue
    return History(durations_s=durations, peaks=LearnedPeaks(peaks_mb=peaks))


def save_history(path: Path, state: RunState, peaks: LearnedPeaks) -> None:
    """Written when a runner ends. A disk that is full costs the history, nothing else."""
    configs = {r.config for r in state.jobs.values()}
    body = {
        "version": 1,
        "durations_s": {key: round(mean, 3) for key, mean in _mean_durations(state).items()},
        "gpu_peaks_mb": {key: mb for key, mb in peaks.peaks_mb.items() if key in configs},
    }
    with contextlib.suppress(OSError):
        replace_file(path, json.dumps(body).encode())


def _mean_durations(state: RunState) -> dict[str, float]:
    seconds: dict[str, list[float]] = {}
    for record in state.jobs.values():
        if isinstance(record.state, Succeeded) and record.config:
            seconds.setdefault(record.config, []).append(record.state.duration_s)
    return {key: sum(values) / len(values) for key, values in seconds.items()}
