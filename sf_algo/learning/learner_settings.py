"""What a learner process is told when it starts: plain values and inherited descriptors, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class LearnerSettings:
    """Everything the learner process of a policy needs to build the same networks and to find the shared memory."""

    config: dict[str, dict[str, Any]]
    """`config_to_dict`"""
    app: str | None
    """Import path of the user's program, for a process that was not forked."""
    pickled_spec: str
    """The EnvSpec, pickled by the main process, base64."""
    policy_id: int
    device: str
    """Where it trains, as torch names it."""
    rank: int
    """Which of the learners of this policy it is. The first one, 0, publishes weights and reports on batches."""
    rendezvous_fd: int
    """An empty file by which the learners of one policy find each other; -1 where there is one only."""
    seed: int
    """Of the run."""
    num_buffers: int
    """Batch buffers."""
    batch_fd: int
    """The block of these buffers."""
    weights_fd: int
    """`SharedWeights`"""
    state_fd: int
    """File through which learner states pass, in either direction."""
    command_fd: int
    message_fd: int
    hub_fds: tuple[int, int]
    """Doorbell rung after every message."""
    lifeline_fd: int
    trace_fd: int
    num_threads: int
    single_thread: bool = False

    def inherited_fds(self) -> set[int]:
        return {
            self.batch_fd,
            self.weights_fd,
            self.state_fd,
            self.command_fd,
            self.message_fd,
            *self.hub_fds,
            self.lifeline_fd,
            self.trace_fd,
        } | ({self.rendezvous_fd} - {-1})

    def renumbered(self, fds: Mapping[int, int]) -> LearnerSettings:
        """The same for a process in which descriptors have other numbers: `fds` maps ours to those."""
        return replace(
            self,
            batch_fd=fds[self.batch_fd],
            weights_fd=fds[self.weights_fd],
            hub_fds=(fds[self.hub_fds[0]], fds[self.hub_fds[1]]),
            state_fd=fds[self.state_fd],
            command_fd=fds[self.command_fd],
            message_fd=fds[self.message_fd],
            lifeline_fd=fds[self.lifeline_fd],
            trace_fd=fds[self.trace_fd],
            rendezvous_fd=fds.get(self.rendezvous_fd, -1),
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> LearnerSettings:
        values = json.loads(text)
        return cls(**{**values, "hub_fds": tuple(values["hub_fds"])})
