"""Any gymnasium environment behind the `Env` protocol."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from numpy.typing import NDArray

from sf_algo.config import EnvConfig
from sf_algo.envs.adapter import AgentAdapter
from sf_algo.envs.gym_api import (
    PLAIN_REWARDS,
    episode_stats,
    is_active,
    observation_of,
    reset_fault,
    reward_of,
    step_fault,
)
from sf_algo.envs.leaves import PixelFormat
from sf_algo.envs.spaces import ObsWriter, action_decoder
from sf_algo.envs.spec import EnvSpec, ObsRow, StepResult, with_shaping
from sf_algo.errors import EnvError, MissingDependencyError, UnknownEnvError
from sf_algo.own.loading import failed
from sf_algo.own.names import did_you_mean

GymEnv: TypeAlias = "gymnasium.Env[Any, Any]"


class GymnasiumEnv(AgentAdapter):
    """One agent in a gymnasium environment.

    The cost per step on top of the environment's own is about 1 us: no dictionaries are built, and the
    result is one and the same object until an episode ends. With a frame skip, rewards of the skipped frames
    are summed.

    `info["is_active"] = False` marks a step that is not to be trained on; `info["episode_extra_stats"]` and
    `info["true_objective"]` (as `true_reward`) of the last step reach the episode's statistics, as far as they are
    numbers. What the environment returns is checked in every step; EnvContractError says what is wrong with it.
    """

    def __init__(
        self,
        env: GymEnv,
        *,
        frameskip: int = 1,
        own_frameskip: int | None = None,
        framestack: int = 1,
        pixel_format: str = "CHW",
    ) -> None:
        """`own_frameskip`: frames that the environment itself skips in a step; they are counted, and no more are
        skipped."""
        pixels: PixelFormat = "HWC" if pixel_format == "HWC" else "CHW"
        writer = ObsWriter(env.observation_space, pixel_format=pixels, framestack=framestack)
        actions, decode = action_decoder(env.action_space)
        super().__init__(env, writer, decode)
        self._frameskip = frameskip if own_frameskip is None else 1
        try:
            self.spec = EnvSpec(obs=writer.specs, actions=actions, frameskip=own_frameskip or frameskip)
        except ValueError as error:
            raise EnvError(str(error)) from error
        self._rewards = np.zeros(1, np.float32)
        self._terminated = np.zeros(1, np.bool_)
        self._truncated = np.zeros(1, np.bool_)
        self._active = np.ones(1, np.bool_)
        # Of a step in the middle of an episode only the reward is news.
        no, yes = np.zeros(1, np.bool_), np.ones(1, np.bool_)
        self._going_on = StepResult(self._rewards, no, no, yes, None)
        self._write = self._writer.step_writer()

    def reset(self, out: Sequence[ObsRow], *, seed: int | None = None) -> None:
        try:
            answer = self._env.reset(seed=seed)
        except (TypeError, ValueError) as error:
            if (fault := reset_fault(error)) is not None:
                raise fault from error
            raise
        self._writer.write(observation_of(answer), out[0], first=True)

    def step(self, actions: NDArray[np.float32], out: Sequence[ObsRow]) -> StepResult:
        action = self._decode(actions[0])
        try:
            obs, reward, terminated, truncated, info = self._env.step(action)
            ended = terminated or truncated
            if self._frameskip > 1:
                for _ in range(self._frameskip - 1):
                    if ended:
                        break
                    obs, more, terminated, truncated, info = self._env.step(action)
                    reward = reward_of(reward) + reward_of(more)
                    ended = terminated or truncated
            going_on = not (ended or info)
        except (TypeError, ValueError) as error:
            if (fault := step_fault(error)) is not None:
                raise fault from error
            raise
        self._write(obs, out[0])
        self._rewards[0] = reward if type(reward) in PLAIN_REWARDS else reward_of(reward)
        if going_on:
            return self._going_on
        self._terminated[0] = bool(terminated)
        self._truncated[0] = bool(truncated)
        self._active[0] = is_active(info)
        stats = episode_stats(info) if ended else None
        return StepResult(self._rewards, self._terminated, self._truncated, self._active, stats)


def wrap_gymnasium(env: GymEnv, env_cfg: EnvConfig) -> GymnasiumEnv:
    """Puts a ready gymnasium environment behind the `Env` protocol, with the flags' frame skip and stack, and with the
    reward shaping that it has.

    One that skips frames itself says how many in `own_frameskip`: it is not skipped once more, and its frames are
    counted.
    """
    skipped = getattr(env.unwrapped, "own_frameskip", None)
    adapted = GymnasiumEnv(
        env,
        frameskip=env_cfg.env_frameskip or 1,
        own_frameskip=int(skipped) if isinstance(skipped, int | np.integer) else None,
        framestack=env_cfg.env_framestack,
        pixel_format=env_cfg.pixel_format,
    )
    with_shaping(adapted, env)
    return adapted


NOT_TOLD: Mapping[str, Any] = {}


def make_gymnasium(
    env_id: str,
    env_cfg: EnvConfig,
    *,
    render_mode: str | None = None,
    told: Mapping[str, Any] = NOT_TOLD,
    own_names: Collection[str] = (),
) -> GymnasiumEnv:
    """Makes a registered gymnasium id; what the user has `told` it goes to its maker. Its own time limit and order
    checks stay, the passive checker does not. `own_names`: environments of the user's program, for the message where
    there is no such id.

    Raises UnknownEnvError, MissingDependencyError or EnvError.
    """
    errors = gymnasium.error
    # None for the time limit means the registered one.
    given = {name: value for name, value in told.items() if (name, value) != ("max_episode_steps", None)}
    try:
        env = gymnasium.make(env_id, render_mode=render_mode, disable_env_checker=True, **given)
    except errors.DependencyNotInstalled as error:
        raise MissingDependencyError(f"--env={env_id}: {error}") from error
    except errors.UnregisteredEnv as error:
        if env_id.startswith("ALE/") or "NoFrameskip-v" in env_id:
            hint = "; Atari games are called atari_<game>, for example atari_pong"
        else:
            hint = did_you_mean(env_id, [*own_names, *gymnasium.registry])
        own = f"this program has {', '.join(own_names)}; else " if own_names else ""
        raise UnknownEnvError(
            f"--env={env_id}: there is no such environment{hint} "
            f"({own}an environment is a gymnasium id, doom_<map>, atari_<game>, mujoco_<task>, or your own as "
            "package.module:make_env)"
        ) from error
    except ImportError as error:
        module, has_module, _ = env_id.partition(":")
        if has_module and importlib.util.find_spec(module) is None:
            raise UnknownEnvError(f"--env={env_id}: there is no module {module}") from error
        raise MissingDependencyError(f"--env={env_id}: {error}; install what is missing") from error
    except errors.Error as error:
        raise EnvError(f"--env={env_id}: {error}") from error
    except Exception as error:
        if not given:
            raise
        shown = ", ".join(f"--env.{name}={value}" for name, value in given.items())
        raise failed(f"--env={env_id} with {shown}", error) from error
    return wrap_gymnasium(env, env_cfg)
