"""Rewards as the policy learns from them."""

from __future__ import annotations

import math

SCALE = 5.0
NEGATIVE_SHARE = 0.3


def shaped_reward(raw: float) -> float:
    """5 tanh(r / 5), and 0.3 of that below zero: levels differ in scale by two orders of magnitude, and an agent that
    is punished much stops exploring (Espeholt et al. 2018, the "optimistic asymmetric clipping")."""
    squeezed = SCALE * math.tanh(raw / SCALE)
    return squeezed if squeezed > 0 else NEGATIVE_SHARE * squeezed
