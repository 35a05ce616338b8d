"""What the dummy sampler is asked to do, and what its workers are told."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from sf_algo.buffers.shared import ArraySpec
from sf_algo.config import Config
from sf_algo.cpus import usable_cpus

FRAMES, EPISODES, CPU_MS = 0, 1, 2
NUM_COUNTERS = 8  # a cache line for each worker
STOP = "stop"
COUNTERS = "counters"


def counter_specs(num_workers: int) -> list[ArraySpec]:
    """Shared memory: `stop` [1], and `counters` [workers, 8] with what each worker has done so far."""
    int64 = np.dtype(np.int64)
    return [
        ArraySpec(name=STOP, shape=(1,), dtype=int64),
        ArraySpec(name=COUNTERS, shape=(num_workers, NUM_COUNTERS), dtype=int64),
    ]


@dataclass(frozen=True, kw_only=True)
class DummyPlan:
    """The size of the test and when it ends; None: no such limit."""

    num_workers: int
    envs_per_worker: int
    max_frames: int | None
    max_frames_per_worker: int | None
    timeout_s: float | None

    @property
    def num_envs(self) -> int:
        return self.num_workers * self.envs_per_worker

    @property
    def is_limited(self) -> bool:
        return self.timeout_s is not None or self.total_frames is not None

    @property
    def total_frames(self) -> int | None:
        """Frames after which the test is over, as far as that is known."""
        limits = [self.max_frames]
        if self.max_frames_per_worker is not None:
            limits.append(self.max_frames_per_worker * self.num_workers)
        return min((limit for limit in limits if limit is not None), default=None)


def make_plan(config: Config, typed: Collection[str]) -> DummyPlan:
    """The plan for a configuration; `typed` are the flags that the user wrote.

    Families whose trainings run best in one process have one worker by default; here all cores are wanted.
    """
    sampling, dummy = config.sampling, config.dummy
    defaulted = sampling.serial_mode and "num_workers" not in typed and "serial_mode" not in typed
    return DummyPlan(
        num_workers=usable_cpus() if defaulted else sampling.num_workers,
        envs_per_worker=sampling.num_envs_per_worker,
        max_frames=dummy.sample_env_frames,
        max_frames_per_worker=dummy.sample_env_frames_per_worker,
        timeout_s=dummy.timeout_seconds,
    )


@dataclass(frozen=True, kw_only=True)
class DummyWorkerSettings:
    """Plain values and inherited descriptors, sent to a worker as JSON."""

    worker_index: int
    num_workers: int
    num_envs: int
    seed: int
    max_frames: int | None
    config: dict[str, Any]
    app: str | None
    """Import path of the user's program, for a process that was not forked."""
    cores: tuple[int, ...]
    niceness: int
    counters_fd: int
    message_fd: int
    go_fd: int
    """Read end of a pipe; the test begins when it is closed at the other end."""
    lifeline_fd: int
    """Read end of a pipe that is closed at the other end when the main process is gone."""

    def inherited_fds(self) -> set[int]:
        """Descriptors that must stay open across the start of the process."""
        return {self.counters_fd, self.message_fd, self.go_fd, self.lifeline_fd}

    def renumbered(self, fds: Mapping[int, int]) -> DummyWorkerSettings:
        """The same for a process in which descriptors have other numbers: `fds` maps ours to those."""
        return replace(
            self,
            counters_fd=fds[self.counters_fd],
            message_fd=fds[self.message_fd],
            go_fd=fds[self.go_fd],
            lifeline_fd=fds[self.lifeline_fd],
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> DummyWorkerSettings:
        values = json.loads(text)
        values["cores"] = tuple(values["cores"])
        return cls(**values)
