"""What a gymnasium environment must return, and one clear line where it returns something else."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from sf_algo.envs.spec import EpisodeStats, as_number
from sf_algo.errors import EnvContractError

EXTRA_STATS = "episode_extra_stats"
"""A gymnasium environment may put a dictionary of numbers under this key of the last step's info."""

PLAIN_REWARDS = frozenset({float, int, bool, np.float64, np.float32})
"""Types of rewards that are taken as they are."""

_DEEPEST = 4
_OURS = (str(Path(__file__).parent), str(Path(gymnasium.__file__).parent))
_NEW_STEP = (
    "step must return (observation, reward, terminated, truncated, info): the environment speaks the API of the old "
    "gym; split its done into terminated (it is over) and truncated (a time limit)"
)
_NEW_RESET = (
    "reset must take seed and options and return (observation, info): the environment speaks the API of the old gym"
)


def observation_of(answer: Any) -> Any:
    """The observation in what `reset` returned. Raises EnvContractError."""
    if isinstance(answer, tuple) and len(answer) == 2 and (answer[1] is None or isinstance(answer[1], Mapping)):
        return answer[0]
    raise EnvContractError(_NEW_RESET)


def reset_fault(error: Exception) -> EnvContractError | None:
    """What is wrong with an environment whose `reset` raised that error, where it is the interface."""
    text = str(error)
    if isinstance(error, TypeError) and "unexpected keyword argument" in text and ("seed" in text or "options" in text):
        return EnvContractError(_NEW_RESET)
    return EnvContractError(_NEW_RESET) if "unpack" in text and _raised_by_callers(error) else None


def step_fault(error: Exception) -> EnvContractError | None:
    """What is wrong with an environment whose `step` led to that error, where it is the interface."""
    text = str(error)
    if not _raised_by_callers(error):
        return None
    if "unpack" in text:
        return EnvContractError(_NEW_STEP)
    if "truth value of an array" in text:
        return EnvContractError(
            "terminated and truncated must be one truth value each, not arrays: an environment of several agents or "
            "several copies needs an adapter"
        )
    return None


def _raised_by_callers(error: Exception) -> bool:
    """Whether the error arose in this package or in one of gymnasium's wrappers, not in the environment's own code."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename.startswith(_OURS)


def reward_of(value: Any) -> float:
    """A reward that is no plain number: an array of one is one, None is NaN, which is told and not trained on.

    Raises:
        EnvContractError: a text, several numbers or something else.
    """
    if isinstance(value, (float, int)):
        return float(value)
    if value is None:
        return float("nan")
    number = as_number(value)
    if number is None:
        raise EnvContractError(
            f"the reward must be one number, not a {type(value).__name__} of shape {_shape(value)}; an environment of "
            "several agents or several copies needs an adapter"
        )
    return number


def _shape(value: Any) -> tuple[int, ...]:
    try:
        return np.shape(value)
    except ValueError:
        return ()


def is_active(info: Any) -> bool:
    """Whether the agent took part in the step."""
    active = info.get("is_active", True) if isinstance(info, Mapping) else True
    number = as_number(active)
    return number is None or number != 0.0


def episode_stats(info: Any) -> EpisodeStats:
    """The numbers which an environment's last info offers as statistics of its episode. Whatever is no number is left
    out: a statistic can never cost an episode. Nested dictionaries become names joined by "/"."""
    if not isinstance(info, Mapping):
        return {}
    stats: dict[str, float] = {}
    _add_numbers(info.get(EXTRA_STATS), "", stats, _DEEPEST)
    for key, name in (("true_objective", "true_reward"), ("is_success", "is_success")):
        number = as_number(info.get(key))
        if number is not None:
            stats[name] = number
    return stats


def _add_numbers(value: Any, name: str, stats: dict[str, float], depth: int) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items() if depth else ():
            _add_numbers(item, f"{name}/{key}" if name else str(key), stats, depth - 1)
    elif name and (number := as_number(value)) is not None:
        stats[name] = number
