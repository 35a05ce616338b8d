"""Makes the environments of one process from the configuration."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from copy import copy
from dataclasses import replace

from sf_algo.config import Config
from sf_algo.envs.dmlab.scores import LevelScores
from sf_algo.envs.factory import EnvSections, derived_means, describe_task, make_env, remove_leftovers
from sf_algo.envs.spec import Env, EnvPlacement, EnvSpec
from sf_algo.own.additions import NOTHING_ADDED, Additions
from sf_algo.own.training_info import TrainingInfo
from sf_algo.processes.slow import SlowWatch

_PATIENCE = 4.0
"""A worker may take this many times as long to make an environment as the main process took."""


class EnvMaker:
    """Knows the name and the sections that environments are made from."""

    def __init__(self, config: Config, worker_index: int = 0, additions: Additions = NOTHING_ADDED) -> None:
        """`additions`: the user's program, which may make the environments itself."""
        self._name = config.run.env
        self._sections = EnvSections.of(config, additions)
        self._worker_index = worker_index
        sampling = config.sampling
        self._reproducible = sampling.serial_mode and not sampling.async_rl
        self._envs_per_worker = sampling.num_envs_per_worker
        self._num_envs = sampling.num_workers * sampling.num_envs_per_worker
        self._making_s = 0.0

    def with_training(self, training: TrainingInfo) -> EnvMaker:
        """The same, for environments that are told of this training."""
        other = copy(self)
        other._sections = replace(self._sections, training=training)
        return other

    def make(self, env_index: int) -> Env:
        """Environment number `env_index` of the run. Raises what `make_env` does."""
        return make_env(self._name, self._sections, self._placement(self._worker_index, env_index))

    def _placement(self, worker_index: int, env_index: int) -> EnvPlacement:
        return EnvPlacement(worker_index=worker_index, env_index=env_index, reproducible=self._reproducible)

    def derived_means(self) -> LevelScores | None:
        """What follows from the averages of the environments' statistics, where something does."""
        return derived_means(self._name, self._sections, [self._place_of(e) for e in range(self._num_envs)])

    def task(self, env_index: int) -> str:
        """What environment number `env_index` of the run plays, for messages; empty where all play the same."""
        return describe_task(self._name, self._sections, self._place_of(env_index))

    def _place_of(self, env_index: int) -> EnvPlacement:
        return self._placement(env_index // self._envs_per_worker, env_index)

    def spec(self) -> EnvSpec:
        """The spec of the run's environments; makes one and closes it. Where that takes long, stderr says so."""
        began = time.monotonic()
        doing = (f"an environment of --env={self._name} to be made", began)
        with SlowWatch(lambda: doing, lambda line: print(f"note: {line}", file=sys.stderr, flush=True)):
            env = self.make(0)
        self._making_s = time.monotonic() - began
        try:
            return env.spec
        finally:
            with suppress(Exception, SystemExit):  # what `close` does to itself must not keep us from training
                env.close()

    def reset_limit_s(self, flag_s: float) -> float:
        """How long making or resetting one may take: --reset_timeout_seconds, or more where making the first one took
        so long that the others, which are made side by side, would be given up again and again."""
        return max(flag_s, _PATIENCE * self._making_s)

    def clean_up(self) -> None:
        """Removes what killed environments have left on the machine."""
        remove_leftovers(self._name)
