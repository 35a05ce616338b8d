"""Sees to it that the death of an engine reaches its player at once.

vizdoom notices that its engine died and raises in whatever call is waiting, within milliseconds. The
exception is an engine that is killed while it holds the lock of a message queue: the lock lies in shared
memory, nobody releases it, and the player waits for ever. A thread per engine waits for the engine's end and
then releases locks that the dead still hold.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import select
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

_GRACE_S = 0.25
_HEADER_BYTES = 4096  # the queue's lock lies at the beginning of its segment
_OWNER_AFTER_LOCK = 2  # pthread_mutex_t on 64 bits: lock, count, owner, as 32-bit words
_FUTEX_WAKE = 1
_FUTEX_CALL = {"x86_64": 202, "aarch64": 98}
_EVERYBODY = 2**31 - 1


def engine_pids(word: str) -> list[int]:
    """The child processes with that word on their command line; none where /proc does not tell."""
    found = []
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError, ValueError):
            for child in map(int, path.read_text().split()):
                with suppress(OSError):
                    if word.encode() in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                        found.append(child)
    return found


def instance_of(pid: int) -> str:
    """By what name vizdoom knows that engine; empty where its command line does not tell."""
    with suppress(OSError, ValueError, IndexError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        return words[words.index("+viz_instance_id") + 1]
    return ""


def process_state(pid: int) -> str:
    """The state of a process as /proc tells it ("R", "S", "T" for stopped); empty where it does not."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


class EngineWatch:
    """Watches one engine from its start until `stop`."""

    def __init__(self, pid: int, queues: Sequence[Path]) -> None:
        """`queues` are the segments with the engine's message queues; they may lose their names once this returns.
        Raises OSError where pidfds are unknown.
        """
        self._pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._queues = [queue for path in queues if (queue := map_queue(path)) is not None]
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name="doom engine watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        stopped, engine_ended = self._stop_read, self._pidfd
        ready, _, _ = select.select([stopped, engine_ended], [], [])
        while stopped not in ready:
            # A player that was not waiting just now may still run into a lock later: look until it closes.
            ready, _, _ = select.select([stopped], [], [], _GRACE_S)
            if stopped not in ready:
                for queue in self._queues:
                    release_lock_of_dead(self._pid, queue)

    def kill(self) -> None:
        """Kills the engine, if it lives."""
        with suppress(ProcessLookupError, OSError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def stop(self) -> None:
        """Ends the watch; may be called twice."""
        if self._stop_write < 0:
            return
        os.close(self._stop_write)
        self._stop_write = -1
        self._thread.join()
        os.close(self._stop_read)
        os.close(self._pidfd)
        for queue in self._queues:
            queue.close()


def map_queue(path: Path) -> mmap.mmap | None:
    """The part of a queue's segment in which its lock lies; None where that is gone, or too short to be a queue."""
    try:
        with path.open("r+b") as file:
            return mmap.mmap(file.fileno(), _HEADER_BYTES)
    except (OSError, ValueError):
        return None


def release_lock_of_dead(pid: int, queue: mmap.mmap) -> bool:
    """Releases the lock in that queue if the dead process `pid` holds it, and wakes who waits for it."""
    call = _FUTEX_CALL.get(platform.machine())
    if call is None:
        return False
    words = np.frombuffer(queue, np.int32)
    try:
        return _release(words, pid, call)
    finally:
        del words  # it keeps the mapping from being closed


def _release(words: np.ndarray[tuple[int], np.dtype[np.int32]], pid: int, call: int) -> bool:
    for owner in np.flatnonzero(words == pid).tolist():
        lock = owner - _OWNER_AFTER_LOCK
        if lock < 0 or words[lock] not in (1, 2):  # 1: held, 2: held and waited for
            continue
        words[owner] = 0
        words[lock] = 0
        address = ctypes.c_void_p(int(words.ctypes.data) + 4 * lock)
        ctypes.CDLL(None).syscall(call, address, _FUTEX_WAKE, _EVERYBODY, None, None, 0)
        return True
    return False
