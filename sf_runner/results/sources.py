"""What experiments have recorded: tensorboard's summaries, the progress history, `results.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import numpy as np

from sf_runner.basics.paths import JobPaths
from sf_runner.board.find import event_dirs_of
from sf_runner.progress import Progress, read_history, read_progress
from sf_runner.results.curves import Curve, Segment, join
from sf_runner.results.event_files import read_scalars, tags_in
from sf_runner.results.metrics import SOURCES, Metric, Source, fps_name

_STEP_NAMES = ("env_steps", "step", "steps", "total_steps")


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What one experiment has recorded of the metrics asked for.

    curves: by metric, one per policy (folder of summaries), never empty ones.
    sources: where each metric's curves come from.
    fps: steps per second, as the program tells: `results.json`, else the mean of what it wrote meanwhile.
    """

    curves: Mapping[str, tuple[Curve, ...]] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    fps: float | None = None


def available_names(
    jobs: Iterable[JobPaths], wanted: Sequence[str] = (), *, progress: Callable[[int], None] = lambda done: None
) -> dict[Source, list[str]]:
    """Names of metrics in each source, over all experiments. `wanted` names are looked for in every event; others that
    are written seldom may be missing. `progress` is called with the number of experiments done."""
    found: dict[Source, dict[str, None]] = {source: {} for source in SOURCES}
    for number, job in enumerate(jobs, 1):
        for folder in event_dirs_of(job.experiment_dir):
            tags = tags_in(folder)
            missing = [name for name in wanted if name not in tags]
            found["tensorboard"].update(dict.fromkeys(sorted(tags)))
            found["tensorboard"].update(dict.fromkeys(read_scalars(folder, missing) if missing else ()))
        for record in _progress_records(job):
            found["progress"].update(dict.fromkeys((*record.metrics, *sorted(record.not_finite))))
        found["results"].update(dict.fromkeys(_result_numbers(_read_results(job))))
        progress(number)
    return {source: list(names) for source, names in found.items() if names}


def read(job: JobPaths, metrics: Sequence[Metric], available: Mapping[Source, Sequence[str]]) -> Recorded:
    """Read the metrics of one experiment, each from the best source that has it. Unreadable files count as missing."""
    results = _read_results(job)
    fps_tag = fps_name(available.get("tensorboard", ()))
    tags = {metric.names["tensorboard"] for metric in metrics if "tensorboard" in metric.names}
    streams = [
        read_scalars(folder, tags | ({fps_tag} if fps_tag else set())) for folder in event_dirs_of(job.experiment_dir)
    ]
    history = _progress_records(job)
    curves: dict[str, tuple[Curve, ...]] = {}
    sources: dict[str, Source] = {}
    for metric in metrics:
        for source in SOURCES:
            name = metric.names.get(source)
            if name is None:
                continue
            if source == "tensorboard":
                found = [join(stream[name]) for stream in streams if name in stream]
            elif source == "progress":
                found = [_progress_curve(history, name)]
            else:
                found = [_results_curve(results, name)]
            kept = tuple(curve for curve in found if len(curve) or curve.ends_not_finite)
            if kept:
                curves[metric.name], sources[metric.name] = kept, source
                break
    return Recorded(curves=curves, sources=sources, fps=_fps(results, streams, fps_tag, history))


def _fps(
    results: Mapping[str, Any],
    streams: Sequence[Mapping[str, list[Segment]]],
    tag: str | None,
    history: Sequence[Progress],
) -> float | None:
    told = results.get("fps")
    if _is_number(told):
        return float(told)
    if tag is not None:
        means = [float(curve.values.mean()) for s in streams if tag in s and len(curve := join(s[tag]))]
        if means:
            return max(means)
    speeds = [progress.fps for progress in history if progress.fps is not None]
    return math.fsum(speeds) / len(speeds) if speeds else None


def _progress_records(job: JobPaths) -> list[Progress]:
    """The history, and the latest record, which is newer than the history's last."""
    records = read_history(job.progress_history)
    latest = read_progress(job.progress)
    if latest is not None and (not records or latest.time_unix_s > records[-1].time_unix_s):
        records.append(latest)
    return records


def _progress_curve(records: Sequence[Progress], name: str) -> Curve:
    """Records without a step are told apart by their time only, and left out, as long as others have one."""
    points = [record for record in records if name in record.metrics or name in record.not_finite]
    stepped = [record for record in points if record.step is not None] or points[-1:]
    segment = Segment(
        steps=np.array([0.0 if record.step is None else record.step for record in stepped], dtype=np.float64),
        values=np.array([record.metrics.get(name, math.nan) for record in stepped], dtype=np.float64),
        times_unix_s=np.array([record.time_unix_s for record in stepped], dtype=np.float64),
    )
    return join([segment])


def _read_results(job: JobPaths) -> Mapping[str, Any]:
    try:
        body = json.loads(job.results.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _result_numbers(results: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of the object, those under `metrics` first."""
    metrics = results.get("metrics")
    numbers = {str(k): float(v) for k, v in metrics.items() if _is_number(v)} if isinstance(metrics, dict) else {}
    numbers.update((str(k), float(v)) for k, v in results.items() if _is_number(v) and str(k) not in numbers)
    return numbers


def _results_curve(results: Mapping[str, Any], name: str) -> Curve:
    value = _result_numbers(results).get(name)
    if value is None:
        return join([])
    step = next((float(results[key]) for key in _STEP_NAMES if _is_number(results.get(key))), 0.0)
    return join([Segment(steps=np.array([step]), values=np.array([value]), times_unix_s=np.zeros(1))])


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
