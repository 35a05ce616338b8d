"""Which experiments belong together, and how a group is named: by what differs between groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sf_runner.basics.errors import UsageError, did_you_mean
from sf_runner.results.experiments import Experiment

RUN_COLUMN = "run"
BASE_NAME_COLUMN = "experiment"
NAME_COLUMN = "configuration"


@dataclass(frozen=True, kw_only=True)
class Group:
    """`shown`: the value in each of the grouping's columns; `label`: the same as text."""

    shown: Mapping[str, str]
    label: str
    members: tuple[Experiment, ...]

    @property
    def task(self) -> str:
        """What all its experiments learn; empty when nothing tells, or not all the same."""
        tasks = {experiment.task for experiment in self.members}
        return tasks.pop() if len(tasks) == 1 else ""

    @property
    def seeds(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(e.seed for e in self.members if e.seed is not None))


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """`columns` tell the groups apart; `constants` are the same for every experiment; `merged` differ inside groups,
    which only happens when the groups were asked for."""

    columns: tuple[str, ...]
    constants: Mapping[str, str]
    merged: tuple[str, ...]
    groups: tuple[Group, ...]


def group(experiments: Sequence[Experiment], by: Sequence[str] | None = None) -> Grouping:
    """Groups in the order of their first experiments.

    by: names of parameters, `run` or `experiment`; None: experiments that differ by their seed only belong together.
    Raises UsageError for an unknown name.
    """
    features = [_features(experiment) for experiment in experiments]
    names = list(dict.fromkeys(name for feature in features for name in feature))
    if by is not None:
        for name in by:
            if name not in names:
                raise UsageError(f"--group_by={name}: no experiment has this parameter.{did_you_mean(name, names)}")
    varying = [name for name in names if len({feature.get(name) for feature in features}) > 1]
    members: dict[tuple[object, ...], list[int]] = {}
    for index, (experiment, feature) in enumerate(zip(experiments, features, strict=True)):
        key = (experiment.run, experiment.config) if by is None else tuple(feature.get(name) for name in by)
        members.setdefault(key, []).append(index)
    columns = list(by) if by is not None else varying
    tuples = {key: tuple(features[indices[0]].get(name, "") for name in columns) for key, indices in members.items()}
    if not columns or len(set(tuples.values())) < len(tuples):
        columns.append(NAME_COLUMN if len(tuples) > 1 else BASE_NAME_COLUMN)
    groups = []
    for indices in members.values():
        first = experiments[indices[0]]
        shown = {name: features[indices[0]].get(name, "") for name in columns if name != NAME_COLUMN}
        if NAME_COLUMN in columns:
            shown[NAME_COLUMN] = first.name
        groups.append(Group(shown=shown, label=label_of(shown), members=tuple(experiments[i] for i in indices)))
    return Grouping(
        columns=tuple(columns),
        constants={name: features[0].get(name, "") for name in names if name not in varying and name not in columns},
        merged=tuple(name for name in varying if name not in columns and _differs(name, members.values(), features)),
        groups=tuple(groups),
    )


def _features(experiment: Experiment) -> dict[str, str]:
    """What can tell an experiment from another one, as text. A parameter that has the name of one of our columns gets
    the dashes it had on the command line."""
    features = {RUN_COLUMN: experiment.run, BASE_NAME_COLUMN: experiment.base_name}
    for name, value in experiment.params.items():
        features[f"--{name}" if name in (RUN_COLUMN, BASE_NAME_COLUMN, NAME_COLUMN) else name] = str(value)
    return features


def _differs(name: str, groups: Iterable[Sequence[int]], features: Sequence[Mapping[str, str]]) -> bool:
    """Whether a parameter has several values inside one of the groups."""
    return any(len({features[i].get(name) for i in indices}) > 1 for indices in groups)


def label_of(shown: Mapping[str, str]) -> str:
    """`run_a lr=0.1`: values by column as one line."""
    parts = []
    for name, value in shown.items():
        if name in (RUN_COLUMN, BASE_NAME_COLUMN, NAME_COLUMN):
            parts.append(value)
        else:
            parts.append(f"{name}={value or '-'}")
    return " ".join(parts)
