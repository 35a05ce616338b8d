"""Checkpoints of a running training: when they are due, what is in them, and how a run goes on from one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from sf_algo.acting.policy_sampling import PolicySampling
from sf_algo.checkpoints import Checkpoint, CheckpointStore, unsound_tensors
from sf_algo.config import RunConfig
from sf_algo.errors import DivergedError, StorageError
from sf_algo.learning.learners import Learners
from sf_algo.paths import ExperimentPaths
from sf_algo.plain import cloned
from sf_algo.save_schedule import SaveSchedule
from sf_algo.summaries.episodes import EpisodeWindow
from sf_algo.training.ledger import Ledger
from sf_algo.training.observing import ProgramState

log = logging.getLogger(__name__)

WINDOW, ACTOR, SAMPLER, PROGRAM = "episodes", "actor_generator", "sampler", "program"
"""Keys of a checkpoint's `runtime` part."""


class Saver:
    """Saves the policies of a run, each into its own folder. A save that fails is told and tried again later."""

    def __init__(
        self,
        run: RunConfig,
        paths: ExperimentPaths,
        policies: Sequence[PolicySampling],
        ledger: Ledger,
        windows: Sequence[EpisodeWindow],
        *,
        learners: Learners,
        sampler_state: Callable[[], Mapping[str, Any]],
        programs: ProgramState,
    ) -> None:
        """`sampler_state` is what a serial training adds to the first policy's checkpoint, else empty. `programs`: what
        the user's program adds."""
        self.programs = programs
        self._run = run
        self._policies = policies
        self._ledger = ledger
        self._windows = windows
        self._learners = learners
        self._sampler_state = sampler_state
        now = time.monotonic()
        self._schedules = [SaveSchedule(run=run, started=now) for _ in policies]
        self.stores = [
            CheckpointStore(paths.checkpoints(policy.policy_id), keep=run.keep_checkpoints) for policy in policies
        ]
        self._saved_versions = [-1] * len(policies)
        self._told_unknown_metric = False

    @property
    def best(self) -> list[float | None]:
        """The best value of --save_best_metric of every policy."""
        return [schedule.best_metric for schedule in self._schedules]

    def resumed(self, policy_id: int, *, best_metric: float | None) -> None:
        self._schedules[policy_id].best_metric = best_metric

    def save_due(self) -> None:
        """Writes what is due now."""
        for policy, schedule in zip(self._policies, self._schedules, strict=True):
            now = time.monotonic()
            if schedule.save_due(now) and self._save(policy):
                schedule.saved(time.monotonic())
            if schedule.milestone_due(now) and self._save(policy, milestone=True):
                schedule.milestone_saved(time.monotonic())
            self._save_best(policy, now)

    def _save_best(self, policy: PolicySampling, now: float, *, at_the_end: bool = False) -> None:
        window, name = self._windows[policy.policy_id], self._run.save_best_metric
        means = window.means()
        if means and name not in means and not self._told_unknown_metric:
            self._told_unknown_metric = True
            log.warning("--save_best_metric=%s: no episode has it; they have %s", name, ", ".join(means))
        metric = means.get(name)
        schedule = self._schedules[policy.policy_id]
        frames = self._ledger.policies[policy.policy_id].trained_frames
        episodes = window.count(name)
        if not schedule.best_due(now, env_steps=frames, metric=metric, episodes=episodes, at_the_end=at_the_end):
            return
        assert metric is not None
        before = schedule.best_metric
        schedule.best_metric = metric
        try:
            path = self.stores[policy.policy_id].save_best(self._snapshot(policy), metric=name, value=metric)
        except StorageError as error:
            schedule.best_metric = before
            schedule.failed(time.monotonic())
            log.warning("%s; the training goes on", error)
            return
        schedule.best_saved(time.monotonic(), metric)
        log.info("best %s so far %.3f: saved %s", name, metric, path.name)

    def save_all(self) -> None:
        """At the end: a checkpoint of every policy that has learned since its last one, and of the best ones.

        Raises:
            StorageError: one of them cannot be written; the others have been.
        """
        failure: StorageError | None = None
        for policy in self._policies:
            self._save_best(policy, time.monotonic(), at_the_end=True)
            version = self._ledger.policies[policy.policy_id].policy_version
            if version != self._saved_versions[policy.policy_id]:
                try:
                    self._write(policy)
                except StorageError as error:
                    failure = error
        if failure is not None:
            raise StorageError(f"{failure}; what was learned since the checkpoint before is lost") from failure

    def _save(self, policy: PolicySampling, *, milestone: bool = False) -> bool:
        try:
            self._write(policy, milestone=milestone)
        except StorageError as error:
            log.warning("%s; the training goes on", error)
            self._schedules[policy.policy_id].failed(time.monotonic())
            return False
        return True

    def _write(self, policy: PolicySampling, *, milestone: bool = False) -> None:
        """Raises StorageError."""
        checkpoint = self._snapshot(policy)
        store = self.stores[policy.policy_id]
        path = store.save_milestone(checkpoint) if milestone else store.save(checkpoint)
        if not milestone:
            self._saved_versions[policy.policy_id] = checkpoint.policy_version
        log.info("saved %s", path)

    def _snapshot(self, policy: PolicySampling) -> Checkpoint:
        """A copy that later training does not touch. Raises DivergedError: a checkpoint of such a policy would push
        a sound one out."""
        learner = self._learners.state(policy.policy_id)
        if wrong := unsound_tensors(learner["model"]):
            raise DivergedError(
                f"policy {policy.policy_id} is not saved: its {wrong[0]} holds numbers that are none (NaN); what was "
                "saved before stays: start again from the newest checkpoint with a lower --learning_rate"
            )
        runtime: dict[str, Any] = {
            WINDOW: self._windows[policy.policy_id].state(),
            ACTOR: policy.inference.actor.generator_state(),
        }
        own = self.programs.of_policy(policy.policy_id)
        if own:
            runtime[PROGRAM] = own
        if policy.policy_id == 0:
            runtime[SAMPLER] = self._sampler_state()
        return Checkpoint(
            policy_id=policy.policy_id,
            policy_version=int(learner["policy_version"]),
            env_steps=self._ledger.policies[policy.policy_id].trained_frames,
            learner=learner,
            train_seconds=self._ledger.train_seconds,
            best_metric=self._schedules[policy.policy_id].best_metric,
            runtime=cloned(runtime),
        )


def resume(
    policies: Sequence[PolicySampling],
    learners: Learners,
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
        checkpoint = loaded.checkpoint
        learners.load(policy.policy_id, checkpoint.learner)
        for note in store.take_over(loaded):
            log.warning("%s", note)
        ledger.resume(
            policy.policy_id,
            env_steps=checkpoint.env_steps,
            policy_version=checkpoint.policy_version,
            train_seconds=checkpoint.train_seconds,
        )
        saver.resumed(policy.policy_id, best_metric=checkpoint.best_metric)
        runtime = checkpoint.runtime
        windows[policy.policy_id].restore(runtime[WINDOW])
        if isinstance(runtime.get(ACTOR), torch.Tensor):
            policy.inference.actor.set_generator_state(runtime[ACTOR])
        sampler_state = runtime.get(SAMPLER, sampler_state)
        saver.programs.restore(policy.policy_id, runtime.get(PROGRAM, {}))
        log.info("policy %d goes on from %s", policy.policy_id, loaded.path)
    return sampler_state
