"""Asynchronous PPO: the trainer that the runner's jobs usually start.

For programs of one's own: `App`, `Model`, `Observer` (`Episode`, `Training`), `TrainingInfo`, `flag`, `load_policy`;
for environments of several agents: `agents`, `lanes`, `parallel`. They are imported when they are first used, so that
child processes stay small.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sf_algo.app import App as App
    from sf_algo.config.flag import flag as flag
    from sf_algo.envs.agent_lists import agents as agents
    from sf_algo.envs.lanes import lanes as lanes
    from sf_algo.envs.parallel import parallel as parallel
    from sf_algo.own.additions import Model as Model
    from sf_algo.own.observers import Episode as Episode
    from sf_algo.own.observers import Observer as Observer
    from sf_algo.own.observers import Training as Training
    from sf_algo.own.training_info import TrainingInfo as TrainingInfo
    from sf_algo.watching.load_policy import load_policy as load_policy

__version__ = "0.1.0"

_HOMES = {
    "App": "sf_algo.app",
    "Model": "sf_algo.own.additions",
    "Observer": "sf_algo.own.observers",
    "Episode": "sf_algo.own.observers",
    "Training": "sf_algo.own.observers",
    "load_policy": "sf_algo.watching.load_policy",
    "TrainingInfo": "sf_algo.own.training_info",
    "agents": "sf_algo.envs.agent_lists",
    "flag": "sf_algo.config.flag",
    "lanes": "sf_algo.envs.lanes",
    "parallel": "sf_algo.envs.parallel",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sf_algo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
