"""What a reader must know about a report's numbers: what is missing, differs, was left out or written twice."""

from __future__ import annotations

from collections.abc import Iterator

from sf_runner.results.analysis import Analysis, Member, MetricAnalysis, Row
from sf_runner.results.formatting import plural, step_text
from sf_runner.results.statistics import ALIKE_SHARE

_FEW = 5
_LISTED_PER_KIND = 12


def notes(analysis: Analysis) -> list[str]:
    """Sentences, most important first; each kind at most a dozen times."""
    lines: list[str] = []
    for metric in analysis.metrics:
        kinds = [
            [line for row in metric.rows for line in _left_out(row, analysis)],
            [line for row in metric.rows for line in _missing_seeds(row, analysis)],
            [line for row in metric.rows for member in row.members for line in _damage(row, member)],
            [line for row in metric.rows for line in _lengths(row, metric)],
            list(_sources(metric)),
            list(_about_all(metric, analysis)),
        ]
        found = [line for kind in kinds for line in _at_most(kind, _LISTED_PER_KIND)]
        prefix = f"{metric.metric.name}: " if len(analysis.metrics) > 1 else ""
        lines.extend(line for text in found if (line := prefix + text) not in lines)
    rows = [row.aggregate for metric in analysis.metrics for row in metric.rows if row.aggregate is not None]
    if any(1 < result.n < _FEW for result in rows):
        lines.append(f"intervals from fewer than {_FEW} experiments are rough, and rather too narrow")
    return lines


def _at_most(lines: list[str], count: int) -> list[str]:
    if len(lines) <= count:
        return lines
    return [*lines[:count], f"... and {len(lines) - count} more of this kind: see experiments.csv"]


def _who(row: Row, member: Member) -> str:
    experiment = member.experiment
    seed = f"seed {experiment.seed}" if experiment.seed is not None else experiment.name
    return f"{row.group.label}, {seed}"


def _left_out(row: Row, analysis: Analysis) -> Iterator[str]:
    """Experiments that do not count, and why."""
    for member in row.members:
        experiment, curve = member.experiment, member.curve
        if member.counted:
            continue
        if curve.ends_not_finite:
            yield f"{_who(row, member)}: its last value is not finite; not counted"
            continue
        reached = f" at step {step_text(curve.steps[-1])}" if len(curve) else ""
        error = f" ({experiment.error})" if experiment.error else ""
        if experiment.succeeded:
            yield f"{_who(row, member)}: has recorded no value"
        elif experiment.state == "waiting":
            yield f"{_who(row, member)}: has not started"
        else:
            yield f"{_who(row, member)}: {experiment.state}{reached}{error}; not counted"
    if row.so_far:
        yield f"{row.group.label}: no experiment has finished; the values are those so far"
    elif analysis.options.include == "all":
        for member in row.members:
            if member.counted and not member.experiment.succeeded:
                yield f"{_who(row, member)}: {member.experiment.state}; counted with its values so far"


def _missing_seeds(row: Row, analysis: Analysis) -> Iterator[str]:
    """Seeds that other configurations have."""
    if analysis.options.group_by is not None:
        return
    everywhere = {seed: None for found in analysis.grouping.groups for seed in found.seeds}
    missing = [seed for seed in everywhere if seed not in row.group.seeds]
    if missing and row.group.seeds:
        yield f"{row.group.label}: without {plural(len(missing), 'seed')} that others have ({', '.join(missing[:8])})"


def _damage(row: Row, member: Member) -> Iterator[str]:
    curve, experiment = member.curve, member.experiment
    if curve.not_finite:
        yield f"{_who(row, member)}: {plural(curve.not_finite, 'value')} not finite, left out"
    if curve.superseded:
        attempts = f"{experiment.attempts} attempts; " if experiment.attempts > 1 else ""
        yield (
            f"{_who(row, member)}: {attempts}{plural(curve.superseded, 'value')} from before a restart "
            "replaced by what was trained again"
        )
    elif experiment.attempts > 1:
        yield f"{_who(row, member)}: {experiment.attempts} attempts"


def _lengths(row: Row, metric: MetricAnalysis) -> Iterator[str]:
    """Counted experiments that trained for differently many steps."""
    written = [m.recorded.sources.get(metric.metric.name) for m in row.members if len(m.curve)]
    if row.band is None and any(source != "results" for source in written):  # which is one number on purpose
        yield f"{row.group.label}: one value per experiment is no curve yet; none is drawn"
    ends = [float(member.curve.steps[-1]) for member in row.members if member.counted and len(member.curve)]
    if len(ends) > 1 and min(ends) < (1 - ALIKE_SHARE) * max(ends):
        yield (
            f"{row.group.label}: experiments end between steps {step_text(min(ends))} and {step_text(max(ends))}; "
            "where a curve is dotted it is of fewer of them"
        )


def _sources(metric: MetricAnalysis) -> Iterator[str]:
    """When not all values come from one place."""
    counts: dict[str, int] = {}
    for row in metric.rows:
        for member in row.members:
            source = member.recorded.sources.get(metric.metric.name)
            if source is not None:
                counts[source] = counts.get(source, 0) + 1
    if len(counts) > 1:
        words = {"tensorboard": "summaries", "progress": "their progress history", "results": "results.json"}
        told = [f"{count} from {words[source]}" for source, count in counts.items()]
        yield f"values of experiments: {', '.join(told)}"


def _about_all(metric: MetricAnalysis, analysis: Analysis) -> Iterator[str]:
    members = [member for row in metric.rows for member in row.members]
    policies = max((member.policies for member in members), default=0)
    if policies > 1:
        yield f"each experiment trained up to {policies} policies; the best one of each counts (--policy chooses)"
    if analysis.grouping.merged:
        yield f"grouped: averages are also over {', '.join(analysis.grouping.merged)}"
