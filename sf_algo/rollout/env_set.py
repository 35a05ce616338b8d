"""The environments of one split: made, seeded, watched and, when one breaks, made anew."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.spec import Env, EnvSpec, ObsTarget, StepResult, goes_on
from sf_algo.errors import WorkerError
from sf_algo.rollout.episodes import mix_seed

MAX_CRASHES_IN_A_ROW = 3
"""An environment that breaks this often without finishing an episode in between will not get better."""
FREE_CRASHES = 10
MAX_CRASH_SHARE = 0.1
"""Beyond the free ones, crashes may be at most this share of an environment's episodes."""


class EnvWatch(Protocol):
    """Is told which environment runs, so that somebody else can name it when it never comes back."""

    def resetting(self, env_index: int) -> None:
        """It is about to be made, reset or closed, which may take long."""

    def stepping(self, env_index: int) -> None:
        """It is about to step. Called on the hot path."""


@dataclass(frozen=True, kw_only=True)
class EnvFault:
    """An environment broke and was made anew."""

    env_index: int
    episode: int
    traceback: str


class EnvSet:
    """E environments, addressed by their position e in the split.

    `make_env(env_index)` makes one. With `seed_every_episode` each reset gets a seed of its own, so that an
    episode is reproducible from (seed, environment, episode, actions); otherwise only an environment's first
    reset does, which spares engines that are slow to seed. `watch(env_index)` is called before anything that
    may hang.
    """

    def __init__(
        self,
        *,
        make_env: Callable[[int], Env],
        env_indices: Sequence[int],
        spec: EnvSpec,
        seed: int,
        seed_every_episode: bool,
        watch: EnvWatch,
        on_fault: Callable[[EnvFault], None],
    ) -> None:
        self._make_env = make_env
        self.env_indices = tuple(env_indices)
        self.spec = spec
        self._seed = seed
        self._seed_every_episode = seed_every_episode
        self._watch = watch
        self._on_fault = on_fault
        self.episodes = [-1] * len(self.env_indices)
        self._crashes_in_a_row = [0] * len(self.env_indices)
        self._crashes = [0] * len(self.env_indices)
        self._unseeded = [True] * len(self.env_indices)
        self._envs: list[Env | None] = [None] * len(self.env_indices)

    def __len__(self) -> int:
        return len(self.env_indices)

    def open_all(self) -> None:
        """Makes every environment; until then none exists."""
        for e in range(len(self)):
            self._open(e)

    def _open(self, e: int) -> Env:
        self._watch.resetting(self.env_indices[e])
        env = self._make_env(self.env_indices[e])
        if env.spec != self.spec:
            raise WorkerError(
                f"environment {self.env_indices[e]} has other spaces than the first one made: {env.spec} "
                f"instead of {self.spec}; all environments of a run must agree"
            )
        self._envs[e] = env
        self._unseeded[e] = True
        return env

    def goes_on(self, e: int) -> bool:
        """Whether the episode of environment e that just ended was only a part of a game that is not over."""
        return goes_on(self._envs[e])

    def go_on(self, e: int, out: ObsTarget) -> None:
        """Reset environment e to the next part of its game, without any healing."""
        env = self._envs[e]
        assert env is not None, "go on before reset"
        self._watch.resetting(self.env_indices[e])
        env.reset(out)

    def try_go_on(self, e: int, out: ObsTarget) -> bool:
        """As `go_on`. False where there is no game to go on with, or the environment broke over it."""
        if not self.goes_on(e):
            return False
        try:
            self.go_on(e, out)
        except Exception as error:
            self.replace_broken(e, error)
            return False
        return True

    def begin_episode(self, e: int, out: ObsTarget) -> None:
        """Reset environment e; a broken one is replaced. Raises WorkerError when that does not help."""
        self.episodes[e] += 1
        while True:
            try:
                self.reset_to(e, self.episodes[e], out)
            except Exception as error:
                self.replace_broken(e, error)
            else:
                return

    def reset_to(self, e: int, episode: int, out: ObsTarget) -> None:
        """Reset environment e to the start of that episode, without any healing."""
        self.episodes[e] = episode
        env = self._envs[e] or self._open(e)
        self._watch.resetting(self.env_indices[e])
        seeded = self._seed_every_episode or self._unseeded[e]
        env.reset(out, seed=mix_seed(self._seed, self.env_indices[e], episode) if seeded else None)
        self._unseeded[e] = False

    def step(self, e: int, actions: NDArray[np.float32], out: ObsTarget) -> StepResult:
        """One step of environment e, which must have been reset. Whatever it raises comes through."""
        self._watch.stepping(self.env_indices[e])
        env = self._envs[e]
        assert env is not None, "step before reset"
        return env.step(actions, out)

    def try_step(self, e: int, actions: NDArray[np.float32], out: ObsTarget) -> StepResult | None:
        """As `step`. None when the environment broke; its next reset makes a new one."""
        try:
            self._watch.stepping(self.env_indices[e])
            return self._envs[e].step(actions, out)  # type: ignore[union-attr]
        except Exception as error:
            self.replace_broken(e, error)
            return None

    def finished_episode(self, e: int) -> None:
        """Environment e ended an episode in an orderly way."""
        self._crashes_in_a_row[e] = 0

    def replace_broken(self, e: int, error: Exception) -> None:
        """Close environment e after `error`; the next reset makes a new one. Gives up on a hopeless one."""
        fault = EnvFault(
            env_index=self.env_indices[e],
            episode=self.episodes[e],
            traceback="".join(traceback.format_exception(type(error), error, error.__traceback__)),
        )
        self._crashes[e] += 1
        self._crashes_in_a_row[e] += 1
        self._close(e)
        if isinstance(error, WorkerError):
            raise error
        hopeless = self._hopeless(e)
        if hopeless:
            why = traceback.format_exception_only(type(error), error)[-1].strip()
            raise WorkerError(
                f"environment {fault.env_index} broke {hopeless}; the last time with {why}\n{fault.traceback}"
            ) from error
        self._on_fault(fault)

    def _hopeless(self, e: int) -> str:
        """Why environment e is not made once more; empty where it is."""
        if self._crashes_in_a_row[e] >= MAX_CRASHES_IN_A_ROW:
            return f"{self._crashes_in_a_row[e]} times without finishing an episode"
        episodes = max(1, self.episodes[e])
        if self._crashes[e] > FREE_CRASHES and self._crashes[e] > MAX_CRASH_SHARE * episodes:
            return f"{self._crashes[e]} times in {episodes} episodes"
        return ""

    def _close(self, e: int) -> None:
        env, self._envs[e] = self._envs[e], None
        if env is not None:
            self._watch.resetting(self.env_indices[e])
            with suppress(Exception):  # it is broken already
                env.close()

    def close(self) -> None:
        for e in range(len(self)):
            self._close(e)
