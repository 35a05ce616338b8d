"""Processes that carry out orders with an engine. A fault in a level may end one of them; only its order is lost."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

_Order = TypeVar("_Order")
_Answer = TypeVar("_Answer")
_PATIENCE_S = 0.2


class Member(Generic[_Order, _Answer]):
    """One process: `work(pipe, *args)` answers every order that comes through the pipe, until its other end closes. It
    is a new process, not a fork, because whoever forks with an open engine hangs."""

    def __init__(self, work: Callable[..., None], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe: Connection
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, *args), daemon=True)
        self._process.start()
        theirs.close()
        self.order: _Order | None = None

    def begin(self, order: _Order) -> None:
        self.order = order
        with suppress(OSError):  # it is dead, as its pipe will say
            self.pipe.send(order)

    def answer(self) -> _Answer | None:
        """Blocks until there is one. None: the process died."""
        try:
            answer: _Answer = self.pipe.recv()
        except (EOFError, OSError):
            return None
        return answer

    def close(self) -> None:
        """Ends the process, at once if it is busy."""
        self.pipe.close()
        self._process.join(timeout=_PATIENCE_S)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()


def answer_all(pipe: Connection, carry_out: Callable[[Any], Any]) -> None:
    """The body of such a process. Ctrl-C is left to whoever gives the orders."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):
        while True:
            pipe.send(carry_out(pipe.recv()))
