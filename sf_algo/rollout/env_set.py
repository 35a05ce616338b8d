"""The environments of one split: made, seeded, watched and, when one breaks, made anew."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.recorder import HasRecorder, InfoRecorder
from sf_algo.envs.spec import Env, EnvSpec, ObsTarget, StepResult, StepsAhead, SupportsShaping, goes_on
from sf_algo.errors import EnvContractError, EnvCrashedError, WorkerError
from sf_algo.own.shaping import nest
from sf_algo.processes.stopping import StopRequested
from sf_algo.rollout.episodes import mix_seed

MAX_CRASHES_IN_A_ROW = 3
"""An environment that breaks this often without finishing an episode in between will not get better."""
FREE_CRASHES = 10
MAX_CRASH_SHARE = 0.1
"""Beyond the free ones, crashes may be at most this share of an environment's episodes."""


NO_BREAKDOWNS = (KeyboardInterrupt, StopRequested)
"""What is raised while an environment runs, but is none of its own doing. All else it may raise: one that calls
`sys.exit` must not end the training, least of all with success."""
NOT_FINITE = "what this episode has collected is thrown away"
NO_CHOICE = "it is taken as if every choice were allowed"
"""Kinds of notices: what follows from what an environment did."""


class EnvWatch(Protocol):
    """Is told which environment runs, so that somebody else can name it when it never comes back."""

    def resetting(self, env_index: int) -> None:
        """It is about to be made, reset or closed, which may take long."""

    def stepping(self, env_index: int) -> None:
        """It is about to step. Called on the hot path."""


@dataclass(frozen=True, kw_only=True)
class EnvFault:
    """An environment broke and was made anew, or did something that its user should know."""

    env_index: int
    episode: int
    traceback: str = ""
    """Of the exception that broke it; empty where it is not broken."""
    notice: str = ""
    """What it did, in words; empty where it broke."""
    count: int = 1
    """How often that environment has done this so far."""


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
        self._finished = [0] * len(self.env_indices)
        self._notices: Counter[tuple[int, str]] = Counter()
        self._unseeded = [True] * len(self.env_indices)
        self._unstepped = [True] * len(self.env_indices)
        self._envs: list[Env | None] = [None] * len(self.env_indices)
        self._ahead = [False] * len(self.env_indices)
        self.steps_ahead = False
        """Some environments have steps that can begin side by side."""

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
        self._ahead[e] = isinstance(env, StepsAhead)
        self.steps_ahead |= self._ahead[e]
        self._unseeded[e] = self._unstepped[e] = True
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
        except BaseException as error:
            self.replace_broken(e, error)
            return False
        return True

    def begin_episode(self, e: int, out: ObsTarget) -> None:
        """Reset environment e; a broken one is replaced. Raises WorkerError when that does not help."""
        self.episodes[e] += 1
        while True:
            try:
                self.reset_to(e, self.episodes[e], out)
            except BaseException as error:
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

    def begin_steps(self, actions: NDArray[np.float32], skipped: Sequence[bool]) -> None:
        """Environments whose steps can begin side by side do so, with their `actions` [E, A, width]; `step` or
        `try_step` ends them. Not those that are `skipped` [E]."""
        if not self.steps_ahead:
            return
        for e, env_actions in enumerate(actions):
            env: Any = self._envs[e]
            if self._ahead[e] and env is not None and not skipped[e] and not self._unstepped[e]:
                self._watch.stepping(self.env_indices[e])
                env.begin_step(env_actions)

    def step(self, e: int, actions: NDArray[np.float32], out: ObsTarget) -> StepResult:
        """One step of environment e, which must have been reset. Whatever it raises comes through."""
        env = self._envs[e]
        assert env is not None, "step before reset"
        if self._unstepped[e]:
            return self._first_step(e, env, actions, out)
        self._watch.stepping(self.env_indices[e])
        return env.step(actions, out)

    def _first_step(self, e: int, env: Env, actions: NDArray[np.float32], out: ObsTarget) -> StepResult:
        """It may compile the simulator, which takes as long as a start."""
        self._watch.resetting(self.env_indices[e])
        result = env.step(actions, out)
        self._unstepped[e] = False
        return result

    def try_step(self, e: int, actions: NDArray[np.float32], out: ObsTarget) -> StepResult | None:
        """As `step`. None when the environment broke; its next reset makes a new one."""
        try:
            if self._unstepped[e]:
                return self.step(e, actions, out)
            self._watch.stepping(self.env_indices[e])
            return self._envs[e].step(actions, out)  # type: ignore[union-attr]
        except BaseException as error:
            self.replace_broken(e, error)
            return None

    def recorder(self, e: int) -> InfoRecorder | None:
        """What records the infos of environment e, if anything does."""
        env = self._envs[e]
        return env.recorder if isinstance(env, HasRecorder) else None

    def set_shaping(self, e: int, agent: int, values: Mapping[str, float]) -> None:
        """Change the reward shaping of one agent of environment e. Raises WorkerError where that fails."""
        env = self._envs[e]
        if isinstance(env, SupportsShaping):
            try:
                env.set_shaping(agent, nest(values))
            except Exception as error:
                why = traceback.format_exception_only(type(error), error)[-1].strip()
                trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
                raise WorkerError(f"environment {self.env_indices[e]}: set_shaping failed: {why}\n{trace}") from error

    def finished_episode(self, e: int, count: int = 1) -> None:
        """Environment e ended an episode in an orderly way, or `count` of them."""
        self._crashes_in_a_row[e] = 0
        self._finished[e] += count

    def replace_broken(self, e: int, error: BaseException) -> None:
        """Close environment e after `error`; the next reset makes a new one. Gives up on a hopeless one. Raises what is
        not the environment's doing."""
        if isinstance(error, NO_BREAKDOWNS):
            raise error
        fault = EnvFault(
            env_index=self.env_indices[e],
            episode=self.episodes[e],
            traceback=_told(error),
        )
        self._close(e)
        if isinstance(error, (WorkerError, EnvContractError)):
            raise error  # another one would do the same
        hopeless = self._one_more_fault(e)
        if hopeless:
            why = traceback.format_exception_only(type(error), error)[-1].strip()
            raise WorkerError(
                f"environment {fault.env_index} broke {hopeless}; the last time with {why}\n{fault.traceback}"
            ) from error
        self._on_fault(fault)

    def give_up_episode(self, e: int, what: str) -> None:
        """Environment e gave a number that is none, `what` says where; the caller begins another episode. Raises
        WorkerError where that happens too often."""
        in_a_row = MAX_CRASHES_IN_A_ROW * (self.spec.num_agents if self.spec.autoreset else 1)
        hopeless = self._one_more_fault(e, in_a_row)
        if hopeless:
            raise WorkerError(
                f"environment {self.env_indices[e]} gave numbers that are not finite {hopeless}; the last time {what}; "
                "correct the environment: rewards and observations must be finite in 32 bits"
            )
        self.notice(e, NOT_FINITE, what)

    def notice(self, e: int, kind: str, what: str) -> None:
        """Tell that environment e did something of that kind; ever more rarely where it goes on."""
        self._notices[e, kind] += 1
        count = self._notices[e, kind]
        if count & (count - 1) == 0:
            said = f"{what}; {kind}"
            self._on_fault(EnvFault(env_index=self.env_indices[e], episode=self.episodes[e], notice=said, count=count))

    def discard(self, e: int) -> None:
        """Close environment e; the next reset makes a new one."""
        self._close(e)

    def _one_more_fault(self, e: int, most_in_a_row: int = MAX_CRASHES_IN_A_ROW) -> str:
        """Counts it. Why environment e is given up; empty where it gets another chance."""
        self._crashes[e] += 1
        self._crashes_in_a_row[e] += 1
        if self._crashes_in_a_row[e] >= most_in_a_row:
            return f"{self._crashes_in_a_row[e]} times without finishing an episode"
        episodes = max(1, self.episodes[e], self._finished[e])
        if self._crashes[e] > FREE_CRASHES and self._crashes[e] > MAX_CRASH_SHARE * episodes:
            return f"{self._crashes[e]} times in {episodes} episodes"
        return ""

    def _close(self, e: int) -> None:
        env, self._envs[e] = self._envs[e], None
        if env is not None:
            self._watch.resetting(self.env_indices[e])
            try:
                env.close()
            except NO_BREAKDOWNS:
                raise
            except BaseException:  # it is broken already
                return

    def close(self) -> None:
        for e in range(len(self)):
            self._close(e)


def _told(error: BaseException) -> str:
    """Where it happened, for those who can change that; of an engine that died, what its environment says of it."""
    if type(error) is EnvCrashedError:
        return str(error)
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))
