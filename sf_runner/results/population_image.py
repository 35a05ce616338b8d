"""The picture of a population as PNG or PDF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sf_runner.basics.errors import UsageError
from sf_runner.results.formatting import short_number
from sf_runner.results.population_plot import Panel, Picture

_COLUMN_INCHES, _ROW_INCHES = 4.6, 2.5
_COLUMNS = 2
_DOTS_PER_INCH = 160


def write_population_image(path: Path, picture: Picture) -> None:
    """Descent over the whole width, the numbers in two columns below. The format follows from the file's ending.
    UsageError when matplotlib cannot be imported."""
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise UsageError(f"--format={path.suffix[1:]} needs matplotlib ({exc}): pip install matplotlib") from exc
    descent, numbers = picture.panels[0], picture.panels[1:]
    rows = 1 + -(-len(numbers) // _COLUMNS)
    policies = len(descent.y_ticks)
    first = max(_ROW_INCHES, 0.9 + 0.24 * policies)
    figure = Figure(figsize=(_COLUMNS * _COLUMN_INCHES, first + (rows - 1) * _ROW_INCHES), layout="constrained")
    grid = figure.add_gridspec(rows, _COLUMNS, height_ratios=[first, *[_ROW_INCHES] * (rows - 1)])
    _draw(figure.add_subplot(grid[0, :]), descent, picture)
    for number, panel in enumerate(numbers):
        _draw(figure.add_subplot(grid[1 + number // _COLUMNS, number % _COLUMNS]), panel, picture)
    figure.suptitle(_shown(picture.title), fontsize="medium")
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def _draw(axes: Any, panel: Panel, picture: Picture) -> None:
    for stroke in panel.strokes:
        width = 4.0 if stroke.wide else 1.4
        axes.plot(stroke.xs, stroke.ys, color=stroke.color, linewidth=width, solid_capstyle="butt")
    for arrow in panel.arrows:
        axes.annotate(
            "",
            xy=(arrow.x, arrow.y_to),
            xytext=(arrow.x, arrow.y_from),
            arrowprops={"arrowstyle": "-|>", "color": arrow.color, "linewidth": 1.0, "shrinkA": 0, "shrinkB": 1},
        )
    axes.set_title(_shown(panel.title), fontsize="small")
    axes.set_xlim(*picture.x_range)
    axes.set_xlabel("frames of all policies", fontsize="x-small")
    axes.xaxis.set_major_formatter(lambda value, _: short_number(value))
    if panel.logarithmic:
        axes.set_yscale("log")
    axes.set_ylim(*panel.y_range)
    if panel.y_ticks:
        axes.set_yticks([at for at, _ in panel.y_ticks], [text for _, text in panel.y_ticks])
        axes.set_ylabel("policy", fontsize="small")
        axes.invert_yaxis()
    axes.tick_params(labelsize="x-small", which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2, linewidth=0.6)


def _shown(text: str) -> str:
    return text.replace("$", r"\$")
