"""Checkpoints of a running training: when they are due, what is in them, and how a run goes on from one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

from sf_algo.acting.policies import TrainedPolicy
from sf_algo.checkpoints import Checkpoint, CheckpointStore, unsound_tensors
from sf_algo.config import RunConfig
from sf_algo.errors import CheckpointError, DivergedError, SfAlgoError, StorageError, WorkerError
from sf_algo.learning.learners import KnownState, Learners
from sf_algo.paths import ExperimentPaths
from sf_algo.plain import cloned
from sf_algo.save_schedule import SaveSchedule
from sf_algo.summaries.episodes import EpisodeWindow
from sf_algo.training.ledger import Ledger
from sf_algo.training.observing import ProgramState
from sf_algo.training.rules import Rules

log = logging.getLogger(__name__)

WINDOW, ACTOR, SAMPLER, PROGRAM, RULES = "episodes", "actor_generator", "sampler", "program", "rules"
"""Keys of a checkpoint's `runtime` part."""
FIRST_PATIENCE_S, LAST_PATIENCE_S = 5.0, 120.0
"""At the end, a learner has the time of three iterations and this long to hand over its state (s). While the first of
these is over for one, the others have their turn."""

Kind = Literal["regular", "milestone", "best"]


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A checkpoint under way: its policy is in the middle of an iteration."""

    kind: Kind
    state: Future[Mapping[str, Any]]
    metric: float | None = None
    """Of the best checkpoint."""
    before: float | None = None
    """The best value until then."""


class Saver:
    """Saves the policies of a run, each into its own folder. Nobody waits for a policy that is slow to give its state.
    A save that fails is told and tried again later."""

    def __init__(
        self,
        run: RunConfig,
        paths: ExperimentPaths,
        policies: Sequence[TrainedPolicy],
        ledger: Ledger,
        windows: Sequence[EpisodeWindow],
        *,
        learners: Learners,
        sampler_state: Callable[[], Mapping[str, Any]],
        programs: ProgramState,
        rules: Rules,
        together: bool,
    ) -> None:
        """`sampler_state` is what a serial training adds to the first policy's checkpoint, else empty. `programs`: what
        the user's program adds; `rules` add what they must remember, and say which policies are to be saved soon.
        `together`: no policy is saved without the others, because it goes on from the sampler's state as well."""
        self.programs = programs
        self._run = run
        self._policies = policies
        self._ledger = ledger
        self._windows = windows
        self._learners = learners
        self._sampler_state = sampler_state
        self._together = together
        self.rules = rules
        now = time.monotonic()
        self._schedules = [SaveSchedule(run=run, started=now) for _ in policies]
        self.stores = [
            CheckpointStore(paths.checkpoints(policy.policy_id), keep=run.keep_checkpoints) for policy in policies
        ]
        self._saved_versions = [-1] * len(policies)
        self._asked: dict[int, _Asked] = {}
        self._wanted: set[int] = set()
        self._told_unknown_metric = False

    @property
    def best(self) -> list[float | None]:
        """The best value of --save_best_metric of every policy."""
        return [schedule.best_metric for schedule in self._schedules]

    def newest(self, policy_id: int) -> KnownState | None:
        """The learner's state in the policy's newest sound checkpoint."""
        try:
            loaded = self.stores[policy_id].load_latest()
        except CheckpointError:
            return None
        return None if loaded is None else KnownState(name=loaded.path.name, state=loaded.checkpoint.learner)

    def resumed(self, policy_id: int, *, best_metric: float | None) -> None:
        self._schedules[policy_id].best_metric = best_metric

    def save_due(self) -> None:
        """Asks for what is due now, and writes what has been handed over."""
        self._wanted |= self.rules.control.take_changed()
        if self._together and any(self._is_due(policy.policy_id, time.monotonic()) for policy in self._policies):
            self._want_all()
        for policy in self._policies:
            policy_id, schedule = policy.policy_id, self._schedules[policy.policy_id]
            self._write_asked(policy_id)
            now = time.monotonic()
            if self._is_due(policy_id, now):
                self._ask(policy_id, "regular")
                self._write_asked(policy_id)
            if schedule.milestone_due(now):
                self._ask(policy_id, "milestone")
                self._write_asked(policy_id)
            self._ask_best(policy_id, now)
            self._write_asked(policy_id)

    def _is_due(self, policy_id: int, now: float) -> bool:
        return self._schedules[policy_id].save_due(now, wanted=policy_id in self._wanted)

    def _want_all(self) -> None:
        self._wanted |= {policy.policy_id for policy in self._policies}

    def _is_saved(self, policy_id: int) -> bool:
        return self._ledger.policies[policy_id].policy_version == self._saved_versions[policy_id]

    def _ask(self, policy_id: int, kind: Kind, metric: float | None = None, before: float | None = None) -> None:
        """One at a time of every policy: what else is due has its turn afterwards."""
        if policy_id in self._asked:
            return
        if kind == "best":
            self._schedules[policy_id].best_metric = metric
        state = self._learners.ask_state(policy_id)
        if kind == "regular":
            self._wanted.discard(policy_id)  # what is wanted from now on, this state does not have
        self._asked[policy_id] = _Asked(kind=kind, state=state, metric=metric, before=before)

    def _write_asked(self, policy_id: int) -> None:
        """Writes the checkpoint of a policy that has handed its state over. A failure is told."""
        asked = self._asked.get(policy_id)
        if asked is None or not asked.state.done():
            return
        try:
            self._write(policy_id, self._asked.pop(policy_id))
        except StorageError as error:
            log.warning("%s; the training goes on", error)

    def _write(self, policy_id: int, asked: _Asked) -> None:
        """Raises StorageError: the schedule knows. Raises DivergedError."""
        # What the state has of an exchange is told first: where both stand, they agree, also at the end.
        self.rules.control.advance()
        schedule, store = self._schedules[policy_id], self.stores[policy_id]
        try:
            checkpoint = self._checkpoint(policy_id, asked.state.result())
            if asked.kind == "best":
                assert asked.metric is not None
                path = store.save_best(checkpoint, metric=self._run.save_best_metric, value=asked.metric)
            else:
                path = store.save_milestone(checkpoint) if asked.kind == "milestone" else store.save(checkpoint)
        except SfAlgoError:
            if asked.kind == "best":
                schedule.best_metric = asked.before
            elif asked.kind == "regular":
                self._wanted.add(policy_id)
            schedule.failed(time.monotonic())
            raise
        now = time.monotonic()
        if asked.metric is not None:
            schedule.best_saved(now, asked.metric)
            log.info("best %s so far %.3f: saved %s", self._run.save_best_metric, asked.metric, path.name)
            return
        if asked.kind == "milestone":
            schedule.milestone_saved(now)
        else:
            schedule.saved(now)
            self._saved_versions[policy_id] = checkpoint.policy_version
        log.info("saved %s", path)

    def _ask_best(self, policy_id: int, now: float, *, at_the_end: bool = False) -> None:
        window, name = self._windows[policy_id], self._run.save_best_metric
        means = window.means()
        if means and name not in means and not self._told_unknown_metric:
            self._told_unknown_metric = True
            log.warning("--save_best_metric=%s: no episode has it; they have %s", name, ", ".join(means))
        metric = means.get(name)
        schedule = self._schedules[policy_id]
        frames = self._ledger.policies[policy_id].trained_frames
        episodes = window.count(name)
        if schedule.best_due(now, env_steps=frames, metric=metric, episodes=episodes, at_the_end=at_the_end):
            assert metric is not None
            self._ask(policy_id, "best", metric, schedule.best_metric)

    def save_all(self) -> None:
        """At the end: a checkpoint of every policy that has learned since its last one, and of the best ones. Those
        whose learners answer soon come first.

        Raises:
            SfAlgoError: one of them cannot be written, or its learner does not hand it over; the others have been.
        """
        failures: dict[int, SfAlgoError] = {}
        waiting = [policy.policy_id for policy in self._policies]
        if self._together and not all(self._is_saved(policy_id) for policy_id in waiting):
            self._want_all()
        for policy_id in waiting:  # all learners come to the end of their iterations at the same time
            self._ask_best(policy_id, time.monotonic(), at_the_end=True)
            self._ask_last(policy_id)
        for patience_s in (FIRST_PATIENCE_S, LAST_PATIENCE_S):
            for policy_id in waiting:
                failures.pop(policy_id, None)
                try:
                    self._save_last(policy_id, patience_s)
                except SfAlgoError as error:
                    failures[policy_id] = error
            waiting = [policy_id for policy_id, one in failures.items() if isinstance(one, WorkerError)]
        failure = next(iter(failures.values()), None)
        for other in list(failures.values())[1:]:
            log.warning("%s", other)
        if isinstance(failure, StorageError):
            raise StorageError(f"{failure}; what was learned since the checkpoint before is lost") from failure
        if failure is not None:
            raise failure

    def _ask_last(self, policy_id: int) -> None:
        if policy_id in self._wanted or not self._is_saved(policy_id):
            self._ask(policy_id, "regular")

    def _save_last(self, policy_id: int, patience_s: float) -> None:
        self._finish(policy_id, patience_s)
        self._ask_best(policy_id, time.monotonic(), at_the_end=True)
        self._finish(policy_id, patience_s)
        self._ask_last(policy_id)
        self._finish(policy_id, patience_s)

    def _finish(self, policy_id: int, patience_s: float) -> None:
        """Waits for the checkpoint under way and writes it."""
        asked = self._asked.get(policy_id)
        if asked is None:
            return
        more_s = 3.0 * self._ledger.policies[policy_id].iteration_s
        self._learners.wait(policy_id, asked.state, patience_s + more_s)
        del self._asked[policy_id]
        try:
            self._write(policy_id, asked)
        except StorageError as error:
            if asked.kind == "regular":
                raise
            log.warning("%s", error)

    def _checkpoint(self, policy_id: int, learner: Mapping[str, Any]) -> Checkpoint:
        """A copy that later training does not touch. Raises DivergedError: a checkpoint of such a policy would push
        a sound one out."""
        if wrong := unsound_tensors(learner["model"]):
            raise DivergedError(
                f"policy {policy_id} is not saved: its {wrong[0]} holds numbers that are none (NaN); what was "
                "saved before stays: start again from the newest checkpoint with a lower --learning_rate"
            )
        runtime: dict[str, Any] = {
            WINDOW: self._windows[policy_id].state(),
            ACTOR: self._policies[policy_id].inference.actor.generator_state(),
        }
        own = self.programs.of_policy(policy_id)
        if own:
            runtime[PROGRAM] = own
        remembered = self.rules.state(policy_id)
        if remembered:
            runtime[RULES] = remembered
        if policy_id == 0:
            runtime[SAMPLER] = self._sampler_state()
        version = int(learner["policy_version"])
        return Checkpoint(
            policy_id=policy_id,
            policy_version=version,
            env_steps=self._ledger.frames_at(policy_id, version),
            learner=learner,
            train_seconds=self._ledger.train_seconds,
            best_metric=self._schedules[policy_id].best_metric,
            runtime=cloned(runtime),
        )


def resume(
    policies: Sequence[TrainedPolicy],
    saver: Saver,
    ledger: Ledger,
    windows: Sequence[EpisodeWindow],
    *,
    best: bool,
) -> Mapping[str, Any]:
    """Puts every policy where its checkpoint left it, and returns the sampler's state (empty: none).

    Raises:
        CheckpointError: no checkpoint is sound, or it belongs to another network.
    """
    sampler_state: Mapping[str, Any] = {}
    for policy, store in zip(policies, saver.stores, strict=True):
        loaded = store.load_best() if best else store.load_latest()
        if loaded is None:
            continue
        for note in loaded.notes:
            log.warning("%s", note)
        checkpoint, runtime = loaded.checkpoint, loaded.checkpoint.runtime
        saver.programs.restore(policy.policy_id, runtime.get(PROGRAM, {}))
        saver.rules.control.load(policy.policy_id, checkpoint.learner)
        for note in store.take_over(loaded):
            log.warning("%s", note)
        ledger.resume(
            policy.policy_id,
            env_steps=checkpoint.env_steps,
            policy_version=checkpoint.policy_version,
            train_seconds=checkpoint.train_seconds,
        )
        saver.resumed(policy.policy_id, best_metric=checkpoint.best_metric)
        windows[policy.policy_id].restore(runtime[WINDOW])
        if ACTOR in runtime:
            policy.inference.actor.set_generator_state(runtime[ACTOR])
        sampler_state = runtime.get(SAMPLER, sampler_state)
        saver.rules.restore(policy.policy_id, runtime.get(RULES, {}))
        log.info("policy %d goes on from %s", policy.policy_id, loaded.path)
    return sampler_state
