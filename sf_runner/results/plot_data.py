"""What a plot of learning curves shows, apart from how it is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from sf_runner.results.analysis import Analysis, MetricAnalysis
from sf_runner.results.grouping import label_of
from sf_runner.results.statistics import Band

# Paul Tol's "bright" scheme and four colours of his "muted" one: told apart also with colour blindness.
COLORS = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#999933", "#332288", "#cc6677", "#44aa99",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Line:
    """`label`: what tells its configuration from the others of the plot."""

    label: str
    color: str
    dashed_label: bool
    """The colours have begun anew: draw this one differently."""
    band: Band

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
        low = min(float(line.band.low.min()) for line in self.lines)
        high = max(float(line.band.high.max()) for line in self.lines)
        margin = 0.04 * (high - low) or abs(high) * 0.1 or 1.0
        return low - margin, high + margin


def plots_of(metric: MetricAnalysis, analysis: Analysis) -> list[Plot]:
    """One plot per task, for their scales differ; none for a task of which no configuration has a curve."""
    tasks = metric.tasks
    found = [_plot(metric, task, analysis, titled=len(tasks) > 1) for task in tasks]
    return [plot for plot in found if plot is not None]


def _plot(metric: MetricAnalysis, task: str, analysis: Analysis, *, titled: bool) -> Plot | None:
    rows = [row for row in metric.rows if row.group.task == task]
    columns = analysis.grouping.columns
    telling = [name for name in columns if len({row.group.shown[name] for row in rows}) > 1] or columns
    lines = [
        Line(
            label=label_of({name: row.group.shown[name] for name in telling}),
            color=COLORS[index % len(COLORS)],
            dashed_label=index >= len(COLORS),
            band=row.band,
        )
        for index, row in enumerate(rows)
        if row.band is not None and len(row.band.x) > 1
    ]
    if not lines:
        return None
    return Plot(
        title=task if titled else "",
        x_label="steps" if analysis.options.x == "step" else "hours of training",
        y_label=metric.metric.name,
        lines=tuple(lines),
    )


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers from `low` to `high`, about as many as asked for."""
    if not high > low:
        return [low]
    raw = (high - low) / about
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * size for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * size >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, math.floor(high / step + 1e-9) + 1)]
