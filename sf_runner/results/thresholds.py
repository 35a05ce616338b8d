"""Which thresholds hold for which row of a report: those of the run descriptions, then those of the command line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from sf_runner.basics.errors import UsageError, did_you_mean
from sf_runner.describe.thresholds import EVERY, Threshold
from sf_runner.results.experiments import Experiment
from sf_runner.results.metrics import Metric, resolve


def parse_threshold(text: str) -> Threshold:
    """`475`, `cartpole*=475` or `battle@kills=10`. Raises UsageError."""
    name, equals, number = text.rpartition("=")
    pattern, at, metric = name.partition("@")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (equals and not pattern) or (at and not metric):
        raise UsageError(
            f"--threshold={text} cannot be read; give a number (475), or who is to reach it (cartpole*=475), and of "
            "which metric (battle@kills=10)"
        )
    return Threshold(pattern=pattern or EVERY, metric=metric or None, value=value)


def check_thresholds(thresholds: Iterable[Threshold], experiments: Sequence[Experiment]) -> None:
    """Raises UsageError for one of the command line that is for nobody."""
    for threshold in thresholds:
        if not any(_is_for(threshold, experiment) for experiment in experiments):
            names = list(dict.fromkeys(name for e in experiments for name in (e.base_name, e.task) if name))
            raise UsageError(
                f"--threshold={threshold.pattern}={threshold.value:g}: no experiment or task is called so."
                f"{did_you_mean(threshold.pattern, names)}"
            )


def metrics_of(thresholds: Iterable[Threshold]) -> list[str]:
    """The metrics that thresholds name."""
    return list(dict.fromkeys(threshold.metric for threshold in thresholds if threshold.metric is not None))


def threshold_for(
    experiments: Sequence[Experiment], metric: Metric, thresholds: Sequence[Threshold], *, is_first: bool
) -> float | None:
    """The value that all these are to reach: of the thresholds for them the last one. None where there is none.

    is_first: whether the metric is the first one of the report, which thresholds without a metric mean.
    """
    known = list(metric.names.values())
    for threshold in reversed(thresholds):
        meant = is_first if threshold.metric is None else resolve(threshold.metric, known) is not None
        if meant and all(_is_for(threshold, experiment) for experiment in experiments):
            return threshold.value
    return None


def _is_for(threshold: Threshold, experiment: Experiment) -> bool:
    return threshold.is_for(experiment.base_name, experiment.task)
