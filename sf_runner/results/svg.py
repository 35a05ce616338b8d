"""Learning curves as SVG for the report's page: no library, no outside resource, colours from the page's style."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape

from sf_runner.results.formatting import number, step_text, tick_labels
from sf_runner.results.plot_data import Line, Plot, ticks

_WIDTH, _HEIGHT = 900, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 14, 46


class _Axes:
    """From values to positions on the drawing."""

    def __init__(self, plot: Plot) -> None:
        self.x_low, self.x_high = plot.x_range
        self.y_low, self.y_high = plot.y_range

    def x(self, value: float) -> float:
        return _LEFT + (value - self.x_low) / ((self.x_high - self.x_low) or 1.0) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - self.y_low) / (self.y_high - self.y_low) * (_HEIGHT - _TOP - _BOTTOM)

    def points(self, xs: Iterable[float], ys: Iterable[float]) -> str:
        return " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in zip(xs, ys, strict=True))


def plot_svg(plot: Plot) -> str:
    """One `<svg>` element. Curve i has the class `curve` and `data-line="i"`."""
    axes = _Axes(plot)
    title = escape(" ".join(filter(None, ("Learning curves:", plot.y_label, plot.title))))
    parts = [
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}" '
        'xmlns="http://www.w3.org/2000/svg">',
        f"<title>{title}</title>",
        *_frame(plot, axes),
        *(_curve(line, index, axes) for index, line in enumerate(plot.lines)),
        f'<line class="guide" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" x1="0" x2="0" visibility="hidden"/>',
        "</svg>",
    ]
    return "\n".join(parts)


def _frame(plot: Plot, axes: _Axes) -> list[str]:
    left, right, top, bottom = _LEFT, _WIDTH - _RIGHT, _TOP, _HEIGHT - _BOTTOM
    parts = []
    marks = ticks(axes.y_low, axes.y_high)
    for value, label in zip(marks, tick_labels(marks), strict=True):
        y = axes.y(value)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    marks = ticks(axes.x_low, axes.x_high, 8)
    for value, label in zip(marks, tick_labels(marks), strict=True):
        x = axes.x(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{label}</text>')
    parts.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    middle = (left + right) / 2
    parts.append(
        f'<text class="label" x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(plot.x_label)}</text>'
    )
    return parts


def _curve(line: Line, index: int, axes: _Axes) -> str:
    band = line.band
    around = axes.points([*band.x.tolist(), *band.x[::-1].tolist()], [*band.high.tolist(), *band.low[::-1].tolist()])
    parts = [f'<g class="curve" data-line="{index}" style="--c:{line.color}"><polygon class="band" points="{around}"/>']
    for x, y in line.seeds:
        parts.append(f'<polyline class="seed" points="{axes.points(x.tolist(), y.tolist())}"/>')
    if line.level is not None:
        y_level = f"{axes.y(line.level):.1f}"
        parts.append(f'<line class="level" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y_level}" y2="{y_level}"/>')
    if line.marks is not None:
        for x_mark, y_mark in zip(*(part.tolist() for part in line.marks), strict=True):
            parts.append(f'<path class="mark" d="M{axes.x(x_mark):.1f} {axes.y(y_mark) - 5:.1f}v10"/>')
    for part, fewer in line.stretches():
        style = ' stroke-dasharray="2 4"' if fewer else (' stroke-dasharray="9 4"' if line.dashed_label else "")
        points = axes.points(band.x[part].tolist(), band.mean[part].tolist())
        parts.append(f'<polyline class="mean"{style} points="{points}"/>')
    return "".join([*parts, "</g>"])


def plot_data(plot: Plot) -> str:
    """What the page's script shows under the pointer, as JSON that may stand in a `<script>` element: positions on the
    drawing, and texts."""
    axes = _Axes(plot)
    places = 3 if max(abs(axes.y_low), abs(axes.y_high)) < 100 else 1
    lines = []
    for line in plot.lines:
        band = line.band
        texts = [
            f"{number(mean, places)}  [{number(low, places)}, {number(high, places)}]  n={n}"
            for mean, low, high, n in zip(
                band.mean.tolist(), band.low.tolist(), band.high.tolist(), band.n.tolist(), strict=True
            )
        ]
        lines.append({
            "x": [round(axes.x(x), 1) for x in band.x.tolist()],
            "at": [step_text(x) for x in band.x.round(3).tolist()],
            "text": texts,
        })  # fmt: skip
    return json.dumps({"width": _WIDTH, "lines": lines}, ensure_ascii=True).replace("<", "\\u003c")
