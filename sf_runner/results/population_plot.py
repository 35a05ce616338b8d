"""What the picture of a population shows, apart from how it is drawn: descent, and each number that moved."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from sf_runner.results.plot_data import COLORS
from sf_runner.results.population import Population

MOST_PANELS = 12


@dataclass(frozen=True, kw_only=True)
class Stroke:
    """A line of one policy, in the colour of the policy whose first weights it carries."""

    color: str
    label: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    wide: bool = False


@dataclass(frozen=True, kw_only=True)
class Arrow:
    """A policy takes over from another."""

    color: str
    x: float
    y_from: float
    y_to: float


@dataclass(frozen=True, kw_only=True)
class Panel:
    """y_ticks: positions with their texts; empty: numbers as they come. logarithmic: the y axis."""

    title: str
    logarithmic: bool
    strokes: tuple[Stroke, ...]
    arrows: tuple[Arrow, ...] = ()
    y_ticks: tuple[tuple[float, str], ...] = ()

    @property
    def y_range(self) -> tuple[float, float]:
        """With a margin; on a logarithmic axis in its own units (values, not exponents)."""
        ys = [y for stroke in self.strokes for y in stroke.ys]
        low, high = min(ys), max(ys)
        if self.logarithmic:
            margin = max((high / low) ** 0.06, 1.05)
            return low / margin, high * margin
        margin = 0.06 * (high - low) or abs(high) * 0.1 or 0.5
        return low - margin, high + margin


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One population."""

    title: str
    x_range: tuple[float, float]
    panels: tuple[Panel, ...] = field(default=())


def picture_of(population: Population) -> Picture:
    """Descent first, then a panel for each number that moved."""
    steps = [event.step for event in population.events]
    span = max(steps) - min(steps)
    end = max(steps) + (0.05 * span or 1.0)
    colors = {p: COLORS[index % len(COLORS)] for index, p in enumerate(population.policies)}
    names = population.names[: MOST_PANELS - 1]
    panels = [_descent(population, colors, end), *(_values(population, name, colors, end) for name in names)]
    return Picture(title=population.experiment.name, x_range=(min(steps), end), panels=tuple(panels))


def _descent(population: Population, colors: dict[int, str], end: float) -> Panel:
    """A row for each policy; the colour of a stretch tells whose first weights it carries."""
    origin = {policy: policy for policy in population.policies}
    begun = dict.fromkeys(population.policies, min(event.step for event in population.events))
    strokes, arrows = [], []
    for event in population.copies:
        donor, policy = event.donor, event.policy
        if donor not in origin:
            continue
        strokes.append(_row(policy, begun[policy], event.step, colors[origin[policy]]))
        arrows.append(Arrow(color=colors[origin[donor]], x=event.step, y_from=donor, y_to=policy))
        origin[policy], begun[policy] = origin[donor], event.step
    strokes += [_row(policy, begun[policy], end, colors[origin[policy]]) for policy in population.policies]
    return Panel(
        title=f"descent (colour: whose first weights; an arrow: takes over; by {population.objective})",
        logarithmic=False,
        strokes=tuple(strokes),
        arrows=tuple(arrows),
        y_ticks=tuple((float(policy), str(policy)) for policy in population.policies),
    )


def _row(policy: int, begin: float, end: float, color: str) -> Stroke:
    return Stroke(color=color, label=f"policy {policy}", xs=(begin, end), ys=(policy, policy), wide=True)


def _values(population: Population, name: str, colors: dict[int, str], end: float) -> Panel:
    """Steps from value to value, in the colour of whose first weights the policy then carries."""
    origin = {policy: policy for policy in population.policies}
    open_: dict[int, tuple[str, list[float], list[float]]] = {}
    strokes: list[Stroke] = []

    def finish(policy: int, until: float) -> None:
        if policy in open_:
            color, xs, ys = open_.pop(policy)
            xs.append(until)
            ys.append(ys[-1])
            strokes.append(Stroke(color=color, label=f"policy {policy}", xs=tuple(xs), ys=tuple(ys)))

    for event in population.events:
        value = event.values.get(name)
        if value is None:
            continue
        policy = event.policy
        if event.donor is not None:
            origin[policy] = origin.get(event.donor, policy)
        color = colors[origin[policy]]
        if policy in open_ and open_[policy][0] != color:
            last = open_[policy][2][-1]
            finish(policy, event.step)
            open_[policy] = (color, [event.step, event.step], [last, value])
        elif policy in open_:
            _, xs, ys = open_[policy]
            xs += [event.step, event.step]
            ys += [ys[-1], value]
        else:
            open_[policy] = (color, [event.step], [value])
    for policy in list(open_):
        finish(policy, end)
    values = [y for stroke in strokes for y in stroke.ys]
    logarithmic = min(values) > 0 and max(values) / min(values) > 3.0
    return Panel(title=name, logarithmic=logarithmic, strokes=tuple(strokes))


def decades(low: float, high: float) -> list[float]:
    """Powers of ten (of 2 and 5 times these where there are few) from `low` to `high`, for a logarithmic axis."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    tens = [10.0**e for e in exponents if low <= 10.0**e <= high]
    if len(tens) >= 3:
        return tens
    return [f * 10.0**e for e in exponents for f in (1.0, 2.0, 5.0) if low <= f * 10.0**e <= high]
