"""The main process's handle on the learner process."""

from __future__ import annotations

import io
import os
import select
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from sf_algo import errors
from sf_algo.acting.policy_sampling import PolicySampling
from sf_algo.errors import WorkerError
from sf_algo.ipc.doorbell import Doorbell
from sf_algo.ipc.messages import Message, MessageWriter
from sf_algo.learner.stats import TrainStats
from sf_algo.learning.learner_settings import LearnerSettings
from sf_algo.learning.learners import TrainedBatch, TrainedSink
from sf_algo.learning.remote_memory import LearnerMemory
from sf_algo.learning.state_file import read_state, write_state
from sf_algo.processes.absence import AbsenceWatch
from sf_algo.processes.child import ChildProcess, Lifeline
from sf_algo.processes.copies import ForkedCopy
from sf_algo.timing import ProcessTimes, Stage

_MODULE = "sf_algo.learning.learner_process"
_STOP_GRACE_S = 5.0
_ANSWER_TURN_S = 0.05
STALL_TIMEOUT_S = 600.0
"""An iteration that takes longer than this will never end."""


class RemoteLearners:
    """Learners in a process of their own. Any thread may call; replies are handled by whichever thread
    polls."""

    def __init__(
        self,
        memory: LearnerMemory,
        policies: Sequence[PolicySampling],
        settings: LearnerSettings,
        *,
        bell: Doorbell,
        env_steps: Callable[[], int],
        is_enough: Callable[[int], bool],
        on_trained: TrainedSink,
        forked_copy: ForkedCopy | None = None,
    ) -> None:
        """`settings` lack the descriptors that are made here; `bell` is rung whenever there is a reply. `forked_copy`:
        who shall be the process, if not a new one.
        `is_enough(steps)` says whether the training reaches its limit with so many steps more: then no further
        batch is handed over, for the end would have to wait for it."""
        self._memory = memory
        self._policies = policies
        self._env_steps = env_steps
        self._is_enough = is_enough
        self._on_trained = on_trained
        self._lifeline = Lifeline()
        self._state_fd = _state_file()
        command_read, command_write = os.pipe()
        self._commands = MessageWriter(command_write)
        self._sending, self._receiving = threading.Lock(), threading.Lock()
        self._valid_steps: dict[tuple[int, int], int] = {}
        self._last_reply = time.monotonic()
        self._absence = AbsenceWatch(STALL_TIMEOUT_S)
        self._answers: dict[str, Message] = {}
        self.training_s = 0.0
        try:
            self._process = ChildProcess(
                _MODULE,
                lambda messages, trace: replace(
                    settings,
                    batch_fds=tuple(batches.fd for batches in memory.batches),
                    weights_fds=tuple(weights.fd for weights in memory.weights),
                    state_fd=self._state_fd,
                    command_fd=command_read,
                    message_fd=messages,
                    hub_fds=bell.fds,
                    lifeline_fd=self._lifeline.read_fd,
                    trace_fd=trace,
                ),
                forked_copy,
            )
        finally:
            os.close(command_read)

    @property
    def pid(self) -> int:
        return self._process.pid

    def process_times(self) -> Sequence[ProcessTimes]:
        taking = sum(policy.inference.taking_s for policy in self._policies)
        return [
            ProcessTimes(name="main process", pid=os.getpid(), busy_s={Stage.LEARNING: taking}),
            ProcessTimes(name="learner", pid=self.pid, busy_s={Stage.LEARNING: self.training_s}),
        ]

    def train_ready(self) -> None:
        for policy in self._policies:
            while not self._is_enough(self._steps_under_way) and (full := policy.batcher.take()) is not None:
                buffer = self._memory.batches[policy.policy_id].index(full.batch)
                self._valid_steps[policy.policy_id, buffer] = full.valid_steps
                command = {"kind": "train", "policy": policy.policy_id, "buffer": buffer}
                self._send({**command, "env_steps": self._env_steps()})

    @property
    def _steps_under_way(self) -> int:
        """Handed over and not trained on yet."""
        return sum(list(self._valid_steps.values()))

    def _send(self, command: Message) -> None:
        with self._sending, suppress(BrokenPipeError):  # its death is told by the next poll
            self._commands.send(command)

    def poll(self, timeout_s: float) -> None:
        """Raises WorkerError when the learner failed or died."""
        if timeout_s > 0:
            select.select([self._process.messages.fd], [], [], timeout_s)
        with self._receiving:
            messages = self._process.read()
            now = time.monotonic()
            if messages or not self._valid_steps:
                self._last_reply = now
            for message in messages:
                self._handle(message)
            if self._process.messages.closed:
                self._process.wait(_STOP_GRACE_S)
                raise self._failure(self._process.death or "closed its pipe")
            if now - max(self._last_reply, self._absence.look()) > STALL_TIMEOUT_S:
                self._process.ask_trace()
                raise self._failure(f"has not finished an iteration for {STALL_TIMEOUT_S:g} s")

    def _handle(self, message: Message) -> None:
        kind = message["kind"]
        if kind == "trained":
            self._trained(message)
        elif kind == "error":
            trace = f"\n{message['traceback'].rstrip()}" if message["traceback"] else ""
            raise WorkerError(f"the learner failed: {message['message']}{trace}")
        else:
            self._answers[kind] = message

    def _trained(self, message: Message) -> None:
        policy, buffer = int(message["policy"]), int(message["buffer"])
        sampled = self._policies[policy]
        self._take_weights(policy)
        sampled.batcher.give_back(self._memory.batches[policy].batches[buffer])
        self.training_s += message["seconds"]
        self._on_trained(
            TrainedBatch(
                policy_id=policy,
                stats=TrainStats(**message["stats"]),
                valid_steps=self._valid_steps.pop((policy, buffer)),
                seconds=message["seconds"],
            )
        )

    def _take_weights(self, policy: int) -> None:
        weights = self._memory.weights[policy]
        if weights.news:
            self._policies[policy].inference.take_arrays(weights)

    def _failure(self, what: str) -> WorkerError:
        trace = self._process.trace
        return WorkerError(
            f"the learner process {what}; start the same command again to go on from the last checkpoint"
            + (f"\n{trace}" if trace else "")
        )

    def state(self, policy_id: int) -> Mapping[str, Any]:
        answer = self._ask({"kind": "state", "policy": policy_id}, ("state",))
        return read_state(self._state_fd, answer["nbytes"])

    def load(self, policy_id: int, state: Mapping[str, Any]) -> int:
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        nbytes = write_state(self._state_fd, buffer.getvalue())
        command = {"kind": "load", "policy": policy_id, "nbytes": nbytes}
        answer = self._ask(command, ("loaded", "refused"))
        if answer["kind"] == "refused":
            raise getattr(errors, answer["error"])(answer["message"])
        self._take_weights(policy_id)
        return int(answer["policy_version"])

    def _ask(self, command: Message, kinds: tuple[str, ...]) -> Message:
        """Sends a command and waits for its answer, which comes after the training under way."""
        self._send(command)
        while True:
            for kind in kinds:
                answer = self._answers.pop(kind, None)
                if answer is not None:
                    return answer
            self.poll(_ANSWER_TURN_S)

    def close(self) -> None:
        self._send({"kind": "stop"})
        deadline = time.monotonic() + _STOP_GRACE_S
        while not self._process.wait(0.02) and time.monotonic() < deadline:
            self._process.read()  # one that blocks on a full pipe would never see the command
        self._process.close()
        self._commands.close()
        self._lifeline.close()
        with suppress(OSError):
            os.close(self._state_fd)
        self._memory.close()


def _state_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("sf_algo_state", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
