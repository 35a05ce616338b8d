"""A report as plain tables, for other programs: CSV, or parquet with the optional pyarrow."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sf_runner.basics.errors import UsageError
from sf_runner.results.analysis import Analysis, Member, MetricAnalysis, Row
from sf_runner.results.population import records as population_records
from sf_runner.results.reaching import Reached

Value = str | int | float | bool | None
Records = Sequence[Mapping[str, Value]]


def configurations(analysis: Analysis) -> list[dict[str, Value]]:
    """One record per metric and configuration. Times are seconds; `None` where there is no number."""
    return [_configuration(metric, row) for metric in analysis.metrics for row in metric.rows]


def _configuration(metric: MetricAnalysis, row: Row) -> dict[str, Value]:
    result = row.aggregate
    record: dict[str, Value] = {"metric": metric.metric.name, "label": row.group.label, **row.group.shown}
    record |= {"experiments": len(row.members), "counted": row.counted, "so_far": row.so_far}
    for name in ("mean", "iqm", "median", "stddev", "min", "max"):
        record[name] = None if result is None else getattr(result, name)
        if name in ("mean", "iqm"):
            interval = None if result is None else getattr(result, f"{name}_interval")
            record[f"{name}_low"] = None if interval is None else interval.low
            record[f"{name}_high"] = None if interval is None else interval.high
    return record | {
        "best": row.best,
        "wall_time_s": row.wall_time_s,
        "fps": row.fps,
        "attempts": row.attempts,
        **_reach(row),
    }


def _reach(row: Row) -> dict[str, Value]:
    """Nothing for a configuration without a threshold: reports that have none keep their columns."""
    found = row.reach
    if found is None:
        return {}
    record: dict[str, Value] = {"threshold": found.threshold, "ended": found.ended, "reached": found.reached}
    record["reached_low"] = None if found.interval is None else found.interval.low
    record["reached_high"] = None if found.interval is None else found.interval.high
    for name, arrival in (("steps", found.steps), ("seconds", found.seconds)):
        for share in (25, 50, 75):
            record[f"{name}_to_it_q{share}"] = None if arrival is None else arrival.quantile(share / 100)
    return record


def experiments(analysis: Analysis) -> list[dict[str, Value]]:
    """One record per metric and experiment."""
    return [
        _experiment(metric, row, member) for metric in analysis.metrics for row in metric.rows for member in row.members
    ]


def _experiment(metric: MetricAnalysis, row: Row, member: Member) -> dict[str, Value]:
    experiment, curve = member.experiment, member.curve
    return {
        "metric": metric.metric.name,
        "run": experiment.run,
        "experiment": experiment.job_id,
        "label": row.group.label,
        **{f"param_{name}": _plain(value) for name, value in experiment.params.items()},
        "seed": experiment.seed,
        "state": experiment.state,
        "counted": member.counted,
        "value": member.value,
        "best": member.best,
        "last_step": float(curve.steps[-1]) if len(curve) else None,
        "wall_time_s": experiment.wall_time_s,
        "fps": member.recorded.fps,
        "attempts": experiment.attempts,
        "policies": member.policies,
        "source": member.recorded.sources.get(metric.metric.name),
        "superseded_values": curve.superseded,
        "not_finite_values": curve.not_finite,
        "error": experiment.error or None,
        **({} if member.reached is None else _reached(row, member.reached)),
    }


def _reached(row: Row, reached: Reached) -> dict[str, Value]:
    """Empty cells where an experiment has not reached it before its `last_step`."""
    threshold = None if row.reach is None else row.reach.threshold
    return {"threshold": threshold, "reached_step": reached.step, "reached_s": reached.elapsed_s}


def curves(analysis: Analysis) -> list[dict[str, Value]]:
    """Learning curves as they are drawn: one record per metric, configuration and position."""
    x_name = "step" if analysis.options.x == "step" else "hours"
    return [
        {"metric": metric.metric.name, "label": row.group.label, **row.group.shown, x_name: x, "mean": mean,
         "low": low, "high": high, "experiments": n}
        for metric in analysis.metrics for row in metric.rows if row.band is not None
        for x, mean, low, high, n in zip(
            row.band.x.tolist(), row.band.mean.tolist(), row.band.low.tolist(), row.band.high.tolist(),
            row.band.n.tolist(), strict=True)
    ]  # fmt: skip


def all_tables(analysis: Analysis) -> Iterator[tuple[str, Records]]:
    """(name of the file without its ending, records)."""
    yield "configurations", configurations(analysis)
    yield "experiments", experiments(analysis)
    yield "curves", curves(analysis)
    if analysis.populations:
        yield "populations", population_records(analysis.populations)


def _plain(value: object) -> Value:
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def columns_of(records: Records) -> list[str]:
    """Every key of any record, in the order met: experiments may have different parameters."""
    return list(dict.fromkeys(key for record in records for key in record))


def write_csv(path: Path, records: Records) -> None:
    """Numbers in full precision; nothing where there is none."""
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, columns_of(records), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)


def write_parquet(path: Path, records: Records) -> None:
    """UsageError naming the extra to install when there is no pyarrow. A column of mixed types becomes text."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError("--format=parquet needs pyarrow: pip install 'sf-runner[parquet]'") from None
    columns = {}
    for name in columns_of(records):
        values = [record.get(name) for record in records]
        kinds = {type(value) for value in values if value is not None}
        if len(kinds) > 1 and not kinds <= {int, float}:
            values = [None if value is None else str(value) for value in values]
        elif kinds == {int, float}:
            values = [None if value is None else float(value) for value in values]
        columns[name] = pa.array(values)
    with path.open("wb") as file:  # not by its name, which need not be UTF-8
        pq.write_table(pa.table(columns), file)
