"""Learning curves as PNG or PDF, for papers and chats. The only importer of matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sf_runner.basics.errors import UsageError
from sf_runner.results.formatting import short_number
from sf_runner.results.plot_data import Plot

_WIDTH_INCHES = 7.0
_HEIGHT_INCHES = 4.2
_PANEL_INCHES = (4.6, 3.4)
_MOST_COLUMNS = 3
_DOTS_PER_INCH = 200
_LEGEND_INSIDE = 6
_LEGEND_ROWS = 22


def write_image(path: Path, plots: Sequence[Plot]) -> None:
    """All plots as panels of one picture. The format follows from the file's ending. UsageError when matplotlib cannot
    be imported."""
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise UsageError(f"--format={path.suffix[1:]} needs matplotlib ({exc}): pip install matplotlib") from exc
    columns = min(len(plots), _MOST_COLUMNS)
    rows = -(-len(plots) // columns)
    size = (_WIDTH_INCHES, _HEIGHT_INCHES) if len(plots) == 1 else (columns * _PANEL_INCHES[0], rows * _PANEL_INCHES[1])
    # The object interface: no global state, no display, nothing to close.
    figure = Figure(figsize=size, layout="constrained")
    for number, plot in enumerate(plots):
        _draw(figure.add_subplot(rows, columns, number + 1), plot)
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def _draw(axes: Any, plot: Plot) -> None:
    for line in plot.lines:
        band, style = line.band, "--" if line.dashed_label else "-"
        axes.fill_between(band.x, band.low, band.high, color=line.color, alpha=0.18, linewidth=0)
        for x, y in line.seeds:
            axes.plot(x, y, color=line.color, alpha=0.45, linewidth=0.6)
        if line.level is not None:
            axes.axhline(line.level, color=line.color, alpha=0.6, linestyle=(0, (1, 3)), linewidth=1.0)
        if line.marks is not None and len(line.marks[0]):
            axes.plot(*line.marks, color=line.color, linestyle="", marker="|", markersize=7, label="_censored")
        for part, fewer in line.stretches():
            axes.plot(band.x[part], band.mean[part], color=line.color, linestyle=":" if fewer else style, linewidth=1.6)
        axes.plot([], [], color=line.color, linestyle=style, label=_shown(line.label))
    axes.set_title(_shown(plot.title), fontsize="medium")
    axes.set_xlabel(plot.x_label)
    axes.set_ylabel(_shown(plot.y_label))
    axes.set_xlim(*plot.x_range)
    axes.set_ylim(*plot.y_range)
    axes.xaxis.set_major_formatter(lambda value, _: short_number(value))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    _add_legend(axes, len(plot.lines))


def _add_legend(axes: Any, count: int) -> None:
    if count > _MOST_COLUMNS * _LEGEND_ROWS:
        return  # nobody could tell the lines apart
    if count <= _LEGEND_INSIDE:
        axes.legend(frameon=False, fontsize="small")
    else:
        columns = -(-count // _LEGEND_ROWS)
        axes.legend(
            frameon=False, fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5), ncols=min(columns, 3)
        )


def _shown(text: str) -> str:
    """Matplotlib takes what is between two dollar signs as mathematics."""
    return text.replace("$", r"\$")
