"""The learner processes of one policy: one, or several that share out its minibatches and belong together."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from sf_algo.errors import WorkerError
from sf_algo.ipc.messages import Message, MessageWriter
from sf_algo.learning.learner_settings import LearnerSettings
from sf_algo.processes.child import ChildProcess
from sf_algo.processes.copies import ForkedCopy

_MODULE = "sf_algo.learning.learner_process"
_DEATH_WAIT_S = 5.0
_NEWS_OF_DEATH_S = 1.0
_LOOK_S = 0.05

MakeSettings = Callable[[int, int, int, int], LearnerSettings]
"""(rank, descriptor for commands, for messages to us, for stack traces) -> settings of that learner."""


class LearnerDiedError(WorkerError):
    """A learner process ended without a word, or hangs."""

    def __init__(self, what: str, trace: str = "") -> None:
        """`what`: which one, and what happened, in a line. `trace`: the stacks that its processes have written."""
        self.what = what
        self.trace = f"\n{trace}" if trace else ""
        super().__init__(f"{what}; start the same command again to go on from the last checkpoint{self.trace}")


class _Member:
    """One of the processes."""

    def __init__(self, name: str, rank: int, make_settings: MakeSettings, forked_copy: ForkedCopy | None) -> None:
        self.name = name
        command_read, command_write = os.pipe()
        self.commands = MessageWriter(command_write)
        self.error: Message | None = None
        """What it reported before it ended."""
        try:
            self.process = ChildProcess(
                _MODULE, lambda messages, trace: make_settings(rank, command_read, messages, trace), forked_copy
            )
        finally:
            os.close(command_read)

    def send(self, command: Message) -> None:
        with suppress(BrokenPipeError):  # its death is told by the next look
            self.commands.send(command)

    def close(self) -> None:
        self.process.close()
        self.commands.close()


class LearnerCrew:
    """See the module. Not for several threads at a time."""

    def __init__(self, name: str, make_settings: MakeSettings, copies: Sequence[ForkedCopy | None]) -> None:
        """`name`: as users are told of it. For each of `copies` a process: that one, or a new one where it is None."""
        several = len(copies) > 1
        self._members: list[_Member] = []
        try:
            for rank, copy in enumerate(copies):
                own = f"{name} ({rank + 1} of {len(copies)})" if several else name
                self._members.append(_Member(own, rank, make_settings, copy))
        except BaseException:
            for member in self._members:
                member.close()
            raise
        self._answers: list[list[Message]] = [[] for _ in copies]

    @property
    def pids(self) -> list[int]:
        return [member.process.pid for member in self._members]

    @property
    def message_fds(self) -> list[int]:
        """Readable when there is news."""
        return [member.process.messages.fd for member in self._members]

    def send(self, command: Message) -> None:
        """To all. What asks for a state, to the first one alone: they are all the same."""
        for member in self._members[: 1 if command["kind"] == "state" else None]:
            member.send(command)

    def read(self) -> list[Message]:
        """The news: of the first one, and of an answer that all give when the last one has given it.

        Raises:
            LearnerDiedError: one of them died.
            WorkerError: one of them failed, and has said how.
        """
        news = [message for rank in range(len(self._members)) for message in self._read(rank)]
        if not news:  # what they said before they died counts; the next look tells of the death
            self._look_for_failures()
        return news

    def _read(self, rank: int) -> list[Message]:
        member = self._members[rank]
        of_all: list[Message] = []
        for message in member.process.read():
            if message["kind"] == "error":
                member.error = message
            elif message["kind"] in ("trained", "state"):
                of_all.append(message)
            else:
                self._answers[rank].append(message)
        while all(self._answers):
            first, *_ = [answers.pop(0) for answers in self._answers]
            of_all.append(first)
        return of_all

    def _look_for_failures(self) -> None:
        failed = [member for member in self._members if member.error is not None]
        until = time.monotonic() + _NEWS_OF_DEATH_S
        # Where one dies, the others report that a connection was closed. That is not what the user wants to know.
        while failed and len(self._members) > 1 and not self._dead() and time.monotonic() < until:
            time.sleep(_LOOK_S)
            for member in self._members:
                member.error = next((m for m in member.process.read() if m["kind"] == "error"), member.error)
        for member in self._dead():
            member.process.wait(_DEATH_WAIT_S)
            raise self.failure(member.process.death or "closed its pipe", member.name)
        for member in failed:
            assert member.error is not None
            trace = f"\n{member.error['traceback'].rstrip()}" if member.error["traceback"] else ""
            raise WorkerError(f"{member.name} failed: {member.error['message']}{trace}")

    def _dead(self) -> list[_Member]:
        """Those that ended without a word."""
        return [member for member in self._members if member.process.messages.closed and member.error is None]

    def failure(self, what: str, name: str | None = None) -> LearnerDiedError:
        """The error for the user, with the stacks that processes have written."""
        traces = [member.process.trace for member in self._members]
        process = (name or self._members[0].name).replace("learner", "learner process")
        return LearnerDiedError(f"{process} {what}", "\n".join(trace for trace in traces if trace))

    def ask_traces(self) -> None:
        """Has all write their stacks."""
        for member in self._members:
            member.process.ask_trace()

    def close(self, stop_by: float) -> None:
        """Ends them, with patience until that moment (monotonic clock)."""
        for member in self._members:
            while not member.process.wait(0.02) and time.monotonic() < stop_by:
                for one in self._members:
                    one.process.read()  # one that blocks on a full pipe would never see the command
            member.close()
