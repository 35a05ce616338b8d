"""What an environment looks like to the rest of the trainer: specs, the `Env` protocol, its step result.

Shape letters: A agents of one environment, C x H x W an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sf_algo.own.shaping import flatten

PLAIN_OBS = "obs"
"""Name of the observation of an environment whose observation is not a dictionary."""

ACTION_MASK = "action_mask"
"""The one reserved observation name: int8, one entry per choice of all Discrete components, in order;
0 forbids that choice."""

ObsRow: TypeAlias = Mapping[str, NDArray[Any]]
"""Views to fill for one agent: observation name -> array of that observation's shape and dtype."""

ObsBlock: TypeAlias = Mapping[str, NDArray[Any]]
"""Arrays to fill for all agents at once: observation name -> [A, ...]."""

ObsTarget: TypeAlias = "Sequence[ObsRow] | ObsBlock"
"""What an environment writes its observations into: rows per agent, or one block (`EnvSpec.autoreset`)."""

EpisodeStats: TypeAlias = Mapping[str, "float | NDArray[np.float64]"]
"""Extra statistics of a finished episode: name -> one number for all agents, or one per agent [A]."""


@dataclass(frozen=True, kw_only=True)
class ObsSpec:
    """One observation. Images are uint8 and CHW; numbers are float32."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def is_image(self) -> bool:
        """True for a CHW byte image: what a convolutional encoder takes."""
        return len(self.shape) == 3 and self.dtype == np.uint8

    def zeros(self, *leading: int) -> NDArray[Any]:
        """A zeroed array [*leading, *shape]."""
        return np.zeros((*leading, *self.shape), self.dtype)


@dataclass(frozen=True)
class Discrete:
    """A choice among 0..n-1; stored as one float32 number."""

    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"a discrete action needs at least one choice, got n={self.n}")

    @property
    def width(self) -> int:
        return 1


@dataclass(frozen=True)
class Box:
    """A vector of real numbers; `low` and `high` have one entry per number and may be infinite.

    The policy acts in the environment's own units; environments clip what lies outside the bounds.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.low or len(self.low) != len(self.high):
            raise ValueError(f"a box needs as many lows as highs, got {len(self.low)} and {len(self.high)}")

    @property
    def width(self) -> int:
        return len(self.low)


ActionComponent: TypeAlias = "Discrete | Box"


@dataclass(frozen=True)
class ActionSpec:
    """An action is one float32 row of `width` numbers: one per Discrete, `len(low)` per Box, in order."""

    components: tuple[ActionComponent, ...]

    def __post_init__(self) -> None:
        if not self.components:
            raise ValueError("an action space needs at least one component")

    @property
    def width(self) -> int:
        return sum(component.width for component in self.components)

    @property
    def num_choices(self) -> int:
        """Sum of n over the Discrete components: the length of an action mask."""
        return sum(c.n for c in self.components if isinstance(c, Discrete))

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where each component lies in the action row."""
        stops = np.cumsum([component.width for component in self.components]).tolist()
        return tuple(slice(stop - c.width, stop) for c, stop in zip(self.components, stops, strict=True))

    def __str__(self) -> str:
        """As people write it: `Discrete(6)`, `Discrete(3) + Box(2)`."""
        return " + ".join(f"Discrete({c.n})" if isinstance(c, Discrete) else f"Box({c.width})" for c in self.components)

    def sample(self, rng: np.random.Generator, rows: int, mask: NDArray[np.int8] | None = None) -> NDArray[np.float32]:
        """Uniformly random actions [rows, width]; an unbounded number is drawn from a standard normal.

        With a `mask` [rows, num_choices], only choices that it allows are drawn.
        """
        out = np.empty((rows, self.width), np.float32)
        first = 0
        for component, where in zip(self.components, self.slices, strict=True):
            if isinstance(component, Discrete):
                if mask is None:
                    out[:, where] = rng.integers(component.n, size=(rows, 1))
                else:
                    allowed = mask[:, first : first + component.n] != 0
                    drawn = np.where(allowed, rng.random(allowed.shape), -1.0)
                    out[:, where] = drawn.argmax(axis=1)[:, None]
                first += component.n
                continue
            low, high = np.asarray(component.low), np.asarray(component.high)
            bounded = np.isfinite(low) & np.isfinite(high)
            drawn = rng.uniform(np.where(bounded, low, 0.0), np.where(bounded, high, 1.0), (rows, len(low)))
            normal = np.clip(rng.standard_normal((rows, len(low))), low, high)
            out[:, where] = np.where(bounded, drawn, normal)
        return out


@dataclass(frozen=True, kw_only=True)
class EnvSpec:
    """All that the trainer must know of an environment before it starts one.

    `frameskip` is the number of simulator frames one step stands for: counters of frames multiply by it.
    """

    obs: Mapping[str, ObsSpec]
    actions: ActionSpec
    num_agents: int = 1
    frameskip: int = 1
    roles: tuple[int, ...] = ()
    """Number of each agent's role, from 0: with as many policies as roles or more, each role has policies of its own.
    Empty: all have the same role."""
    autoreset: bool = False
    """Agents begin their next episodes by themselves, each in its own time, and observations are written as one
    `ObsBlock`. The caller resets such an environment once, at the start."""
    shaping: Mapping[str, float] = field(default_factory=dict)
    """Numbers that shape rewards and may change while the training runs, with the values they begin with; see
    `SupportsShaping`."""
    step_fields: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Numbers of every step of an agent beside its reward, for losses of the user's: name -> shape. The environment has
    a `recorder` (`sf_algo.envs.recorder`)."""

    def __post_init__(self) -> None:
        mask = self.obs.get(ACTION_MASK)
        if mask is not None and (mask.dtype != np.int8 or mask.shape != (self.actions.num_choices,)):
            raise ValueError(
                f"observation {ACTION_MASK!r} must be int8 of shape ({self.actions.num_choices},), one entry "
                f"per discrete choice; got {mask.dtype} {mask.shape}"
            )

    @property
    def num_roles(self) -> int:
        return max(self.roles, default=0) + 1

    def sample_actions(self, rng: np.random.Generator, seen: ObsTarget) -> NDArray[np.float32]:
        """Random actions [A, width] that the action masks among the observations allow."""
        mask = None
        if ACTION_MASK in self.obs:
            mask = seen[ACTION_MASK] if isinstance(seen, Mapping) else np.stack([row[ACTION_MASK] for row in seen])
        return self.actions.sample(rng, self.num_agents, mask)

    def targets(self, arrays: ObsBlock) -> ObsTarget:
        """What such an environment writes into, for `arrays` that are name -> [A, ...]."""
        if self.autoreset:
            return arrays
        return [{name: array[a, ...] for name, array in arrays.items()} for a in range(self.num_agents)]

    def empty_rows(self) -> list[dict[str, NDArray[Any]]]:
        """Freshly allocated rows for every agent (for tests of environments without `autoreset`)."""
        return [{name: spec.zeros() for name, spec in self.obs.items()} for _ in range(self.num_agents)]


class StepResult(NamedTuple):
    """One step of all agents. The arrays belong to the environment, which overwrites them in its next step.

    rewards [A] float32; terminated, truncated, active [A] bool. An agent that ends before the others is out of the
    game until the environment is reset, which the caller does when all have ended. So is one that waits to respawn:
    it is not `active`, and nothing of such a step is learned from. `episode` is None except on the last step of an
    episode. It then holds the statistics which the caller cannot sum up, `true_reward` where shaping or
    clipping changes rewards.

    `restarted` [A] bool, of environments with `autoreset` only (None: nobody): the observation just written is the
    first of the agent's next episode. Together with `truncated` it means that the final observation is lost.
    """

    rewards: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    active: NDArray[np.bool_]
    episode: EpisodeStats | None
    restarted: NDArray[np.bool_] | None = None

    @staticmethod
    def blank(num_agents: int, *, active: bool = True) -> StepResult:
        """To be filled in: no rewards, and nobody has ended."""
        terminated, truncated = np.zeros(num_agents, np.bool_), np.zeros(num_agents, np.bool_)
        return StepResult(
            np.zeros(num_agents, np.float32), terminated, truncated, np.full(num_agents, active, np.bool_), None
        )


@runtime_checkable
class Env(Protocol):
    """One environment with one agent or many. Observations are written straight into the caller's arrays: `out` is a
    sequence of `ObsRow`, or an `ObsBlock` where the spec says `autoreset`.

    The environment never resets itself, unless its spec says `autoreset`: after a step in which the last agent ended
    the caller calls `reset`.
    A broken environment (its engine died) raises `sf_algo.errors.EnvCrashed`; the caller may make a new one.
    """

    spec: EnvSpec

    def reset(self, out: Any, *, seed: int | None = None) -> None:
        """Begin an episode, write its first observation. A seed makes this and later ones reproducible."""

    def step(self, actions: NDArray[np.float32], out: Any) -> StepResult:
        """Act (actions [A, width]) and write the next observation, also the final one of an episode."""

    def close(self) -> None:
        """Free everything; may be called twice."""


@runtime_checkable
class EndsInParts(Protocol):
    """An environment whose training episodes are parts of a longer game (the lives of an Atari game)."""

    @property
    def goes_on(self) -> bool:
        """True after a step that ended an episode but not the game. A reset without a seed then goes on with
        the game; one with a seed begins another."""


@runtime_checkable
class StepsAhead(Protocol):
    """An environment that waits for other processes in its steps, and can do so beside others."""

    def begin_step(self, actions: NDArray[np.float32]) -> None:
        """Begin a step; `step` with the same actions follows and ends it. Raises nothing."""


@runtime_checkable
class SupportsShaping(Protocol):
    """An environment whose reward shaping may be changed between episodes, for each agent."""

    def shaping(self) -> Mapping[str, Any]:
        """The numbers as they are at the start: name -> number, or -> another such dictionary."""

    def set_shaping(self, agent: int, values: Mapping[str, Any]) -> None:
        """Shape the rewards of that agent so from now on; `values` are nested as in `shaping`. Called after a reset."""


def with_shaping(env: Env, users: Any) -> Env:
    """The same environment, with the shaping that the user's object behind it has, if any."""
    owner: Any = users
    if not hasattr(owner, "set_shaping") and hasattr(owner, "has_wrapper_attr"):
        owner = owner.unwrapped
    start = owner.shaping() if isinstance(owner, SupportsShaping) else None
    if isinstance(start, Mapping):
        wrapped: Any = env
        wrapped.shaping, wrapped.set_shaping = owner.shaping, owner.set_shaping
        wrapped.spec = replace(env.spec, shaping=flatten(start))
    return env


def goes_on(env: Env | None) -> bool:
    """Whether the episode that just ended is followed by the rest of the same game."""
    return isinstance(env, EndsInParts) and env.goes_on


@runtime_checkable
class SupportsRender(Protocol):
    """An environment that can be watched."""

    def render(self) -> NDArray[np.uint8] | None:
        """The current frame [H, W, 3], or None where the environment draws into its own window."""


@dataclass(frozen=True, kw_only=True)
class EnvPlacement:
    """Where an environment lives; makers use it for ports and names in messages, never for seeds."""

    worker_index: int = 0
    env_index: int = 0
    """Index among all environments of the run: unique."""
    policy_index: int = 0
    render_mode: str | None = None
    """None while training; "human" opens a window; "rgb_array" makes `render` return frames."""
    asynchronous: bool = False
    """The simulator keeps its own pace while the policy thinks (VizDoom; for watching)."""
    record_to: str | None = None
    """Folder for the simulator's own recordings (VizDoom demos)."""
    reproducible: bool = True
    """An episode has to follow from the seed of its reset alone. Otherwise the environment may choose episodes that are
    faster to begin (DeepMind Lab: those whose maps are in the level cache)."""
    watched: bool = False
    """A policy is watched in this environment alone: where a run has several tasks, its episodes go through all."""


def as_number(value: Any) -> float | None:
    """`value` as a number where it is one, or an array of one; None where it is anything else."""
    if value is None or isinstance(value, (str, bytes)):
        return None
    try:
        array = np.asarray(value)
        return float(array.reshape(-1)[0]) if array.size == 1 and array.dtype.kind in "biuf" else None
    except Exception:  # whatever an object of a user's own does when it is asked
        return None


def agent_episode_stats(stats: EpisodeStats, agent: int) -> dict[str, float]:
    """The statistics of one agent as plain numbers; what is no number is left out."""
    found: dict[str, float] = {}
    for name, value in stats.items():
        own = value[agent] if isinstance(value, np.ndarray) and value.ndim > 0 and agent < len(value) else value
        number = as_number(own)
        if number is not None:
            found[str(name)] = number
    return found
