"""From an action row to the engine's list of button values, by tables that are built once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.spec import ActionComponent, ActionSpec, Box, Discrete
from sf_algo.errors import EnvError


@dataclass(frozen=True)
class OneOf:
    """Choice 0 presses nothing, choice k the k-th of `num_buttons` buttons."""

    num_buttons: int


@dataclass(frozen=True)
class TurnAngles:
    """One of `num_angles` turns, evenly spread over +-`max_degrees` (an odd number includes 0)."""

    num_angles: int
    max_degrees: float


@dataclass(frozen=True)
class TurnContinuous:
    """A number in [-1, 1], times `degrees`."""

    degrees: float


ButtonGroup: TypeAlias = "OneOf | TurnAngles | TurnContinuous"
ButtonMapping: TypeAlias = Callable[[NDArray[np.float32]], Sequence[float]]


def num_buttons(groups: Sequence[ButtonGroup]) -> int:
    """How many buttons of the engine the groups set together."""
    return sum(group.num_buttons if isinstance(group, OneOf) else 1 for group in groups)


def action_spec(groups: Sequence[ButtonGroup]) -> ActionSpec:
    """The action space that these groups of buttons, in the order of the scenario file, make up."""
    return ActionSpec(tuple(_component(group) for group in groups))


def _component(group: ButtonGroup) -> ActionComponent:
    if isinstance(group, OneOf):
        return Discrete(group.num_buttons + 1)
    return Discrete(group.num_angles) if isinstance(group, TurnAngles) else Box((-1.0,), (1.0,))


def button_mapping(groups: Sequence[ButtonGroup]) -> ButtonMapping:
    """A function from an action row [width] to the values of all buttons, in the scenario file's order."""
    tables = [_table(group) for group in groups]
    if len(tables) == 1 and isinstance(tables[0], list):
        only = tables[0]
        return lambda row: only[int(row.item(0))]

    def press(row: NDArray[np.float32]) -> list[float]:
        buttons: list[float] = []
        for table, value in zip(tables, row.tolist(), strict=True):
            if isinstance(table, list):
                buttons += table[int(value)]
            else:
                buttons.append(min(1.0, max(-1.0, value)) * table)
        return buttons

    return press


def _table(group: ButtonGroup) -> list[list[float]] | float:
    """Button values for each choice, or the factor of a continuous group."""
    if isinstance(group, TurnContinuous):
        return group.degrees
    if isinstance(group, TurnAngles):
        return [[angle] for angle in np.linspace(-group.max_degrees, group.max_degrees, group.num_angles)]
    choices = range(group.num_buttons + 1)
    return [[float(button + 1 == choice) for button in range(group.num_buttons)] for choice in choices]


_OPPOSITES = (
    frozenset({"MOVE_FORWARD", "MOVE_BACKWARD"}),
    frozenset({"MOVE_RIGHT", "MOVE_LEFT"}),
    frozenset({"TURN_RIGHT", "TURN_LEFT"}),
    frozenset({"LOOK_UP", "LOOK_DOWN"}),
    frozenset({"SELECT_NEXT_WEAPON", "SELECT_PREV_WEAPON"}),
)


def groups_of_buttons(names: Sequence[str]) -> tuple[ButtonGroup, ...]:
    """Action groups for a scenario file that has none of its own.

    Neighbouring opposites (turn left, turn right) and runs of SELECT_WEAPON<k> exclude each other,
    TURN_LEFT_RIGHT_DELTA becomes 11 angles over +-10 degrees, every other button is pressed or not.
    Raises EnvError for other DELTA buttons.
    """
    groups: list[ButtonGroup] = []
    i = 0
    while i < len(names):
        run = 1
        if names[i] == "TURN_LEFT_RIGHT_DELTA":
            groups.append(TurnAngles(11, 10.0))
        elif names[i].endswith("_DELTA"):
            raise EnvError(
                f"button {names[i]} takes a number for which no action is defined; use plain buttons or "
                "TURN_LEFT_RIGHT_DELTA, or give a DoomScenario with its own groups"
            )
        else:
            run = _run_length(names, i)
            groups.append(OneOf(run))
        i += run
    return tuple(groups)


def _run_length(names: Sequence[str], start: int) -> int:
    if frozenset(names[start : start + 2]) in _OPPOSITES:
        return 2
    stop = start
    while stop < len(names) and names[stop].removeprefix("SELECT_WEAPON").isdigit():
        stop += 1
    return max(1, stop - start)
