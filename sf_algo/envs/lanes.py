"""Environments that step as arrays: gymnasium's vector environments, and what looks like them.

Shape letters: A lanes, which are the agents of one environment to the rest of the trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.adapter import Adapter
from sf_algo.envs.foreign_arrays import to_numpy
from sf_algo.envs.gym_api import EXTRA_STATS
from sf_algo.envs.leaves import PixelFormat
from sf_algo.envs.space_blocks import BlockWriter, batch_decoder
from sf_algo.envs.spec import EnvSpec, EpisodeStats, ObsBlock, StepResult
from sf_algo.errors import EnvContractError, EnvError


class AutoresetMode(Enum):
    """When a vector environment resets a lane whose episode ended; gymnasium's own names."""

    NEXT_STEP = "NextStep"
    SAME_STEP = "SameStep"
    DISABLED = "Disabled"


class VectorLanes(Adapter):
    """A `gymnasium.vector.VectorEnv`, each of its A environments an agent with episodes of its own.

    All three modes of automatic reset work:

    - next step: the final observation is seen in a step of its own, whose action the lane ignores.
    - same step, disabled (lanes are reset by mask at once): a lane that was truncated shows its final observation, so
      that its value can be bootstrapped; the first step of its next episode is then played with an action that the
      policy chose for the final observation, and is not learned from.

    What `info` (`final_info` in the same-step mode) holds under `episode_extra_stats`, `true_objective` (as
    `true_reward`) and `is_success` reaches the statistics of the episodes that end.
    """

    def __init__(self, env: Any, *, frameskip: int = 1, pixel_format: PixelFormat = "CHW") -> None:
        """`frameskip`: simulator frames per step of `env`, for counting; it is the environment's own business.

        Raises EnvError for spaces without an array form.
        """
        super().__init__(env)
        agents = int(env.num_envs)
        self._writer = BlockWriter(env.single_observation_space, pixel_format=pixel_format)
        actions, self._decode = batch_decoder(env.single_action_space, agents)
        self.spec = EnvSpec(
            obs=self._writer.specs, actions=actions, num_agents=agents, frameskip=frameskip, autoreset=True
        )
        self._mode = _mode(env)
        self._rewards = np.zeros(agents, np.float32)
        self._pending = np.zeros(agents, np.bool_)
        """Lanes that show the final observation of an episode that has ended."""

    def reset(self, out: ObsBlock, *, seed: int | None = None) -> None:
        obs, _ = self._env.reset(seed=seed)
        self._writer.write(obs, out)
        self._pending[:] = False

    def step(self, actions: NDArray[np.float32], out: ObsBlock) -> StepResult:
        obs, rewards, terminated, truncated, info = self._env.step(self._decode(actions))
        self._rewards[:] = self._per_lane("rewards", rewards)
        self._writer.write(obs, out)
        terminated = self._per_lane("terminated", terminated).astype(np.bool_)
        truncated = self._per_lane("truncated", truncated).astype(np.bool_)
        restarted = self._pending
        active = ~restarted
        ended = terminated | truncated
        if not ended.any():
            self._pending = np.zeros_like(restarted)
            anew = restarted if restarted.any() else None
            return StepResult(self._rewards, terminated, truncated, active, None, anew)
        ends = info
        if self._mode is AutoresetMode.NEXT_STEP:
            self._pending = ended
        else:
            shown = self._reset_by_mask(ended, terminated, out)
            if self._mode is AutoresetMode.SAME_STEP:
                shown = self._show_final(info, ended & ~terminated, out)
                ends = info.get("final_info", info)
            restarted = restarted | (ended & ~shown)
            self._pending = shown
        stats = lane_stats(ends, self.spec.num_agents)
        return StepResult(self._rewards, terminated, truncated, active, stats, restarted)

    def _per_lane(self, name: str, value: Any) -> NDArray[Any]:
        """Assignment would broadcast one number to all lanes in silence."""
        array = to_numpy(value)
        if array.shape != (self.spec.num_agents,):
            raise EnvContractError(
                f"the vector environment's {name} have shape {array.shape}; one for each of its {self.spec.num_agents} "
                "environments is expected"
            )
        return array

    def _reset_by_mask(
        self, ended: NDArray[np.bool_], terminated: NDArray[np.bool_], out: ObsBlock
    ) -> NDArray[np.bool_]:
        """Reset what ended where nobody else does. Returns which lanes go on showing their final observation."""
        if self._mode is AutoresetMode.DISABLED:
            first, _ = self._env.reset(options={"reset_mask": ended})
            if terminated.any():
                self._writer.write_agents(first, out, np.flatnonzero(terminated))
        return ended & ~terminated

    def _show_final(self, info: Mapping[str, Any], truncated: NDArray[np.bool_], out: ObsBlock) -> NDArray[np.bool_]:
        """Put the final observations of truncated lanes in place of their first ones. Returns where that could be."""
        final = info.get("final_obs", info.get("final_observation"))
        if final is None or not truncated.any():
            return np.zeros_like(truncated)
        self._writer.write_agents(final, out, np.flatnonzero(truncated))
        return truncated


def lanes(env: Any, *, frameskip: int = 1) -> VectorLanes:
    """A vector environment as one environment of many agents, for makers: `return lanes(my_vector_env)`."""
    return VectorLanes(env, frameskip=frameskip)


def is_vector_env(env: Any) -> bool:
    """Whether it steps as gymnasium's vector environments do."""
    wanted = ("single_observation_space", "single_action_space", "reset", "step")
    # A number, because a proxy may have every attribute that it is asked for.
    return isinstance(getattr(env, "num_envs", None), int | np.integer) and all(hasattr(env, name) for name in wanted)


def lane_stats(info: Mapping[str, Any], num_agents: int) -> EpisodeStats:
    """Statistics [A] of episodes that ended, from the arrays of a vector environment's info."""
    found: dict[str, Any] = dict(info.get(EXTRA_STATS) or {}) if isinstance(info.get(EXTRA_STATS), Mapping) else {}
    if "true_objective" in info:
        found["true_reward"] = info["true_objective"]
    if "is_success" in info:
        found["is_success"] = info["is_success"]
    stats = {}
    for name, values in found.items():
        try:
            array = to_numpy(values)
        except ValueError:  # ragged: a statistic can never cost an episode
            continue
        if not str(name).startswith("_") and array.shape == (num_agents,) and array.dtype.kind in "biuf":
            stats[str(name)] = array.astype(np.float64)
    return stats


def _mode(env: Any) -> AutoresetMode:
    """How the environment resets its lanes; gymnasium asks vector environments to say it in their metadata."""
    said = (getattr(env, "metadata", None) or {}).get("autoreset_mode", AutoresetMode.NEXT_STEP)
    try:
        return AutoresetMode(getattr(said, "value", said))
    except ValueError:
        known = ", ".join(mode.value for mode in AutoresetMode)
        raise EnvError(
            f"the vector environment's metadata says autoreset_mode={said!r}; gymnasium knows {known}"
        ) from None
