"""The table at the end of a run: the last values that experiments told, per configuration. Reads one small file for
each experiment."""

from __future__ import annotations

from collections.abc import Sequence

from sf_runner.basics.paths import RunPaths, attempt_files
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import Succeeded

MOST_ROWS = 20


def closing_lines(state: RunState, paths: RunPaths) -> list[str]:
    """Lines to print; empty when no experiment that succeeded told a metric.

    The metric is the one that `sf_runner.report` would choose from progress files. Never raises for what files hold.
    """
    last = _last_metrics(state, paths)
    if not any(last.values()):
        return []
    # Not before there is something to compute: a run of programs that tell nothing needs no numpy.
    from sf_runner.results.experiments import experiments_of
    from sf_runner.results.formatting import decimals, number
    from sf_runner.results.grouping import Group, group
    from sf_runner.results.metrics import choose
    from sf_runner.results.statistics import aggregate

    names = list(dict.fromkeys(name for metrics in last.values() for name in metrics))
    metric = choose([], {"progress": names}, minimize=None)[0]
    grouping = group(experiments_of(state, paths, now=state.last_event_at))
    rows: list[tuple[Group, list[float]]] = []
    for found in grouping.groups:
        values = [last[e.job_id][metric.name] for e in found.members if metric.name in last.get(e.job_id, {})]
        if values:
            rows.append((found, values))
    results = [(found, aggregate(values)) for found, values in rows[:MOST_ROWS]]
    places = decimals([value for _, result in results for value in (result.mean, result.min, result.max)])
    table = [(*grouping.columns, "seeds", "mean", "95 % interval", "least", "greatest")]
    for found, result in results:
        interval = result.mean_interval
        bounds = f"[{number(interval.low, places)}, {number(interval.high, places)}]" if interval else ""
        cells = [number(value, places) for value in (result.mean, result.min, result.max)]
        table.append((*found.shown.values(), f"{result.n}/{len(found.members)}", cells[0], bounds, *cells[1:]))
    lines = [f"{metric.name}, last value of each experiment that succeeded:", *_aligned(table, len(grouping.columns))]
    if len(rows) > MOST_ROWS:
        lines.append(f"  and {len(rows) - MOST_ROWS} more configurations")
    return [*lines, f"learning curves and more: python -m sf_runner.report {paths.words}"]


def _last_metrics(state: RunState, paths: RunPaths) -> dict[str, dict[str, float]]:
    """By job that succeeded: the numbers in its progress file."""
    from sf_runner.progress import read_progress

    found: dict[str, dict[str, float]] = {}
    root = str(paths.root)
    for record in state.jobs.values():
        if record.planned and isinstance(record.state, Succeeded):
            progress = read_progress(attempt_files(root, record.job_id, record.attempts)[2])
            found[record.job_id] = dict(progress.metrics) if progress is not None else {}
    return found


def _aligned(table: Sequence[Sequence[str]], left: int) -> list[str]:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
