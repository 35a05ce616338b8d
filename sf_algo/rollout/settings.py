"""What a worker process is told when it starts: plain values and inherited descriptors, as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """Everything a rollout worker needs."""

    worker_index: int
    num_workers: int
    num_splits: int
    slots_per_split: int
    envs_per_split: int
    rollout: int
    rnn_state_size: int
    num_policies: int
    """Those in training."""
    num_acting: int
    """With the opponents."""
    mix_policies: bool
    seed: int
    """Of the run; every environment and episode derives its own."""

    config: dict[str, dict[str, Any]]
    """The whole configuration (`config_to_dict`): a maker may need any of it."""
    app: str | None
    """Import path of the user's program, for a process that was not forked."""
    pickled_spec: str
    """The EnvSpec that every environment must have; pickled by the main process, base64."""
    warm_up_s: float
    """Longest time for random steps that move the environments' episodes apart; 0: none."""
    warm_up_each: bool
    """Every environment takes its own number of random steps."""

    control_fd: int
    training_fd: int
    """The `TrainingBoard`."""
    trajectories_fd: int
    inbox_fds: tuple[int, int]
    """Doorbell that wakes the worker: (read, write)."""
    hub_fds: tuple[int, int]
    """Doorbell of inference."""
    message_fd: int
    lifeline_fd: int
    """Read end of a pipe whose write end only the main process holds: end of file means that it is gone."""
    trace_fd: int
    """File for stack traces when the worker hangs or crashes."""

    cores: tuple[int, ...]
    """Cores to run on; empty: any."""
    niceness: int
    single_thread: bool

    @property
    def num_envs(self) -> int:
        return self.num_splits * self.envs_per_split

    def inherited_fds(self) -> set[int]:
        """Descriptors that must stay open across the start of the process."""
        single = (
            self.control_fd,
            self.training_fd,
            self.trajectories_fd,
            self.message_fd,
            self.lifeline_fd,
            self.trace_fd,
        )
        return {*single, *self.inbox_fds, *self.hub_fds}

    def renumbered(self, fds: Mapping[int, int]) -> WorkerSettings:
        """The same for a process in which descriptors have other numbers: `fds` maps ours to those."""
        return replace(
            self,
            control_fd=fds[self.control_fd],
            training_fd=fds[self.training_fd],
            trajectories_fd=fds[self.trajectories_fd],
            inbox_fds=(fds[self.inbox_fds[0]], fds[self.inbox_fds[1]]),
            hub_fds=(fds[self.hub_fds[0]], fds[self.hub_fds[1]]),
            message_fd=fds[self.message_fd],
            lifeline_fd=fds[self.lifeline_fd],
            trace_fd=fds[self.trace_fd],
        )

    def env_indices(self, split: int) -> range:
        """Numbers, unique in the run, of the environments of one split."""
        first = self.worker_index * self.num_envs + split * self.envs_per_split
        return range(first, first + self.envs_per_split)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WorkerSettings:
        values = json.loads(text)
        for name in ("inbox_fds", "hub_fds", "cores"):
            values[name] = tuple(values[name])
        return cls(**values)


def read_all(fd: int) -> str:
    """Reads and closes an inherited descriptor."""
    with os.fdopen(fd, "r") as file:
        return file.read()
