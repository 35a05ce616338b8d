"""Checkpoints of a running training: when they are due, what is in them, and how a run goes on from one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from sf_algo.checkpoints import Checkpoint, CheckpointStore
from sf_algo.config import RunConfig
from sf_algo.errors import StorageError
from sf_algo.paths import ExperimentPaths
from sf_algo.runtime.ledger import Ledger
from sf_algo.runtime.plain import cloned
from sf_algo.runtime.team import PolicyTeam
from sf_algo.save_schedule import SaveSchedule
from sf_algo.summaries.episodes import EpisodeWindow

log = logging.getLogger(__name__)

WINDOW, ACTOR, SAMPLER = "episodes", "actor_generator", "sampler"
"""Keys of a checkpoint's `runtime` part."""

CallLearner = Callable[[int, Callable[[], Any]], Any]
"""Runs a function while the learner of that policy rests."""


class Saver:
    """Saves the teams of a run, each into its own folder. A save that fails is told and tried again later."""

    def __init__(
        self,
        run: RunConfig,
        paths: ExperimentPaths,
        teams: Sequence[PolicyTeam],
        ledger: Ledger,
        windows: Sequence[EpisodeWindow],
        *,
        call_learner: CallLearner,
        sampler_state: Callable[[], Mapping[str, Any]],
    ) -> None:
        """`sampler_state` is what a serial training adds to the first policy's checkpoint, else empty."""
        self._run = run
        self._teams = teams
        self._ledger = ledger
        self._windows = windows
        self._call_learner = call_learner
        self._sampler_state = sampler_state
        now = time.monotonic()
        self._schedules = [SaveSchedule(run=run, started=now) for _ in teams]
        self.stores = [
            CheckpointStore(paths.checkpoints(team.policy_id), keep=run.keep_checkpoints) for team in teams
        ]
        self._saved_versions = [-1] * len(teams)

    @property
    def best(self) -> list[float | None]:
        """The best value of --save_best_metric of every policy."""
        return [schedule.best_metric for schedule in self._schedules]

    def resumed(self, policy_id: int, *, best_metric: float | None) -> None:
        self._schedules[policy_id].best_metric = best_metric

    def save_due(self) -> None:
        """Writes what is due now."""
        for team, schedule in zip(self._teams, self._schedules, strict=True):
            now = time.monotonic()
            if schedule.save_due(now) and self._save(team):
                schedule.saved(time.monotonic())
            if schedule.milestone_due(now) and self._save(team, milestone=True):
                schedule.milestone_saved(time.monotonic())
            self._save_best(team, schedule, now)

    def _save_best(self, team: PolicyTeam, schedule: SaveSchedule, now: float) -> None:
        window, name = self._windows[team.policy_id], self._run.save_best_metric
        metric = window.means().get(name)
        frames = self._ledger.policies[team.policy_id].trained_frames
        if not schedule.best_due(now, env_steps=frames, metric=metric, episodes=window.count(name)):
            return
        assert metric is not None
        before = schedule.best_metric
        schedule.best_metric = metric
        try:
            path = self.stores[team.policy_id].save_best(self._snapshot(team), metric=name, value=metric)
        except StorageError as error:
            schedule.best_metric = before
            log.warning("%s", error)
            return
        schedule.best_saved(time.monotonic(), metric)
        log.info("best %s so far %.3f: saved %s", name, metric, path.name)

    def save_all(self) -> bool:
        """Writes a checkpoint of every policy that has learned since its last one. False where one failed."""
        done = True
        for team in self._teams:
            if team.learner.policy_version != self._saved_versions[team.policy_id]:
                done = self._save(team) and done
        return done

    def _save(self, team: PolicyTeam, *, milestone: bool = False) -> bool:
        checkpoint = self._snapshot(team)
        store = self.stores[team.policy_id]
        try:
            path = store.save_milestone(checkpoint) if milestone else store.save(checkpoint)
        except StorageError as error:
            log.warning("%s; the training goes on", error)
            return False
        if not milestone:
            self._saved_versions[team.policy_id] = checkpoint.policy_version
        log.info("saved %s", path)
        return True

    def _snapshot(self, team: PolicyTeam) -> Checkpoint:
        """A copy that later training does not touch."""
        return self._call_learner(team.policy_id, lambda: self._copy(team))  # type: ignore[no-any-return]

    def _copy(self, team: PolicyTeam) -> Checkpoint:
        account = self._ledger.policies[team.policy_id]
        runtime: dict[str, Any] = {
            WINDOW: self._windows[team.policy_id].state(),
            ACTOR: team.inference.actor.generator_state(),
        }
        if team.policy_id == 0:
            runtime[SAMPLER] = self._sampler_state()
        return Checkpoint(
            policy_id=team.policy_id,
            policy_version=team.learner.policy_version,
            env_steps=account.trained_frames,
            learner=cloned(team.learner.state_dict()),
            train_seconds=self._ledger.train_seconds,
            best_metric=self._schedules[team.policy_id].best_metric,
            runtime=cloned(runtime),
        )


def resume(
    teams: Sequence[PolicyTeam],
    saver: Saver,
    ledger: Ledger,
    windows: Sequence[EpisodeWindow],
    *,
    best: bool,
) -> Mapping[str, Any]:
    """Puts every team where its checkpoint left it, and returns the sampler's state (empty: none).

    Raises:
        CheckpointError: no checkpoint is sound, or it belongs to another network.
    """
    sampler_state: Mapping[str, Any] = {}
    for team, store in zip(teams, saver.stores, strict=True):
        loaded = store.load_best() if best else store.load_latest()
        if loaded is None:
            continue
        for note in loaded.notes:
            log.warning("%s", note)
        checkpoint = loaded.checkpoint
        team.learner.load_state_dict(checkpoint.learner)
        team.inference.take_weights(team.learner.model, team.learner.policy_version)
        for note in store.take_over(loaded):
            log.warning("%s", note)
        ledger.resume(
            team.policy_id,
            env_steps=checkpoint.env_steps,
            policy_version=checkpoint.policy_version,
            train_seconds=checkpoint.train_seconds,
        )
        saver.resumed(team.policy_id, best_metric=checkpoint.best_metric)
        runtime = checkpoint.runtime
        windows[team.policy_id].restore(runtime[WINDOW])
        if isinstance(runtime.get(ACTOR), torch.Tensor):
            team.inference.actor.set_generator_state(runtime[ACTOR])
        sampler_state = runtime.get(SAMPLER, sampler_state)
        log.info("policy %d goes on from %s", team.policy_id, loaded.path)
    return sampler_state
