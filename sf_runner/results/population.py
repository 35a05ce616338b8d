"""What happened in populations: who took over from whom, and how hyperparameters moved. From the trainer's
`pbt.jsonl`.

Its lines are JSON objects, one for each policy at each start of a training (`"event": "start"`) and one for each
exchange (`"event": "exchange"`); docs/population.md tells their fields. Lines that cannot be read are passed over.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sf_runner.results.experiments import Experiment

LOG_NAME = "pbt.jsonl"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line. `step`: frames that all policies together have been trained on; `frames`: the policy's own.

    donor: whom the policy took over from; None where it kept what it had learned.
    values: its hyperparameters and reward shaping from then on.
    number: which exchange of the policy it is; at a start, how many of them it still carries: a crash may have undone
        the newest, and the start tells.
    """

    kind: str
    policy: int
    step: float
    frames: float
    time: float
    donor: int | None
    objective: float | None
    donor_objective: float | None
    values: Mapping[str, float]
    number: int = 0


@dataclass(frozen=True, kw_only=True)
class Population:
    """The population of one experiment; events in the order in which they were written."""

    experiment: Experiment
    objective: str
    """What policies were ranked by."""
    events: tuple[Event, ...]

    @property
    def policies(self) -> list[int]:
        return sorted({event.policy for event in self.events})

    @property
    def copies(self) -> list[Event]:
        """Exchanges in which a policy took over from another."""
        return [event for event in self.events if event.donor is not None]

    @property
    def num_exchanges(self) -> int:
        return sum(event.kind == "exchange" for event in self.events)

    @property
    def names(self) -> list[str]:
        """Numbers that moved, or that policies differ in, in the order in which they were first told."""
        told = dict.fromkeys(name for event in self.events for name in event.values)
        return [name for name in told if len({e.values[name] for e in self.events if name in e.values}) > 1]

    @property
    def last_step(self) -> float:
        return max(event.step for event in self.events)

    def founders(self) -> dict[int, int]:
        """Policy -> the one whose first weights its weights at the end come from."""
        origin = {policy: policy for policy in self.policies}
        for event in self.copies:
            assert event.donor is not None
            origin[event.policy] = origin.get(event.donor, event.donor)
        return origin

    def lineage(self, policy: int) -> list[int]:
        """From whom a policy's weights come: itself last, before it whom it took over from, and so on."""
        line, step = [policy], math.inf
        while True:
            taken = [e for e in self.copies if e.policy == line[0] and e.step < step]
            if not taken:
                return line
            donor = taken[-1].donor
            assert donor is not None
            line, step = [donor, *line], taken[-1].step

    def last_values(self, policy: int) -> Mapping[str, float]:
        return [event.values for event in self.events if event.policy == policy][-1]

    def first_values(self, policy: int) -> Mapping[str, float]:
        return next(event.values for event in self.events if event.policy == policy)


def populations_of(experiments: Sequence[Experiment]) -> list[Population]:
    """Those of the experiments that have any, in their order."""
    found = [read_population(experiment) for experiment in experiments]
    return [population for population in found if population is not None]


def read_population(experiment: Experiment) -> Population | None:
    """None where the experiment has no population, or nothing of it can be read."""
    documents = list(_documents(experiment.paths.experiment_dir / LOG_NAME))
    events: list[Event] = []
    for document in documents:
        event = _event(document)
        if event is None:
            continue
        if event.kind == "start":
            events = [e for e in events if e.kind == "start" or e.policy != event.policy or e.number <= event.number]
        events.append(event)
    if not events:
        return None
    objective = next((str(d["objective_name"]) for d in documents if d.get("objective_name")), "objective")
    return Population(experiment=experiment, objective=objective, events=tuple(events))


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        try:
            document = json.loads(line)
        except ValueError:
            continue
        if isinstance(document, dict):
            yield document


def _event(document: Mapping[str, Any]) -> Event | None:
    policy, step = document.get("policy"), _number(document.get("total_frames"))
    kind, values = document.get("event"), document.get("values")
    if kind not in ("start", "exchange") or not isinstance(policy, int) or step is None or not isinstance(values, dict):
        return None
    donor, number = document.get("donor"), document.get("exchanges" if kind == "start" else "number")
    return Event(
        kind=str(kind),
        policy=policy,
        step=step,
        frames=_number(document.get("frames")) or 0.0,
        time=_number(document.get("time")) or 0.0,
        donor=donor if isinstance(donor, int) else None,
        objective=_number(document.get("objective")),
        donor_objective=_number(document.get("donor_objective")),
        values={str(name): found for name, value in values.items() if (found := _number(value)) is not None},
        number=number if isinstance(number, int) else 0,
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


# ---- as text and tables ------------------------------------------------------------------------------------------


def records(populations: Sequence[Population]) -> list[dict[str, str | int | float | bool | None]]:
    """One record per event, for other programs."""
    return [
        {
            "run": population.experiment.run,
            "experiment": population.experiment.job_id,
            "event": event.kind,
            "step": event.step,
            "policy": event.policy,
            "frames": event.frames,
            "donor": event.donor,
            "objective_name": population.objective,
            "objective": event.objective,
            "donor_objective": event.donor_objective,
            **event.values,
        }
        for population in populations
        for event in population.events
    ]


def summary_rows(populations: Sequence[Population]) -> tuple[list[str], list[list[str]]]:
    """Names of columns, and a row for each experiment."""
    names = ["experiment", "policies", "exchanges", "taken over", "ancestors left", "numbers that moved"]
    rows = [
        [
            population.experiment.name,
            str(len(population.policies)),
            str(population.num_exchanges),
            str(len(population.copies)),
            ", ".join(str(founder) for founder in sorted(set(population.founders().values()))),
            ", ".join(population.names) or "none",
        ]
        for population in populations
    ]
    return names, rows


def descent_lines(population: Population) -> list[str]:
    """For each policy, from whom its weights come and what its numbers began and ended with."""
    lines = []
    for policy in population.policies:
        line = population.lineage(policy)
        origin = " <- ".join(str(one) for one in reversed(line))
        first, last = population.first_values(line[0]), population.last_values(policy)
        moved = [
            f"{name} {first[name]:.3g} -> {last[name]:.3g}"
            for name in population.names
            if name in first and name in last
        ]
        lines.append(f"policy {origin}: {', '.join(moved)}" if moved else f"policy {origin}")
    return lines
