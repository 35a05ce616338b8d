"""The picture of a population as SVG for the report's page; colours of text and rules from the page's style."""

from __future__ import annotations

import math
from html import escape

from sf_runner.results.formatting import tick_labels
from sf_runner.results.plot_data import ticks
from sf_runner.results.population_plot import Panel, Picture, decades

_WIDTH, _PANEL_WIDTH, _PANEL_HEIGHT, _GAP = 900, 442, 190, 16
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 10, 24, 26
_ROW_HEIGHT = 18


class _Place:
    """Where a panel lies, and where its values lie in it."""

    def __init__(self, panel: Panel, x_range: tuple[float, float], box: tuple[float, float, float, float]) -> None:
        self.panel = panel
        self.left, self.top = box[0] + _LEFT, box[1] + _TOP
        self.right, self.bottom = box[0] + box[2] - _RIGHT, box[1] + box[3] - _BOTTOM
        self._x_range = x_range
        self._y_range = (self._level(panel.y_range[0]), self._level(panel.y_range[1]))

    def _level(self, value: float) -> float:
        return math.log10(value) if self.panel.logarithmic else value

    def x(self, value: float) -> float:
        low, high = self._x_range
        return self.left + (value - low) / ((high - low) or 1.0) * (self.right - self.left)

    def y(self, value: float) -> float:
        low, high = self._y_range
        share = (self._level(value) - low) / ((high - low) or 1.0)
        if self.panel.y_ticks:  # policies: the first on top
            share = 1.0 - share
        return self.bottom - share * (self.bottom - self.top)


def population_svg(picture: Picture) -> str:
    """One `<svg>` element: descent over the whole width, the numbers in two columns below."""
    descent, numbers = picture.panels[0], picture.panels[1:]
    first = max(_PANEL_HEIGHT, _TOP + _BOTTOM + _ROW_HEIGHT * len(descent.y_ticks))
    rows = -(-len(numbers) // 2)
    height = first + rows * (_PANEL_HEIGHT + _GAP)
    title = escape(f"Population of {picture.title}")
    parts = [
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{title}" '
        f'xmlns="http://www.w3.org/2000/svg">',
        f"<title>{title}</title>",
        *_panel(_Place(descent, picture.x_range, (0, 0, _WIDTH, first))),
    ]
    for number, panel in enumerate(numbers):
        at = ((number % 2) * (_PANEL_WIDTH + _GAP), first + _GAP + (number // 2) * (_PANEL_HEIGHT + _GAP))
        parts += _panel(_Place(panel, picture.x_range, (*at, _PANEL_WIDTH, _PANEL_HEIGHT)))
    return "\n".join([*parts, "</svg>"])


def _panel(place: _Place) -> list[str]:
    panel = place.panel
    parts = [f'<text class="label" x="{place.left}" y="{place.top - 9:.1f}">{escape(panel.title)}</text>']
    parts += _marks(place)
    for stroke in panel.strokes:
        points = " ".join(f"{place.x(x):.1f},{place.y(y):.1f}" for x, y in zip(stroke.xs, stroke.ys, strict=True))
        width = ' style="--c:%s;stroke-width:5"' if stroke.wide else ' style="--c:%s"'
        label = escape(f"{stroke.label}")
        parts.append(
            f'<polyline class="mean"{width % stroke.color} points="{points}"><title>{label}</title></polyline>'
        )
    for arrow in panel.arrows:
        x, begin, end = place.x(arrow.x), place.y(arrow.y_from), place.y(arrow.y_to)
        tip = 6 if end > begin else -6
        parts.append(
            f'<path d="M{x:.1f},{begin:.1f}V{end:.1f}m-3,{-tip}l3,{tip}l3,{-tip}" fill="none" '
            f'stroke="{arrow.color}" stroke-width="1.3"/>'
        )
    return parts


def _marks(place: _Place) -> list[str]:
    panel, (low, high) = place.panel, place.panel.y_range
    if panel.y_ticks:
        marked = list(panel.y_ticks)
    else:
        at = decades(low, high) if panel.logarithmic else ticks(low, high, 4)
        labels = [f"{value:g}" for value in at] if panel.logarithmic else tick_labels(at)
        marked = list(zip(at, labels, strict=True))
    parts = []
    for value, text in marked:
        y = place.y(value)
        parts.append(f'<line class="grid" x1="{place.left}" x2="{place.right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{place.left - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    steps = ticks(*place._x_range, 5)
    for value, text in zip(steps, tick_labels(steps), strict=True):
        x = place.x(value)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{place.bottom + 16:.1f}" text-anchor="middle">{text}</text>')
    parts.append(
        f'<line class="axis" x1="{place.left}" x2="{place.right}" y1="{place.bottom:.1f}" y2="{place.bottom:.1f}"/>'
    )
    return parts
