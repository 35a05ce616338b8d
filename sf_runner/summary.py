"""What is told when a run ends: counts, failures grouped by cause, results per configuration. Pure text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sf_runner.estimate import format_duration
from sf_runner.job_state import Failed, JobRecord, Succeeded
from sf_runner.paths import RunPaths
from sf_runner.progress import read_progress
from sf_runner.run_state import RunState

_LOGS_PER_GROUP = 3
_PREFERRED_METRICS = ("true_reward", "reward", "episode_reward", "return", "score", "accuracy", "loss")


@dataclass(frozen=True, kw_only=True)
class FailureGroup:
    """Failed jobs with the same fingerprint."""

    summary: str
    jobs: tuple[JobRecord, ...]


def failure_groups(state: RunState) -> list[FailureGroup]:
    """Largest first."""
    groups: dict[str, list[JobRecord]] = {}
    for record in state.failures():
        assert isinstance(record.state, Failed)
        groups.setdefault(record.state.cause.fingerprint, []).append(record)
    found = [FailureGroup(summary=_cause(records[0]), jobs=tuple(records)) for records in groups.values()]
    return sorted(found, key=lambda group: -len(group.jobs))


def _cause(record: JobRecord) -> str:
    assert isinstance(record.state, Failed)
    return record.state.cause.summary


def summary_lines(state: RunState, run_paths: RunPaths, *, elapsed_s: float, rerun: str) -> list[str]:
    """The closing words. `rerun`: the command that goes on with the run."""
    lines = [f"run {state.run_name}: {headline(state)} in {format_duration(elapsed_s)}"]
    for group in failure_groups(state):
        lines.append(f"  {len(group.jobs)} x {group.summary}")
        for record in group.jobs[:_LOGS_PER_GROUP]:
            assert isinstance(record.state, Failed)
            log = run_paths.job(record.job_id).attempt_log(record.state.attempt)
            attempts = f" ({record.attempts} attempts)" if record.attempts > 1 else ""
            lines.append(f"      {log}{attempts}")
        if len(group.jobs) > _LOGS_PER_GROUP:
            lines.append(f"      and {len(group.jobs) - _LOGS_PER_GROUP} more")
    lines.extend(results_lines(state, run_paths))
    left = state.count("Waiting") + len(state.active)
    if left:
        lines.append(f"{left} experiments are not done; the same command goes on with them: {rerun}")
    elif state.count("Failed"):
        lines.append(f"try the failed ones again: {rerun} --retry_failed")
    return lines


def headline(state: RunState) -> str:
    """How many experiments ended how, in words."""
    if state.count("Succeeded") == state.total:
        return f"all {state.total} experiments succeeded"
    parts = [f"{state.count('Succeeded')} of {state.total} experiments succeeded"]
    for names, text in (
        (("Failed",), "failed"),
        (("Cancelled",), "were cancelled"),
        (("Waiting",), "did not run"),
    ):
        if state.count(*names):
            parts.append(f"{state.count(*names)} {text}")
    if state.active:
        parts.append(f"{len(state.active)} still running")
    return ", ".join(parts)


def results_lines(state: RunState, run_paths: RunPaths) -> list[str]:
    """The last value of the main metric per configuration, mean over its seeds; empty when no job reported one."""
    rows: dict[str, list[float]] = {}
    names: dict[str, str] = {}
    metric = ""
    for record in state.jobs.values():
        if not record.planned or not isinstance(record.state, Succeeded):
            continue
        progress = read_progress(run_paths.job(record.job_id).progress)
        if progress is None or not progress.metrics:
            continue
        metric = metric or main_metric(progress.metrics)
        value = progress.metrics.get(metric)
        if value is not None:
            config = str(record.info.get("config", record.job_id))
            rows.setdefault(config, []).append(float(value))
            names.setdefault(config, configuration_name(record))
    if not rows:
        return []
    width = min(72, max(len(name) for name in names.values()))
    lines = [f"{metric}, last value, mean over seeds:"]
    for config, values in rows.items():
        mean = sum(values) / len(values)
        spread = f"  ({min(values):.4g} to {max(values):.4g}, {len(values)} seeds)" if len(values) > 1 else ""
        lines.append(f"  {names[config]:{width}}  {mean:10.4g}{spread}")
    return lines


def main_metric(metrics: Mapping[str, object]) -> str:
    """The metric people most likely mean by "the result"."""
    for name in _PREFERRED_METRICS:
        if name in metrics:
            return name
    return next(iter(metrics))


def configuration_name(record: JobRecord) -> str:
    """The base name and every parameter but the seed."""
    base = record.job_id.split("/")[0].rstrip("_")
    params = record.info.get("params") or {}
    shown = [f"{name}={value}" for name, value in params.items() if str(value) != record.info.get("seed")]
    return " ".join([base, *shown])


def exit_code(state: RunState, interrupted_by: int | None) -> int:
    """0 when every planned job succeeded, 128 + signal when interrupted before that, else 1."""
    if state.count("Succeeded") == state.total:
        return 0
    return 128 + interrupted_by if interrupted_by is not None else 1
