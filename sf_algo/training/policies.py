"""Changes to policies while a training runs: hyperparameters, reward shaping, the state of another policy.

Whoever decides on them (population-based training, self-play) is asked at the right moments (`PolicyRules`); how a
change reaches a learner, the workers and the checkpoints is here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from sf_algo.config import LearnerConfig
from sf_algo.errors import SfAlgoError
from sf_algo.ipc.roster import Roster
from sf_algo.learner.overrides import Overrides
from sf_algo.learning.learners import Learners, PolicyChange
from sf_algo.rollout.episodes import MatchReport
from sf_algo.summaries.episodes import EpisodeWindow
from sf_algo.training.ledger import Ledger
from sf_algo.training.observing import TrainingHandle

log = logging.getLogger(__name__)

DONOR_PATIENCE_S = 300.0
"""How long a policy's state is waited for before an exchange with it is given up (s)."""
_SHAPING = "shaping"


class PolicyRules(Protocol):
    """Decides how policies change while they train. Called by the main thread."""

    def step(self, control: PolicyControl) -> None:
        """Between two rounds where sampling and learning take turns, else a few times a second. Has to come back
        quickly."""

    def on_matches(self, matches: Sequence[MatchReport]) -> None:
        """Matches that ended since the last `step`."""

    def summaries(self, policy: int) -> dict[str, float]:
        """Tags and numbers for the summaries of a policy."""

    def results(self, policy: int) -> dict[str, Any]:
        """What JSON can say, for that policy in ``results.json``."""

    def state(self, policy: int) -> dict[str, Any]:
        """Plain values for that policy's checkpoint; what belongs to all of them, with the first one."""

    def restore(self, policy: int, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken. Called for every policy that has a checkpoint, before the first `step`."""


@dataclass(frozen=True, kw_only=True)
class Exchanged:
    """What became of an exchange."""

    policy: int
    donor: int | None
    policy_version: int
    """The version that the policy became by it; where it was given up, the one that it has."""
    frames: int
    """Environment frames that the policy has been trained on."""
    error: str = ""
    """Why it was given up; empty where it took place. The policy is what it was then."""


@dataclass(kw_only=True)
class _Exchange:
    """One under way."""

    policy: int
    donor: int | None
    overrides: Mapping[str, Any]
    shaping: Mapping[str, float] | None
    on_done: Callable[[Exchanged], None]
    began: float = field(default_factory=time.monotonic)
    state: Future[Mapping[str, Any]] | None = None
    changed: Future[int] | None = None


class PolicyControl:
    """Belongs to the main thread. Nothing here waits for a learner: an exchange takes as long as its slower policy
    needs to come to the end of an iteration, and everybody else goes on."""

    def __init__(
        self,
        flags: Sequence[LearnerConfig],
        roles: Sequence[int],
        learners: Learners,
        ledger: Ledger,
        windows: Sequence[EpisodeWindow],
        handle: TrainingHandle,
        roster: Roster,
    ) -> None:
        """`flags`: of each policy, what the flags say of its hyperparameters. `roles`: number of each policy's role."""
        self.ledger = ledger
        self.windows = windows
        self.roster = roster
        """Who acts where, for the workers."""
        self._roles = roles
        self._learners = learners
        self._handle = handle
        self._overrides = [Overrides(rl) for rl in flags]
        self._carries_shaping = [False] * len(windows)
        self._under_way: list[_Exchange] = []
        self._to_save: set[int] = set()
        self.on_exchanged: list[Callable[[Exchanged], None]] = []
        """Told of every exchange, before who asked for it."""

    @property
    def trained(self) -> range:
        """Ids of the policies in training."""
        return range(len(self.windows))

    def role(self, policy: int) -> int:
        """Policies are exchanged within a role only."""
        return self._roles[policy]

    def frames(self, policy: int) -> int:
        """Environment frames that a policy has been trained on."""
        return self.ledger.policies[policy].trained_frames

    def version(self, policy: int) -> int:
        return self.ledger.policies[policy].policy_version

    def averages(self, policy: int) -> dict[str, float]:
        """Of every statistic, over the policy's newest episodes."""
        return self.windows[policy].means()

    def overrides(self, policy: int) -> dict[str, Any]:
        """The hyperparameters in which a policy differs from the flags: name of the flag -> value."""
        return dict(self._overrides[policy].values)

    def hyperparameters(self, policy: int) -> LearnerConfig:
        """All that a policy is trained with now."""
        return self._overrides[policy].config

    def shaping(self, policy: int) -> dict[str, float]:
        """The reward shaping of a policy by full names; empty where the environment has none."""
        return self._handle.flat_shaping(policy)

    def busy(self, policy: int) -> bool:
        """Whether an exchange of that policy, or with it, is under way."""
        return any(policy in (exchange.policy, exchange.donor) for exchange in self._under_way)

    def exchange(
        self,
        policy: int,
        *,
        donor: int | None = None,
        overrides: Mapping[str, Any],
        shaping: Mapping[str, float] | None = None,
        on_done: Callable[[Exchanged], None] = lambda exchanged: None,
    ) -> None:
        """Changes a policy at the end of its iteration. `donor`: the policy whose weights, normalizers and optimizer it
        takes over; its own counters go on, what it has collected before is not trained on, and its averages begin anew.
        `overrides`: all hyperparameters in which it differs from the flags from then on. `shaping`: reward shaping to
        change, by full names; agents have it from their next episodes on.

        All of it is in one checkpoint of the policy, or nothing. `on_done` is called on this thread.
        """
        exchange = _Exchange(policy=policy, donor=donor, overrides=overrides, shaping=shaping, on_done=on_done)
        if donor is not None:
            exchange.state = self._learners.ask_state(donor)
        self._under_way.append(exchange)
        self.advance()

    def take_changed(self) -> set[int]:
        """The policies that were changed since the last call: their checkpoints are due, so that what is told of an
        exchange and what is on disk agree soon."""
        changed, self._to_save = self._to_save, set()
        return changed

    def advance(self) -> None:
        """Does what has become possible of the exchanges under way."""
        for exchange in list(self._under_way):
            try:
                over = self._advance(exchange)
            except SfAlgoError as error:
                self._end(exchange, str(error))
                continue
            if over:
                self._end(exchange, "")

    def _advance(self, exchange: _Exchange) -> bool:
        """True when it has taken place."""
        if exchange.changed is None:
            if exchange.state is not None and not exchange.state.done():
                if time.monotonic() - exchange.began > DONOR_PATIENCE_S:
                    raise SfAlgoError(f"policy {exchange.donor} has not given its state for {DONOR_PATIENCE_S:g} s")
                return False
            what = PolicyChange(
                overrides=exchange.overrides,
                donor=None if exchange.state is None else exchange.state.result(),
                carried=self._carried(exchange),
            )
            exchange.state = None
            exchange.changed = self._learners.ask_change(exchange.policy, what)
        return exchange.changed.done() and exchange.changed.result() >= 0

    def _carried(self, exchange: _Exchange) -> dict[str, Any]:
        if exchange.shaping is None and not self._carries_shaping[exchange.policy]:
            return {}
        return {_SHAPING: {**self.shaping(exchange.policy), **(exchange.shaping or {})}}

    def _end(self, exchange: _Exchange, error: str) -> None:
        self._under_way.remove(exchange)
        policy = exchange.policy
        version = self.version(policy)
        if not error:
            assert exchange.changed is not None
            version = exchange.changed.result()
            self._overrides[policy].set(exchange.overrides)
            if exchange.shaping is not None:
                self._carries_shaping[policy] = True
                self._handle.set_shaping(policy, exchange.shaping)
            self.ledger.changed(policy, version)
            if exchange.donor is not None:
                self.windows[policy].forget()
            self._to_save.add(policy)
        exchanged = Exchanged(
            policy=policy,
            donor=exchange.donor,
            policy_version=version,
            frames=self.frames(policy),
            error=error,
        )
        for told in (*self.on_exchanged, exchange.on_done):
            told(exchanged)

    def load(self, policy: int, state: Mapping[str, Any]) -> None:
        """Goes on from the learner's state in a checkpoint. A hyperparameter that was changed holds, unless its flag
        has another value than it had then.

        Raises:
            CheckpointMismatchError: the state belongs to another network.
        """
        self._learners.wait(policy, self._learners.ask_load(policy, state))
        for name, value in self._overrides[policy].restore(state).items():
            log.info("policy %d: --%s is what the flags say now, no longer %s", policy, name, value)
        known = self.shaping(policy)
        saved = state.get("carried", {}).get(_SHAPING, {})
        shaping = {name: value for name, value in saved.items() if name in known}
        if shaping:
            self._carries_shaping[policy] = True
            self._handle.set_shaping(policy, shaping)
