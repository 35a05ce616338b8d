"""What the agent may do: a discrete choice among fixed actions of the engine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LOOK, _PITCH, _STRAFE, _MOVE, _FIRE = range(5)
_WIDTH = 7  # turning left-right and down-up, strafing, moving, firing, jumping, crouching


def _action(**values: int) -> tuple[int, ...]:
    places = {"look": _LOOK, "pitch": _PITCH, "strafe": _STRAFE, "move": _MOVE, "fire": _FIRE}
    row = [0] * _WIDTH
    for name, value in values.items():
        row[places[name]] = value
    return tuple(row)


_WALK = (_action(move=1), _action(move=-1), _action(strafe=-1), _action(strafe=1))
# Espeholt et al. 2018, appendix F.1.
USUAL = (
    *_WALK,
    _action(look=-20),
    _action(look=20),
    _action(look=-20, move=1),
    _action(look=20, move=1),
    _action(fire=1),
)
# Kapturowski et al. 2019, appendix: two speeds of turning, and looking up and down.
EXTENDED = (
    *_WALK,
    *(_action(look=turn) for turn in (-10, 10, -60, 60)),
    _action(pitch=10),
    _action(pitch=-10),
    *(_action(look=turn, move=1) for turn in (-10, 10, -60, 60)),
    _action(fire=1),
)


def action_rows(*, extended: bool) -> NDArray[np.intc]:
    """[choices, 7], each row contiguous: the engine ignores strides without a word."""
    return np.ascontiguousarray(EXTENDED if extended else USUAL, dtype=np.intc)
