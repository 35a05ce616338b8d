"""Environments that behave badly, each in one way: `--env=tests.algo.bad_envs:make_<kind>`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from sf_algo.envs.spec import EnvPlacement

LENGTH = 10
RARELY = 151
"""Steps from one spoiled one to the next."""


class Tame(gymnasium.Env[Any, Any]):
    """Well behaved: 10 steps, 1 for action 1. What `spoil` makes of a step is what it returns."""

    def __init__(self, **changes: Any) -> None:
        self.observation_space = changes.get("obs", spaces.Box(-1.0, 1.0, (4,), np.float32))
        self.action_space = spaces.Discrete(2)
        self.spoil: Callable[[Tame, list[Any]], Any] = changes.get("spoil", lambda env, step: None)
        self.steps = self.total = self.episodes = 0

    def observe(self) -> Any:
        return self.observation_space.sample()

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps, self.episodes = 0, self.episodes + 1
        return self.observe(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        self.total += 1
        step = [self.observe(), float(action), self.steps == LENGTH, False, {}]
        self.spoil(self, step)
        return tuple(step)

    @property
    def is_rare(self) -> bool:
        return self.total % RARELY == 7


def _spoiling(field: int, value: Any, when: str = "is_rare") -> Callable[[Tame, list[Any]], None]:
    def spoil(env: Tame, step: list[Any]) -> None:
        if when == "always" or (when == "last" and step[2]) or (when == "is_rare" and env.is_rare):
            step[field] = value

    return spoil


def _maker(*spoiled: Any, **changes: Any) -> Callable[[], Tame]:
    return lambda: Tame(spoil=_spoiling(*spoiled), **changes)


class Closing(Tame):
    def close(self) -> None:
        raise RuntimeError("close breaks")


class Sometimes(Tame):
    """Raises now and then, in a step."""

    def __init__(self, error: BaseException, every: int = RARELY) -> None:
        super().__init__()
        self._error, self._every = error, every

    def step(self, action: Any) -> Any:
        if (self.total + 1) % self._every == 0:
            self.total += 1
            raise self._error
        return super().step(action)


class Cancelled(BaseException):
    """As frameworks for concurrency have them."""


class WordlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class BigEndian(Tame):
    """Its arrays are neither contiguous nor of the machine's byte order."""

    def observe(self) -> Any:
        return np.asarray(super().observe()).astype(">f4")[::-1]


class Tensors(Tame):
    """Everything that it returns is a tensor of torch."""

    def observe(self) -> Any:
        return torch.as_tensor(np.asarray(super().observe()))

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, torch.tensor(reward), torch.tensor(terminated), torch.tensor(truncated), info


class Proxy(gymnasium.Env[Any, Any]):
    """Stands for another one, and has every attribute that it is asked for."""

    def __init__(self) -> None:
        self.__dict__["inner"] = Tame()
        self.observation_space, self.action_space = self.inner.observation_space, self.inner.action_space

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["inner"], name, lambda *args, **kwargs: None)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.inner.reset(seed=seed)

    def step(self, action: Any) -> Any:
        return self.inner.step(action)


class Unresettable(Tame):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        raise RuntimeError("reset breaks")


class OldReset(Tame):
    def reset(self) -> Any:  # type: ignore[override]
        return self.observe()


class OldStep(Tame):
    def step(self, action: Any) -> Any:
        obs, reward, done, _, info = super().step(action)
        return obs, reward, done, info


class Noisy(Tame):
    """Prints, warns, reseeds and strains everything that is global."""

    def step(self, action: Any) -> Any:
        print("x" * 2000)
        print("y" * 2000, file=sys.stderr)
        warnings.warn("noise", stacklevel=1)
        np.random.seed(0)
        return super().step(action)


class Mutable(Tame):
    """Returns one and the same array all the time, and spoils what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self._obs = np.zeros(4, np.float32)

    def observe(self) -> Any:
        self._obs[:] = super().observe()
        return self._obs


class Threaded(Tame):
    """Its threads never end."""

    def __init__(self) -> None:
        super().__init__()
        threading.Thread(target=threading.Event().wait).start()


class Parent(Tame):
    """Starts processes, one of them by a bare fork, and forgets them."""

    def __init__(self) -> None:
        super().__init__()
        subprocess.Popen(["sleep", "2"])
        if os.fork() == 0:
            time.sleep(2)
            os._exit(0)


class Compiling(Tame):
    """Its first step takes long."""

    def step(self, action: Any) -> Any:
        if self.total == 0:
            time.sleep(float(os.environ.get("SF_FAKE_COMPILE_SECONDS", "0")))
        return super().step(action)


class Wanderer(Tame):
    """Changes the working directory."""

    def __init__(self) -> None:
        super().__init__()
        os.chdir("/")


class Growing(Tame):
    """Its observation becomes longer in the third episode."""

    def observe(self) -> Any:
        return np.zeros(4 if self.episodes < 3 else 1, np.float32)


class PoleWithHoles(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Every 1000 steps an observation of one environment is none."""

    def __init__(self, chosen: bool) -> None:
        super().__init__(gymnasium.make("CartPole-v1"))
        self._chosen, self._steps = chosen, 0

    def step(self, action: Any) -> Any:
        obs, *rest = self.env.step(action)
        self._steps += 1
        return (np.full_like(obs, np.nan) if self._chosen and self._steps % 1000 == 500 else obs, *rest)


def make_pole(placement: EnvPlacement) -> gymnasium.Env[Any, Any]:
    return PoleWithHoles(placement.env_index == 3)


make_tame = Tame
make_nan_observations = _maker(0, np.full(4, np.nan, np.float32))
make_huge_observations = _maker(0, np.full(4, 1e200), obs=spaces.Box(-np.inf, np.inf, (4,), np.float64))
make_inf_rewards = _maker(1, np.inf)
make_no_rewards = _maker(1, None)
make_rewards_too_large = _maker(1, 1e40)
make_rewards_in_arrays = _maker(1, np.array([1.0]), "always")
make_no_info = _maker(4, None, "always")
make_strange_statistics = _maker(
    4,
    {"episode_extra_stats": {"winner": None, "who": "me", "n": {"x": [1, [2]]}}, "true_objective": None},
    "last",
)
make_lists = _maker(0, [0.0, 0.5, 1, True], "always")
make_closing = Closing
make_noisy = Noisy
make_big_endian = BigEndian
make_tensors = Tensors
make_proxy = Proxy
make_mutable = Mutable
make_threaded = Threaded
make_parent = Parent
make_compiling = Compiling
make_wanderer = Wanderer
make_nan_rewards_at_the_end = _maker(1, np.nan, "last")
make_nan_observations_always = _maker(0, np.full(4, np.nan, np.float32), "always")
make_overflowing = _maker(0, np.full(4, 3e38, np.float32), "always", obs=spaces.Box(-np.inf, np.inf, (4,), np.float32))
make_longer = Growing
make_wrong_shape = _maker(0, np.zeros((4, 1), np.float32), "always")
make_float_images = _maker(0, np.full((8, 8, 3), 0.5), "always", obs=spaces.Box(0, 255, (8, 8, 3), np.uint8))
make_out_of_range = _maker(0, 4, "always", obs=spaces.Discrete(4))
make_old_reset = OldReset
make_old_step = OldStep
make_ends_in_arrays = _maker(2, np.array([False, True]), "always")
make_text_rewards = _maker(1, "much", "always")
make_unresettable = Unresettable
make_unsupported = lambda: Tame(obs=spaces.Sequence(spaces.Discrete(2)))  # noqa: E731
make_clashing = lambda: Tame(  # noqa: E731
    obs=spaces.Dict({"a": spaces.Dict({"b": spaces.Discrete(2)}), "a/b": spaces.Discrete(2)})
)
make_small_images = lambda: Tame(obs=spaces.Box(0, 255, (5, 5, 3), np.uint8))  # noqa: E731
make_texts = lambda: Tame(obs=spaces.Dict({"say": spaces.Text(9), "see": spaces.Discrete(3)}))  # noqa: E731
make_without_choice = lambda: Tame(  # noqa: E731
    obs=spaces.Dict({"see": spaces.Discrete(3), "action_mask": spaces.Box(0, 0, (2,), np.int8)})
)


def make_sometimes() -> Tame:
    return Sometimes(RuntimeError("a step breaks"), every=201)


def make_exiting() -> Tame:
    return Sometimes(SystemExit(0), every=201)


def make_breaking() -> Tame:
    return Sometimes(RuntimeError("a step breaks"), every=3)


def make_cancelled() -> Tame:
    return Sometimes(Cancelled("a step is cancelled"), every=201)


def make_interrupting() -> Tame:
    return Sometimes(KeyboardInterrupt(), every=201)


def make_wordless() -> Tame:
    return Sometimes(WordlessError(), every=3)


def make_exiting_always() -> Tame:
    return Sometimes(SystemExit(0), every=3)


def make_constructor() -> Tame:
    raise RuntimeError("the constructor breaks")


def make_exit() -> Tame:
    sys.exit(0)


def make_nothing() -> None:
    return None


def make_recursive() -> Tame:
    return make_recursive()
