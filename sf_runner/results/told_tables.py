"""Tables that programs put into `results.json`: scores on the levels of a suite, for instance.

A policy's entry may have `tables`, each with `title`, `columns` and `rows`; cells are texts, numbers or null.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sf_runner.results.experiments import Experiment
from sf_runner.results.formatting import MISSING

_PLACES = 2


@dataclass(frozen=True, kw_only=True)
class ToldTable:
    """One table of one experiment."""

    title: str
    """Says of which experiment."""
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def told_tables(experiments: Sequence[Experiment], policy: int | None) -> list[ToldTable]:
    """Those of the experiments' results, in their order; of several policies those of `policy`, by default of the one
    whose averages the results call the experiment's."""
    found = []
    for experiment in experiments:
        for table in _tables(_results(experiment), policy):
            name = f"{experiment.run}/{experiment.job_id}"
            found.append(ToldTable(title=f"{table.title}: {name}", columns=table.columns, rows=table.rows))
    return found


def _results(experiment: Experiment) -> Mapping[str, Any]:
    try:
        body = json.loads(experiment.paths.results.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def _tables(results: Mapping[str, Any], policy: int | None) -> Iterator[ToldTable]:
    policies = [entry for entry in _list(results.get("policies")) if isinstance(entry, dict)]
    if policy is not None:
        policies = [entry for entry in policies if entry.get("policy") == policy]
    best = next((entry for entry in policies if entry.get("metrics") == results.get("metrics")), None)
    chosen = best or next(iter(policies), {})
    for table in _list(chosen.get("tables")):
        if not isinstance(table, dict):
            continue
        columns = tuple(map(str, _list(table.get("columns"))))
        rows = [tuple(map(_cell, row)) for row in _list(table.get("rows")) if len(_list(row)) == len(columns)]
        if columns and rows:
            yield ToldTable(title=str(table.get("title", "Table")), columns=columns, rows=tuple(rows))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _cell(value: Any) -> str:
    if value is None:
        return MISSING
    return f"{value:.{_PLACES}f}" if isinstance(value, float) else str(value)
