"""What is told when a run ends: counts, failures grouped by cause, results per configuration. Pure text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from sf_runner.basics.paths import NO_LOG, RunPaths, attempt_files
from sf_runner.progress import read_progress
from sf_runner.state.estimate import format_duration
from sf_runner.state.failures import failure_groups
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import JobRecord, Succeeded, Waiting

_LOGS_PER_GROUP = 3
_PREFERRED_METRICS = ("true_reward", "reward", "episode_reward", "return", "score", "accuracy", "loss")


def summary_lines(
    state: RunState, run_paths: RunPaths, *, elapsed_s: float, rerun: str, results: Sequence[str] | None = None
) -> list[str]:
    """The closing words. `rerun`: the command that goes on with the run; `results`: what is told of the results, None:
    `results_lines`."""
    lines = [f"run {state.run_name}: {headline(state)} in {format_duration(elapsed_s)}"]
    for group in failure_groups(state):
        lines.append(f"  {len(group.jobs)} x {group.summary}")
        for record in group.jobs[:_LOGS_PER_GROUP]:
            paths = run_paths.job(record.job_id)
            has_log = paths.has_log(record.attempts)
            shown = paths.attempt_log(record.attempts) if has_log else f"{record.job_id} ({NO_LOG})"
            attempts = f" ({record.attempts} attempts)" if record.attempts > 1 else ""
            lines.append(f"      {shown}{attempts}")
        if len(group.jobs) > _LOGS_PER_GROUP:
            lines.append(f"      and {len(group.jobs) - _LOGS_PER_GROUP} more")
    lines.extend(results_lines(state, run_paths) if results is None else results)
    left = state.count("Waiting") + len(state.active)
    if left:
        lines.append(f"{left} experiments are not done; the same command goes on with them: {rerun}")
    elif state.count("Failed"):
        lines.append(f"try the failed ones again: {_with(rerun, '--retry_failed')}")
    elif state.count("Cancelled"):
        lines.append(f"run the cancelled ones after all: {_with(rerun, '--retry_cancelled')}")
    return lines


def _with(command: str, flag: str) -> str:
    return command if flag in command.split() else f"{command} {flag}"


def headline(state: RunState) -> str:
    """How many experiments ended how, in words."""
    if state.count("Succeeded") == state.total:
        return f"all {state.total} experiments succeeded"
    parts = [f"{state.count('Succeeded')} of {state.total} experiments succeeded"]
    waiting = [r.attempts > 0 for r in state.jobs.values() if r.planned and isinstance(r.state, Waiting)]
    for count, text in (
        (state.count("Failed"), "failed"),
        (state.count("Cancelled"), "cancelled"),
        (sum(waiting), "unfinished"),
        (len(waiting) - sum(waiting), "did not run"),
    ):
        if count:
            parts.append(f"{count} {text}")
    if state.active:
        parts.append(f"{len(state.active)} still running")
    return ", ".join(parts)


def results_lines(state: RunState, run_paths: RunPaths) -> list[str]:
    """The last value of the main metric per configuration, mean over its seeds; empty when no job reported one."""
    values: dict[str, dict[str, list[float]]] = {}
    first: dict[str, JobRecord] = {}
    root = str(run_paths.root)
    for record in state.jobs.values():
        if not record.planned or not isinstance(record.state, Succeeded):
            continue
        progress = read_progress(attempt_files(root, record.job_id, record.attempts)[2])
        if progress is None or not progress.metrics:
            continue
        config = record.config or record.job_id
        first.setdefault(config, record)
        metric = main_metric(progress.metrics)
        values.setdefault(metric, {}).setdefault(config, []).append(progress.metrics[metric])
    names = configuration_names(first)
    width = min(72, max(map(len, names.values()), default=0))
    lines = []
    for metric, rows in values.items():
        lines.append(f"{metric}, last value, mean over seeds:")
        for config, numbers in rows.items():
            spread = f"  ({min(numbers):.4g} to {max(numbers):.4g}, {len(numbers)} seeds)" if len(numbers) > 1 else ""
            lines.append(f"  {names[config]:{width}}  {sum(numbers) / len(numbers):10.4g}{spread}")
    return lines


def main_metric(metrics: Mapping[str, object]) -> str:
    """The metric people most likely mean by "the result"."""
    for name in _PREFERRED_METRICS:
        if name in metrics:
            return name
    return next(iter(metrics))


def configuration_names(first: Mapping[str, JobRecord]) -> dict[str, str]:
    """By configuration, given one job of each: its base name and every parameter but the seed.

    Configurations that this does not tell apart (they differ in their command or environment) get the job's name.
    """
    names = {config: _configuration_name(record) for config, record in first.items()}
    alike = Counter(names.values())
    return {
        config: name if alike[name] == 1 else f"{name} ({first[config].job_id.rpartition('/')[2]})"
        for config, name in names.items()
    }


def _configuration_name(record: JobRecord) -> str:
    base = record.job_id.split("/")[0].rstrip("_")
    shown = (f"{name}={value}" for name, value in record.params.items() if name != record.seed_param)
    return " ".join([base, *shown])


def exit_code(state: RunState, interrupted_by: int | None) -> int:
    """0 when every planned job succeeded, 128 + signal when interrupted before that, else 1."""
    if state.count("Succeeded") == state.total:
        return 0
    return 128 + interrupted_by if interrupted_by is not None else 1


def detached_lines(state: RunState, run_paths: RunPaths) -> list[str]:
    """What a person is told who submits and leaves."""
    where = f"{run_paths.run_name} --train_dir={run_paths.train_dir}"
    left = state.count("Waiting")
    rest = [f"{left} {'is' if left == 1 else 'are'} not submitted; the same command goes on with what is left"] * bool(
        left
    )
    return [
        *rest,
        f"{len(state.active)} experiments are submitted and go on without this command; to come back:",
        f"  python -m sf_runner.status {where} --watch",
        "or start the same command again, without --detach to stay with it",
    ]
