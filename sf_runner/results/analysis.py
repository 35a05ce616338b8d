"""From experiments and their curves to what a report says: rows, bands and notes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sf_runner.describe.thresholds import Threshold
from sf_runner.results.curves import EMPTY, Curve, Floats, ValueRule
from sf_runner.results.experiments import Experiment
from sf_runner.results.grouping import Group, Grouping, group
from sf_runner.results.metrics import Metric
from sf_runner.results.population import Population
from sf_runner.results.reaching import Reach, Reached, first_reached, reach
from sf_runner.results.sources import Recorded
from sf_runner.results.statistics import Aggregate, Band, aggregate, band
from sf_runner.results.thresholds import threshold_for
from sf_runner.results.told_tables import ToldTable

XAxis = Literal["step", "time"]
Include = Literal["finished", "all"]


@dataclass(frozen=True, kw_only=True)
class AnalysisOptions:
    """How a report is made.

    value: how a curve becomes one number.
    include: whose numbers count: of experiments that succeeded (of others only where none of a configuration has), or
        of all.
    policy: which policy's curve counts; None: the best one of each experiment.
    seed: of the bootstrap's random numbers.
    thresholds: what counts as learned; later ones go before earlier ones.
    """

    group_by: tuple[str, ...] | None = None
    value: ValueRule = "last"
    include: Include = "finished"
    x: XAxis = "step"
    policy: int | None = None
    seed: int = 0
    thresholds: tuple[Threshold, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Member:
    """One experiment's part in one metric. `value` and `best` are None when it has none; `policies`: of how many
    policies the curve is the best. `reached`: when it was as good as its threshold; None where there is none."""

    experiment: Experiment
    recorded: Recorded
    curve: Curve
    value: float | None
    best: float | None
    policies: int
    counted: bool = False
    reached: Reached | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One configuration. Means are over the experiments that have the number; None when none has.

    so_far: no experiment has finished, so these are the values so far.
    reach: how many reached the threshold, and when; None where there is none.
    """

    group: Group
    members: tuple[Member, ...]
    aggregate: Aggregate | None
    best: float | None
    so_far: bool
    wall_time_s: float | None
    fps: float | None
    attempts: int
    band: Band | None
    reach: Reach | None = None

    @property
    def counted(self) -> int:
        return sum(member.counted for member in self.members)


@dataclass(frozen=True, kw_only=True)
class MetricAnalysis:
    """`winners`: rows with the best mean of their task, unless all means are the same."""

    metric: Metric
    rows: tuple[Row, ...]
    winners: frozenset[int]

    @property
    def reaches(self) -> bool:
        """Whether any row has a threshold."""
        return any(row.reach is not None for row in self.rows)

    @property
    def tasks(self) -> list[str]:
        """In the order of the rows."""
        return list(dict.fromkeys(row.group.task for row in self.rows))


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """All that the tables, plots and pages are made of."""

    title: str
    grouping: Grouping
    metrics: tuple[MetricAnalysis, ...]
    options: AnalysisOptions
    populations: tuple[Population, ...] = ()
    """Of the experiments that trained several policies which learn from each other."""
    tables: tuple[ToldTable, ...] = ()
    """What the experiments' own results have in tables."""

    @property
    def experiments(self) -> list[Experiment]:
        return [experiment for found in self.grouping.groups for experiment in found.members]


def analyse(
    title: str,
    experiments: Sequence[Experiment],
    metrics: Sequence[Metric],
    recorded: Mapping[tuple[str, str], Recorded],
    options: AnalysisOptions,
) -> Analysis:
    """`recorded`: by (run, job id). Raises UsageError for an unknown name in `group_by`."""
    grouping = group(experiments, options.group_by)
    return Analysis(
        title=title,
        grouping=grouping,
        metrics=tuple(
            _analyse_metric(metric, grouping, recorded, options, is_first=number == 0)
            for number, metric in enumerate(metrics)
        ),
        options=options,
    )


def _analyse_metric(
    metric: Metric,
    grouping: Grouping,
    recorded: Mapping[tuple[str, str], Recorded],
    options: AnalysisOptions,
    *,
    is_first: bool,
) -> MetricAnalysis:
    rows = []
    for found in grouping.groups:
        members = [_member(e, recorded.get((e.run, e.job_id), Recorded()), metric, options) for e in found.members]
        threshold = threshold_for(found.members, metric, options.thresholds, is_first=is_first)
        if threshold is not None:
            members = [_with_reached(member, threshold, metric) for member in members]
        rows.append(_row(found, members, metric, options, threshold))
    return MetricAnalysis(metric=metric, rows=tuple(rows), winners=_winners(rows, metric))


def _winners(rows: Sequence[Row], metric: Metric) -> frozenset[int]:
    means: dict[str, list[tuple[float, int]]] = {}
    for index, row in enumerate(rows):
        if row.aggregate is not None and not row.so_far:
            means.setdefault(row.group.task, []).append((row.aggregate.mean, index))
    found: set[int] = set()
    for listed in means.values():
        values = {mean for mean, _ in listed}
        if len(values) > 1:
            best = min(values) if metric.lower_is_better else max(values)
            found.update(index for mean, index in listed if mean == best)
    return frozenset(found)


def _member(experiment: Experiment, recorded: Recorded, metric: Metric, options: AnalysisOptions) -> Member:
    curves = recorded.curves.get(metric.name, ())
    if options.policy is not None and len(curves) > 1:
        curves = curves[options.policy : options.policy + 1]
    lower = metric.lower_is_better

    def rank(curve: Curve) -> tuple[bool, float]:
        value = curve.value(options.value, lower_is_better=lower)
        return value is not None, 0.0 if value is None else (-value if lower else value)

    curve = max(curves, key=rank, default=EMPTY)
    return Member(
        experiment=experiment,
        recorded=recorded,
        curve=curve,
        value=curve.value(options.value, lower_is_better=lower),
        best=curve.best(lower_is_better=lower),
        policies=len(curves),
    )


def _with_reached(member: Member, threshold: float, metric: Metric) -> Member:
    return replace(member, reached=first_reached(member.curve, threshold, lower_is_better=metric.lower_is_better))


def _row(
    found: Group, members: Sequence[Member], metric: Metric, options: AnalysisOptions, threshold: float | None
) -> Row:
    has_value = [member.value is not None for member in members]
    finished = [has and m.experiment.succeeded for has, m in zip(has_value, members, strict=True)]
    so_far = options.include == "finished" and any(has_value) and not any(finished)
    counts = finished if options.include == "finished" and not so_far else has_value
    marked = tuple(replace(member, counted=counted) for member, counted in zip(members, counts, strict=True))
    values = [member.value for member in marked if member.counted and member.value is not None]
    strata = [member.experiment.config for member in marked if member.counted]
    bests = [member.best for member in marked if member.counted and member.best is not None]
    # A single value is no curve; joined to those of other seeds at other steps it would look like one.
    with_curve = [member for member in marked if len(member.curve) > 1]
    return Row(
        group=found,
        members=marked,
        aggregate=aggregate(values, strata, seed=options.seed) if values else None,
        best=(min if metric.lower_is_better else max)(bests, default=None),
        so_far=so_far,
        wall_time_s=_mean([m.experiment.wall_time_s for m in marked if m.counted]),
        fps=_mean([m.recorded.fps for m in marked if m.counted]),
        attempts=sum(member.experiment.attempts for member in marked),
        band=band(
            [(curve_x(member.curve, options.x), member.curve.values) for member in with_curve],
            [member.experiment.config for member in with_curve],
            seed=options.seed,
        ),
        reach=None if threshold is None else _reach(marked, threshold),
    )


def _reach(members: Sequence[Member], threshold: float) -> Reach:
    """A training that failed counts as one that did not reach it, unless it had before: nobody got a policy of it."""
    return reach(
        threshold,
        [member.curve for member in members],
        [member.reached or Reached() for member in members],
        [member.experiment.succeeded or member.experiment.state == "failed" for member in members],
    )


def curve_x(curve: Curve, axis: XAxis) -> Floats:
    """Positions of a curve's values: steps, or hours of training."""
    return curve.steps if axis == "step" else curve.elapsed_s / 3600.0


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
