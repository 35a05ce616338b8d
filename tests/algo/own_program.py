"""A program as users write them: environments, sections, losses, observers. Tests name it by its import path."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from sf_algo import App, Episode, Observer, Training, TrainingInfo, flag


@dataclass(frozen=True, kw_only=True)
class Walk:
    """The walk."""

    cells: int = flag(6, "cells", at_least=2)
    bonus: float = 0.0


class Corridor(gymnasium.Env[Any, Any]):
    """Walk right to the end. Moving left costs; rewards are shaped."""

    action_space = gymnasium.spaces.Discrete(2)
    observation_space = gymnasium.spaces.Box(0.0, 1e9, (2,), np.float32)

    def __init__(self, cells: int, training: TrainingInfo) -> None:
        self.cells = cells
        self.training = training
        self.scale = {"reward": {"end": 1.0}, "step": -0.01}

    def shaping(self) -> Mapping[str, Any]:
        return self.scale

    def set_shaping(self, agent: int, values: Mapping[str, Any]) -> None:
        assert agent == 0
        self.scale = dict(values)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.position = self.steps = 0
        self.path: list[int] = []
        return self.observe(), {}

    def observe(self) -> Any:
        return np.array([self.position / self.cells, 1.0], np.float32)

    def step(self, action: Any) -> Any:
        self.position = max(0, self.position + (1 if action == 1 else -1))
        self.path.append(self.position)
        self.steps += 1
        done = self.position == self.cells
        truncated = self.steps == 5 * self.cells and not done
        info: dict[str, Any] = {"cost": float(action == 0), "where": np.array([self.position, self.cells])}
        if done or truncated:
            info["episode_extras"] = {"path": np.array(self.path), "won": done, "frames": self.training.env_steps}
            info["episode_extra_stats"] = {"end_reward": self.scale["reward"]["end"]}
        reward = self.scale["step"] + (self.scale["reward"]["end"] if done else 0.0)
        return self.observe(), reward, done, truncated, info


def make_env(name: str, walk: Walk, training: TrainingInfo) -> Corridor:
    return Corridor(walk.cells * (2 if name == "long" else 1), training)


class Curriculum(Observer):
    """Counts, and raises the reward of the end after ten episodes."""

    def __init__(self) -> None:
        self.episodes = 0
        self.iterations = 0
        self.starts = 0
        self.last: Any = None
        seen.append(self)

    def on_start(self, training: Training) -> None:
        self.training = training
        self.starts += 1

    def on_episode(self, policy: int, episode: Episode) -> None:
        self.episodes += 1
        self.last = episode
        if self.episodes == 10:
            self.training.set_shaping(policy, {"reward": {"end": 3.0}})

    def on_iteration(self, policy: int, stats: Mapping[str, float]) -> None:
        self.iterations += 1
        self.stats = dict(stats)

    def summaries(self, policy: int, averages: Mapping[str, float]) -> Mapping[str, float]:
        return {"own/episodes": self.episodes, "own/twice": 2 * averages.get("reward", 0.0)}

    def state(self) -> Any:
        return {"episodes": self.episodes, "starts": self.starts, "array": np.arange(3)}

    def restore(self, state: Any) -> None:
        self.episodes, self.starts = state["episodes"], state["starts"]
        assert state["array"].tolist() == [0, 1, 2]


seen: list[Curriculum] = []


app = App(
    "tests.algo.own_program:app",
    sections={"walk": Walk},
    envs={"short": make_env, "long": make_env},
    defaults={"hidden_size": 16, "use_rnn": False, "rollout": 8, "batch_size": 64, "num_envs_per_worker": 8},
    losses=("tests.algo.own_losses:cost_loss", "tests.algo.own_losses:plain"),
    fields=("cost", "where:2"),
    observers=(Curriculum,),
)

if __name__ == "__main__":
    sys.exit(app.main())
