"""What a plot of learning curves shows, apart from how it is drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypedDict

import numpy as np

from sf_runner.results.analysis import Analysis, MetricAnalysis, Row, XAxis, curve_x
from sf_runner.results.curves import Floats
from sf_runner.results.grouping import label_of
from sf_runner.results.reaching import Arrival
from sf_runner.results.statistics import Band

# Paul Tol's "bright" scheme and four colours of his "muted" one: told apart also with colour blindness.
COLORS = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#999933", "#332288", "#cc6677", "#44aa99",
)  # fmt: skip

_SEED_POINTS = 120


@dataclass(frozen=True, kw_only=True)
class Line:
    """`label`: what tells its configuration from the others of the plot. `seeds`: (x, y) of every experiment behind the
    mean; `marks`: single points (x, y) on the line; `level`: the threshold."""

    label: str
    color: str
    dashed_label: bool
    """The colours have begun anew: draw this one differently."""
    band: Band
    seeds: tuple[tuple[Floats, Floats], ...] = ()
    marks: tuple[Floats, Floats] | None = None
    level: float | None = None

    def stretches(self) -> Iterator[tuple[slice, bool]]:
        """Parts of the curve, and whether fewer experiments than elsewhere reach them: those are drawn dashed. They
        reach over to their neighbours, so that the line has no gaps."""
        full = (self.band.n == self.band.most).tolist()
        changes = [i for i in range(1, len(full)) if full[i] != full[i - 1]]
        for begin, end in pairwise([0, *changes, len(full)]):
            if full[begin]:
                yield slice(begin, end), False
            else:
                yield slice(max(begin - 1, 0), end + 1), True

    def heights(self) -> Iterator[Floats]:
        """All that must be seen, as arrays that are not empty."""
        yield from (self.band.low, self.band.high)
        yield from (values for _, values in self.seeds)
        yield from () if self.level is None else (np.array([self.level]),)


@dataclass(frozen=True, kw_only=True)
class Plot:
    """`title`: the task, empty when there is only one."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]

    @property
    def x_range(self) -> tuple[float, float]:
        return (
            min(float(line.band.x[0]) for line in self.lines),
            max(float(line.band.x[-1]) for line in self.lines),
        )

    @property
    def y_range(self) -> tuple[float, float]:
        low = min(float(part.min()) for line in self.lines for part in line.heights())
        high = max(float(part.max()) for line in self.lines for part in line.heights())
        margin = 0.04 * (high - low) or abs(high) * 0.1 or 1.0
        return low - margin, high + margin


def plots_of(metric: MetricAnalysis, analysis: Analysis) -> list[Plot]:
    """One plot per task, for their scales differ; none for a task of which no configuration has a curve."""

    def line(row: Row, style: _Style) -> Line | None:
        if row.band is None or len(row.band.x) < 2:
            return None
        level = None if row.reach is None else row.reach.threshold
        seeds = _seeds(row, analysis.options.x, float(row.band.x[0]), float(row.band.x[-1]))
        return Line(**style, band=row.band, seeds=seeds, level=level)

    return _plots(metric, analysis, metric.metric.name, line)


def arrival_plots_of(metric: MetricAnalysis, analysis: Analysis) -> list[Plot]:
    """The share of experiments that has reached the threshold; one plot per task, none where there is no threshold."""

    def line(row: Row, style: _Style) -> Line | None:
        found = None if row.reach is None else (row.reach.steps if analysis.options.x == "step" else row.reach.seconds)
        if found is None:
            return None
        scale = 1.0 if analysis.options.x == "step" else 1 / 3600.0
        return Line(**style, band=_stairs(found, scale, len(row.members)), marks=_censored(found, scale))

    return _plots(metric, analysis, "share that reached the threshold", line)


class _Style(TypedDict):
    label: str
    color: str
    dashed_label: bool


def _plots(
    metric: MetricAnalysis, analysis: Analysis, y_label: str, line_of: Callable[[Row, _Style], Line | None]
) -> list[Plot]:
    tasks, columns, plots = metric.tasks, analysis.grouping.columns, []
    for task in tasks:
        rows = [row for row in metric.rows if row.group.task == task]
        telling = [name for name in columns if len({row.group.shown[name] for row in rows}) > 1] or columns
        lines = []
        for index, row in enumerate(rows):
            label = label_of({name: row.group.shown[name] for name in telling})
            color, dashed = COLORS[index % len(COLORS)], index >= len(COLORS)
            lines.append(line_of(row, _Style(label=label, color=color, dashed_label=dashed)))
        drawn = tuple(line for line in lines if line is not None)
        if drawn:
            x_label = "steps" if analysis.options.x == "step" else "hours of training"
            title = task if len(tasks) > 1 else ""
            plots.append(Plot(title=title, x_label=x_label, y_label=y_label, lines=drawn))
    return plots


def _seeds(row: Row, axis: XAxis, begin: float, end: float) -> tuple[tuple[Floats, Floats], ...]:
    """The curves behind the mean, as far as it goes: at most so many points each as are seen at this size."""
    found = []
    for member in row.members:
        x = curve_x(member.curve, axis)
        inside = np.flatnonzero((x >= begin) & (x <= end))
        if len(row.members) > 1 and len(inside) > 1:
            kept = inside[np.unique(np.linspace(0, len(inside) - 1, _SEED_POINTS).astype(int))]
            found.append((x[kept], member.curve.values[kept]))
    return tuple(found)


def _stairs(found: Arrival, scale: float, experiments: int) -> Band:
    """As a line that is level between two arrivals. `scale`: of positions."""
    x = np.concatenate([[0.0], np.repeat(found.at, 2), [found.last]]) * scale
    heights = [np.repeat(np.concatenate([[0.0], part]), 2) for part in (found.share, found.low, found.high)]
    count = np.full(len(x), experiments, dtype=np.intp)
    return Band(x=x, mean=heights[0], low=heights[1], high=heights[2], n=count)


def _censored(found: Arrival, scale: float) -> tuple[Floats, Floats]:
    """Where trainings ended without an arrival, on the stairs."""
    heights = np.concatenate([[0.0], found.share])
    return found.censored * scale, heights[np.searchsorted(found.at, found.censored, side="right")]


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers from `low` to `high`, about as many as asked for."""
    if not high > low:
        return [low]
    raw = (high - low) / about
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * size for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * size >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, math.floor(high / step + 1e-9) + 1)]
