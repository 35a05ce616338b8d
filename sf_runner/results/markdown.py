"""A report as Markdown whose tables are aligned, so that it reads as well in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from sf_runner.results.analysis import Analysis, AnalysisOptions, MetricAnalysis, Row
from sf_runner.results.experiments import RECORDED
from sf_runner.results.formatting import MISSING, decimals, number, plural
from sf_runner.results.notes import notes
from sf_runner.results.population import Population, descent_lines, summary_rows
from sf_runner.results.reach_table import reach_cells, reach_explanation, reach_header
from sf_runner.results.statistics import CONFIDENCE, RESAMPLES
from sf_runner.state.estimate import format_duration

_VALUE_RULES = {
    "last": "the last value of each experiment",
    "tail": "the mean over the last tenth of each experiment's steps",
    "best": "the best value of each experiment",
    "mean": "the mean over all steps of each experiment",
}
SO_FAR = "†"
STATE_ORDER = ("succeeded", RECORDED, "running", "starting", "ending", "retrying", "waiting", "failed", "cancelled")


def markdown(analysis: Analysis) -> str:
    """The whole report."""
    lines = [f"# {analysis.title}", "", headline(analysis), ""]
    for metric in analysis.metrics:
        lines += [
            f"## {metric.metric.name}",
            "",
            *table_lines(metric, analysis),
            "",
            explanation(metric, analysis.options),
            "",
        ]
        if metric.reaches:
            lines += [f"### {metric.metric.name}: threshold reached", "", *reach_lines(metric, analysis), ""]
            lines += [reach_explanation(), ""]
    if analysis.populations:
        lines += ["## Populations", "", *population_lines(analysis.populations), ""]
    for told_table in analysis.tables:
        lines += [f"## {told_table.title}", "", *aligned(told_table.columns, told_table.rows, left=1), ""]
    told = notes(analysis)
    if told:
        lines += ["## Notes", "", *(f"- {line}" for line in told), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def population_lines(populations: Sequence[Population]) -> list[str]:
    """A table over the experiments; of a single one also from whom each policy comes."""
    names, rows = summary_rows(populations)
    lines = aligned(names, rows, left=1)
    if len(populations) == 1:
        lines += ["", "Each policy, whom it took over from, and its numbers from that one's start to now:", ""]
        lines += [f"- {line}" for line in descent_lines(populations[0])]
    return lines


def headline(analysis: Analysis) -> str:
    """How much there is, how it ended, and what is the same everywhere."""
    experiments = analysis.experiments
    counts = [(state, sum(e.state == state for e in experiments)) for state in STATE_ORDER]
    states = ", ".join(f"{count} {state}" for state, count in counts if count)
    text = (
        f"{plural(len(analysis.grouping.groups), 'configuration')}, {plural(len(experiments), 'experiment')}: {states}."
    )
    constants = {
        name: value for name, value in analysis.grouping.constants.items() if name not in ("run", "experiment")
    }
    if constants:
        text += " Same in all: " + ", ".join(f"{name}={value}" for name, value in constants.items()) + "."
    return text


def header(analysis: Analysis) -> list[str]:
    """Names of the table's columns."""
    interval = f"{CONFIDENCE * 100:g} % interval"
    return [*analysis.grouping.columns, "seeds", "mean", interval, "IQM", "best", "wall time", "fps", "attempts"]


def table(metric: MetricAnalysis, analysis: Analysis) -> list[list[str]]:
    """The cells, one list per configuration, in the order of `header`."""
    aggregates = [row.aggregate for row in metric.rows if row.aggregate is not None]
    places = decimals([value for a in aggregates for value in (a.mean, a.iqm, a.min, a.max)])
    return [_cells(row, analysis.grouping.columns, places) for row in metric.rows]


def _cells(row: Row, columns: Sequence[str], places: int | None) -> list[str]:
    result = row.aggregate
    interval = None if result is None else result.mean_interval
    mark = SO_FAR if row.so_far else ""
    bounds = MISSING if interval is None else f"[{number(interval.low, places)}, {number(interval.high, places)}]"
    return [
        *(row.group.shown[name] or MISSING for name in columns),
        f"{row.counted}/{len(row.members)}{mark}",
        number(None if result is None else result.mean, places),
        bounds,
        number(None if result is None else result.iqm, places),
        number(row.best, places),
        MISSING if row.wall_time_s is None else format_duration(row.wall_time_s),
        MISSING if row.fps is None else f"{row.fps:,.0f}",
        str(row.attempts),
    ]


def table_lines(metric: MetricAnalysis, analysis: Analysis) -> list[str]:
    """The aligned Markdown table; the best mean of every task is bold."""
    names = header(analysis)
    rows = table(metric, analysis)
    mean = names.index("mean")
    for index in metric.winners:
        rows[index][mean] = f"**{rows[index][mean]}**"
    return aligned(names, rows, left=len(analysis.grouping.columns))


def reach_lines(metric: MetricAnalysis, analysis: Analysis) -> list[str]:
    """The aligned Markdown table of who reached the threshold, and when."""
    rows = [reach_cells(row, analysis) for row in metric.rows if row.reach is not None]
    return aligned(reach_header(analysis), rows, left=len(analysis.grouping.columns))


def aligned(names: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """A Markdown table; the first `left` columns are set flush left unless they hold numbers, the others right."""
    cells = [[_escaped(cell) for cell in row] for row in (names, *rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(names))]
    flush_left = [i < left and not all(_is_numeric(row[i]) for row in rows) for i in range(len(names))]

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if flush else cell.rjust(width)
            for cell, width, flush in zip(row, widths, flush_left, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if flush else "-" * (width - 1) + ":" for width, flush in zip(widths, flush_left, strict=True)]
    return [line(cells[0]), f"| {' | '.join(rule)} |", *map(line, cells[1:])]


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _is_numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == MISSING
    return True


def explanation(metric: MetricAnalysis, options: AnalysisOptions) -> str:
    """How the table's numbers were made."""
    counted = "that succeeded" if options.include == "finished" else "with any value"
    direction = "lowest" if metric.metric.lower_is_better else "highest"
    text = (
        f"Of {_VALUE_RULES[options.value]} {counted}: mean, {CONFIDENCE * 100:g} % percentile interval of "
        f"{RESAMPLES:,} bootstrap resamples of the mean, interquartile mean. Best: the {direction} value any of them "
        "reached. Wall time, of all attempts, and fps are means per experiment; attempts are a sum."
    )
    if any(row.so_far for row in metric.rows):
        text += f" {SO_FAR}: values so far; none of its experiments has finished."
    return text
