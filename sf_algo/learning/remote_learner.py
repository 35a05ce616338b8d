"""The main process's handle on the learner process of one policy, or on its several.

A learner process that dies without a word is replaced. What the policy has learned is in shared memory: the new process
begins with the weights and normalizers that were published last. The moments of the optimizer were in the dead process
alone; those of the newest checkpoint take their place.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch

from sf_algo import errors
from sf_algo.acting.policies import TrainedPolicy
from sf_algo.errors import WorkerError
from sf_algo.ipc.doorbell import Doorbell
from sf_algo.ipc.messages import Message
from sf_algo.learner.stats import TrainStats
from sf_algo.learning.learner_crew import LearnerCrew, LearnerDiedError
from sf_algo.learning.learner_settings import LearnerSettings
from sf_algo.learning.learners import PolicyChange, Recall, TrainedBatch, TrainedSink, nothing_known
from sf_algo.learning.remote_memory import LearnerMemory
from sf_algo.learning.state_file import read_state, write_state
from sf_algo.processes.absence import AbsenceWatch
from sf_algo.processes.child import Lifeline
from sf_algo.processes.copies import ForkedCopy
from sf_algo.processes.restarts import Restarts

log = logging.getLogger(__name__)

T = TypeVar("T")

_STOP_GRACE_S = 5.0
_ANSWER_TURN_S = 0.05
STALL_TIMEOUT_S = 600.0
"""An iteration that takes longer than this will never end."""
MAX_RESTARTS = 3
"""Restarts of one policy's learner within `RESTART_WINDOW_S` before the run is given up."""
RESTART_WINDOW_S = 3600.0
_BEGIN_AGAIN = "begin_again"


@dataclass(frozen=True)
class _Question:
    """A command whose answer somebody waits for."""

    command: Message
    state: Mapping[str, Any] | None
    """Goes with the command, through the shared file."""
    answer: Future[Any] = field(default_factory=Future)


@dataclass(frozen=True)
class _UnderWay:
    """A batch that was handed over and is not trained on yet."""

    valid_steps: int
    command: Message


class RemoteLearner:
    """One policy's learner in a process of its own. Any thread may call; replies are handled by whichever thread polls.

    Questions are put one after the other, because states in both directions pass through the same file.
    """

    def __init__(
        self,
        memory: LearnerMemory,
        policy: TrainedPolicy,
        settings: LearnerSettings,
        *,
        name: str,
        bell: Doorbell,
        on_trained: TrainedSink,
        devices: Sequence[torch.device],
        forked_copies: Sequence[ForkedCopy] = (),
        recall: Recall = nothing_known,
    ) -> None:
        """`settings` lack the descriptors that are made here. `name`: as users are told of it. `bell` is rung whenever
        there is a reply. One process for each of the `devices`; `forked_copies`: who shall be they, if not new ones.
        `recall`: what is known of the learner's state when it has died."""
        self._memory = memory
        self._settings = settings
        self._name = name
        self._bell = bell
        self._devices = devices
        self._recall = recall
        self._policy = policy
        self._on_trained = on_trained
        self._lifeline = Lifeline()
        self._state_fd = _state_file()
        self._receiving, self._asking = threading.Lock(), threading.Lock()
        self._sending = threading.RLock()
        self._under_way: dict[int, _UnderWay] = {}
        self._last_reply = time.monotonic()
        self._absence = AbsenceWatch(STALL_TIMEOUT_S)
        self._questions: deque[_Question] = deque()
        self._last_change: Message | None = None
        self._death = ""
        self._restarts = Restarts(MAX_RESTARTS, RESTART_WINDOW_S)
        self._stop_by = 0.0
        self.training_s = 0.0
        self._crew = self._open_crew(forked_copies)

    def _open_crew(self, forked_copies: Sequence[ForkedCopy] = ()) -> LearnerCrew:
        memory, devices = self._memory, self._devices
        rendezvous = _state_file() if len(devices) > 1 else -1
        try:
            return LearnerCrew(
                self._name,
                lambda rank, commands, messages, trace: replace(
                    self._settings,
                    rank=rank,
                    device=str(devices[rank]),
                    rendezvous_fd=rendezvous,
                    batch_fd=memory.batches.fd,
                    weights_fd=memory.weights.fd,
                    state_fd=self._state_fd,
                    command_fd=commands,
                    message_fd=messages,
                    hub_fds=self._bell.fds,
                    lifeline_fd=self._lifeline.read_fd,
                    trace_fd=trace,
                ),
                [forked_copies[rank] if rank < len(forked_copies) else None for rank in range(len(devices))],
            )
        finally:
            if rendezvous >= 0:
                os.close(rendezvous)

    @property
    def pids(self) -> list[int]:
        """Of its processes, the first one first."""
        return self._crew.pids

    @property
    def message_fds(self) -> list[int]:
        """Readable when there is a reply."""
        return self._crew.message_fds

    @property
    def steps_under_way(self) -> int:
        """Handed over and not trained on yet."""
        return sum(batch.valid_steps for batch in list(self._under_way.values()))

    def train_ready(self, env_steps: Callable[[], int], is_enough: Callable[[], bool]) -> None:
        """Hands over full batches, as long as it is not enough."""
        while not is_enough() and (full := self._policy.batcher.take()) is not None:
            buffer = self._memory.batches.index(full.batch)
            command = {"kind": "train", "buffer": buffer, "env_steps": env_steps()}
            with self._sending:  # who takes the place of a dead learner is told of all that is under way
                self._under_way[buffer] = _UnderWay(full.valid_steps, command)
                self._send(command)

    def _send(self, command: Message) -> None:
        with self._sending:
            self._crew.send(command)

    def poll(self) -> None:
        """Takes replies, and replaces a learner that has died or does not answer any more. Raises WorkerError when it
        failed, or died too often."""
        with self._receiving:
            try:
                self._listen()
            except LearnerDiedError as death:
                self._begin_again(death)
            except WorkerError as error:
                if self._questions and self._questions[0].command["kind"] == _BEGIN_AGAIN:
                    raise WorkerError(f"{self._death}; it could not be started again: {error}") from error
                raise

    def _listen(self) -> None:
        messages = self._crew.read()
        now = time.monotonic()
        if messages or not (self._under_way or self._questions):
            self._last_reply = now
        for message in messages:
            self._handle(message)
        if now - max(self._last_reply, self._absence.look()) > STALL_TIMEOUT_S:
            self._crew.ask_traces()
            raise self._crew.failure(f"has not finished an iteration for {STALL_TIMEOUT_S:g} s")

    def _begin_again(self, death: LearnerDiedError) -> None:
        """Another process in place of the dead one, with the newest weights, and all that was under way once more.
        Raises the death where that cannot be."""
        if len(self._devices) > 1:
            raise death
        number = self._restarts.begin(time.monotonic())
        if not number:
            raise LearnerDiedError(f"{death.what}; it died {self._restarts.exceeded}", death.trace)
        self._death = death.what
        known = self._recall(self._policy.policy_id)
        log.warning(
            "%s; it is started again (%d of %d) with the newest weights, and %s%s",
            death.what,
            number,
            self._restarts.most,
            "a new optimizer" if known is None else f"the optimizer of {known.name}",
            death.trace,
        )
        questions = [_Question({"kind": _BEGIN_AGAIN}, None if known is None else known.state)]
        if self._last_change is not None:  # the checkpoint may be older
            questions.append(_Question(self._last_change, None))
        with self._asking, self._sending:
            self._crew.close(0.0)
            self._crew = self._open_crew()
            # One that was put and not answered may have been obeyed. To obey it once more changes nothing.
            self._questions.extendleft(reversed(questions))
            self._put(self._questions[0])
            for batch in self._under_way.values():
                self._send(batch.command)
        self._last_reply = time.monotonic()

    def _handle(self, message: Message) -> None:
        if message["kind"] == "trained":
            self._trained(message)
        else:
            self._answered(message)

    def _trained(self, message: Message) -> None:
        buffer = int(message["buffer"])
        self.take_weights()
        self._policy.batcher.give_back(self._memory.batches.batches[buffer])
        self.training_s += message["seconds"]
        self._on_trained(
            TrainedBatch(
                policy_id=self._policy.policy_id,
                stats=TrainStats(**message["stats"]),
                valid_steps=self._under_way.pop(buffer).valid_steps,
                seconds=message["seconds"],
            )
        )

    def take_weights(self) -> None:
        if self._memory.weights.news:
            self._policy.inference.take_arrays(self._memory.weights)

    def ask_state(self) -> Future[Mapping[str, Any]]:
        return self._ask({"kind": "state"})

    def ask_load(self, state: Mapping[str, Any]) -> Future[int]:
        return self._ask({"kind": "load"}, state)

    def ask_change(self, what: PolicyChange) -> Future[int]:
        command = {"kind": "change", "overrides": dict(what.overrides), "carried": dict(what.carried)}
        return self._ask(command, what.donor)

    def _ask(self, command: Message, state: Mapping[str, Any] | None = None) -> Future[Any]:
        """The answer comes after the training under way."""
        question = _Question(command, state)
        with self._asking:
            self._questions.append(question)
            if len(self._questions) == 1:
                self._put(question)
        return question.answer

    def _put(self, question: _Question) -> None:
        nbytes = 0 if question.state is None else write_state(self._state_fd, question.state)
        self._send({**question.command, "nbytes": nbytes})

    def _answered(self, message: Message) -> None:
        kind = message["kind"]
        # Whoever polls, perhaps the thread that acts, does not unpack a state: whoever needs it does.
        result = read_state(self._state_fd, message["nbytes"]) if kind == "state" else message.get("policy_version")
        if kind != "state":
            self.take_weights()
        with self._asking:
            question = self._questions.popleft()
            if self._questions:
                self._put(self._questions[0])
        if kind == "changed":
            self._last_change = question.command
        if kind == "refused":
            question.answer.set_exception(getattr(errors, message["error"])(message["message"]))
        else:
            question.answer.set_result(result)

    def wait(self, future: Future[T], timeout_s: float | None) -> T:
        """Its result, polling meanwhile. Raises WorkerError as `poll` does, and when it takes longer than that."""
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not future.done():
            self.poll()
            if not future.done() and time.monotonic() > deadline:
                raise self._crew.failure(f"has not answered for {timeout_s:g} s")
            with suppress(FutureTimeoutError):  # the builtin one only since Python 3.11
                return future.result(_ANSWER_TURN_S)
        return future.result()

    def stop(self) -> None:
        """Asks it to end after the training under way."""
        self._send({"kind": "stop"})
        self._stop_by = time.monotonic() + _STOP_GRACE_S

    def close(self) -> None:
        """Ends it, with patience until some seconds after `stop`."""
        self._crew.close(self._stop_by)
        self._lifeline.close()
        with suppress(OSError):
            os.close(self._state_fd)
        self._memory.close()


def _state_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("sf_algo_state", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
