"""A report as one HTML page that needs nothing but itself: it can be mailed, archived and opened offline."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from sf_runner.results.analysis import Analysis, Member, MetricAnalysis
from sf_runner.results.formatting import MISSING, decimals, number, step_text
from sf_runner.results.markdown import explanation, header, headline, table
from sf_runner.results.notes import notes
from sf_runner.results.page_assets import SCRIPT, STYLE
from sf_runner.results.plot_data import Plot, arrival_plots_of, plots_of
from sf_runner.results.population import Population, descent_lines
from sf_runner.results.population_plot import picture_of
from sf_runner.results.population_svg import population_svg
from sf_runner.results.reach_table import reach_cells, reach_explanation, reach_header
from sf_runner.results.svg import plot_data, plot_svg
from sf_runner.state.estimate import format_duration

_HINT = "Point at the plot for its values. A click on a name hides its curve, one on a column's head sorts the table."
_DOTTED = " Dotted: fewer experiments than elsewhere on the curve."


def page(analysis: Analysis, *, made: str) -> str:
    """`made`: when and how, for the foot of the page."""
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(analysis.title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>",
        f"<h1>{escape(analysis.title)}</h1>\n<p>{escape(headline(analysis))}</p>",
    ]
    for metric in analysis.metrics:
        parts.extend(_metric(metric, analysis))
    if analysis.populations:
        parts.append("<h2>Populations</h2>")
        parts.extend(_population(population) for population in analysis.populations)
    for told_table in analysis.tables:
        parts.append(f"<h2>{escape(told_table.title)}</h2>")
        rows = [_table_row(row, [None] * len(row), 1, set(), None) for row in told_table.rows]
        parts.append(_table(told_table.columns, rows, 1))
    told = notes(analysis)
    if told:
        parts.append("<h2>Notes</h2>\n<ul>" + "".join(f"\n<li>{escape(line)}</li>" for line in told) + "\n</ul>")
    for metric in analysis.metrics:
        parts.extend(_experiments(metric, analysis))
    parts.append(f"<footer><p>{escape(made)}</p></footer>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n")
    return "\n".join(parts)


def _metric(metric: MetricAnalysis, analysis: Analysis) -> Iterator[str]:
    yield f"<h2>{escape(metric.metric.name)}</h2>"
    plots = plots_of(metric, analysis)
    labels = len(analysis.grouping.columns)
    colors = {id(line.band): line.color for plot in plots for line in plot.lines}
    rows = []
    for index, (row, cells) in enumerate(zip(metric.rows, table(metric, analysis), strict=True)):
        keys: list[object] = [*cells[:labels], row.counted, None, None, None, row.best, row.wall_time_s, row.fps, None]
        if row.aggregate is not None:
            interval = row.aggregate.mean_interval
            keys[labels + 1 : labels + 4] = [row.aggregate.mean, interval.low if interval else None, row.aggregate.iqm]
        best = {labels + 1} if index in metric.winners else set()
        rows.append(_table_row(cells, keys, labels, best, colors.get(id(row.band))))
    yield _table(header(analysis), rows, labels)
    yield f'<p class="dim">{escape(explanation(metric, analysis.options))}</p>'
    for plot in plots:
        yield from _titled(plot)
    if metric.reaches:
        yield from _reached(metric, analysis)


def _titled(plot: Plot) -> Iterator[str]:
    if plot.title:
        yield f"<h3>{escape(plot.title)}</h3>"
    yield _figure(plot)


def _reached(metric: MetricAnalysis, analysis: Analysis) -> Iterator[str]:
    """How many reached the threshold, and when."""
    yield f"<h2>{escape(metric.metric.name)}: threshold reached</h2>"
    labels = len(analysis.grouping.columns)
    rows = []
    for row in metric.rows:
        if row.reach is not None:
            cells, steps, seconds = reach_cells(row, analysis), row.reach.steps, row.reach.seconds
            keys: list[object] = [*cells[:labels], row.reach.threshold, row.reach.share, None]
            for arrival in (steps, seconds):
                keys += [math.inf if arrival is None else arrival.quantile(0.5) or math.inf, None]
            rows.append(_table_row(cells, keys, labels, set(), None))
    yield _table(reach_header(analysis), rows, labels)
    yield f'<p class="dim">{escape(reach_explanation())}</p>'
    for plot in arrival_plots_of(metric, analysis):
        yield from _titled(plot)


def _population(population: Population) -> str:
    """Folded away, but for the first look at what there is."""
    name, copies = escape(population.experiment.name), len(population.copies)
    lines = "".join(f"\n<li>{escape(line)}</li>" for line in descent_lines(population))
    return (
        f"<details>\n<summary>{name}: {population.num_exchanges} exchanges, {copies} times taken over</summary>\n"
        f"{population_svg(picture_of(population))}\n<ul>{lines}\n</ul>\n</details>"
    )


def _figure(plot: Plot) -> str:
    buttons = "".join(
        f'<button type="button" aria-pressed="true" style="--c:{line.color}">'
        f'<span class="swatch{" dashed" * line.dashed_label}"></span>{escape(line.label)}</button>'
        for line in plot.lines
    )
    dotted = any(fewer for line in plot.lines for _, fewer in line.stretches())
    readout_em = 1.5 * min(len(plot.lines) + 1, 16)  # room for its lines, so that what follows stays where it is
    return (
        f'<figure style="margin:0">\n{plot_svg(plot)}\n<div class="legend">{buttons}</div>\n'
        f'<div class="readout" style="min-height: {readout_em}em">{_HINT}{_DOTTED * dotted}</div>\n'
        f'<script type="application/json">{plot_data(plot)}</script>\n</figure>'
    )


def _experiments(metric: MetricAnalysis, analysis: Analysis) -> Iterator[str]:
    """Every experiment, folded away."""
    names = [
        *analysis.grouping.columns,
        "seed",
        "state",
        "counts",
        "value",
        "best",
        "last step",
        "wall time",
        "attempts",
        "error",
    ]
    labels = len(analysis.grouping.columns)
    members = [(row, member) for row in metric.rows for member in row.members]
    places = decimals([value for _, member in members for value in (member.value, member.best)])
    rows = []
    for row, member in members:
        cells = [
            *(row.group.shown[name] or MISSING for name in analysis.grouping.columns),
            *_member_cells(member, places),
        ]
        last_step = float(member.curve.steps[-1]) if len(member.curve) else None
        keys: list[object] = [*cells[: labels + 3], member.value, member.best, last_step, member.experiment.wall_time_s]
        rows.append(_table_row(cells, [*keys, None, None], labels, set(), None, long_column=len(cells) - 1))
    title = "Experiments" if len(analysis.metrics) == 1 else f"Experiments: {metric.metric.name}"
    yield f"<details>\n<summary>{escape(title)}</summary>\n{_table(names, rows, labels)}\n</details>"


def _member_cells(member: Member, places: int | None) -> list[str]:
    experiment = member.experiment
    return [
        MISSING if experiment.seed is None else experiment.seed,
        experiment.state,
        "yes" if member.counted else "no",
        number(member.value, places),
        number(member.best, places),
        step_text(member.curve.steps[-1]) if len(member.curve) else MISSING,
        MISSING if experiment.wall_time_s is None else format_duration(experiment.wall_time_s),
        str(experiment.attempts),
        experiment.error,
    ]


def _table(names: Sequence[str], rows: Sequence[str], labels: int) -> str:
    heads = "".join(
        f'<th scope="col"{" class=text" * (index < labels)}>{escape(name)}</th>' for index, name in enumerate(names)
    )
    body = "\n".join(rows)
    return f'<div class="scroll"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _table_row(
    cells: Sequence[str],
    keys: Sequence[object],
    labels: int,
    best: set[int],
    color: str | None,
    long_column: int | None = None,
) -> str:
    """`keys`: what to sort by where the text will not do; None: the text."""
    parts = []
    for index, (cell, key) in enumerate(zip(cells, keys, strict=True)):
        kinds = [
            name
            for name, holds in (("text", index < labels), ("best", index in best), ("text long", index == long_column))
            if holds
        ]
        attributes = f' class="{" ".join(kinds)}"' if kinds else ""
        if isinstance(key, int | float):
            attributes += f' data-key="{key!r}"'
        swatch = f'<span class="swatch" style="--c:{color}"></span>' if color and index == 0 else ""
        parts.append(f"<td{attributes}>{swatch}{escape(cell)}</td>")
    return f"<tr>{''.join(parts)}</tr>"
