"""One live runner per run: a file lock that the operating system releases when its holder dies, and a file that names
the holder (`claim.py`).

Either is enough to keep a second runner out, and on some file systems one of them does not work.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator

from filelock import FileLock, Timeout

from sf_runner.basics.errors import SfRunnerError, StorageError
from sf_runner.basics.paths import RunPaths
from sf_runner.store.claim import Claim, ClaimedError, Holder, is_claimed, read_holder

_HANDOVER_S = 20.0
_GLANCE_S = 0.3
"""Somebody who only looks whether a runner is at work holds the lock for an instant."""


class RunBusyError(SfRunnerError):
    """Another runner is at work on this run."""

    exit_code = 3


@contextlib.contextmanager
def run_lock(paths: RunPaths, guardian: int | None = None) -> Iterator[Claim]:
    """Hold the run. RunBusyError naming the holder when somebody else does; StorageError when it cannot be had.

    `guardian`: pid of the process without which this one hands the run back; people know it as the runner. If the
    holder's guardian was killed, the holder is about to let go, and is waited for.
    """
    try:
        paths.runner_dir.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StorageError(f"cannot create {paths.runner_dir}: {exc.strerror}; choose another --train_dir") from exc
    lock = FileLock(paths.lock)
    holder = read_holder(paths.lock_holder)
    try:
        handing_over = holder is not None and holder.unguarded
        lock.acquire(timeout=_HANDOVER_S if handing_over else _GLANCE_S, poll_interval=0.02)
    except Timeout:
        raise _busy(paths, read_holder(paths.lock_holder)) from None
    except (OSError, NotImplementedError) as exc:
        why = getattr(exc, "strerror", None) or exc
        raise StorageError(f"cannot lock {paths.lock}: {why}; choose another --train_dir") from exc
    try:
        claim = Claim(paths.lock_holder, guardian or os.getpid())
        try:
            claim.take(_HANDOVER_S, lambda text: print(text, file=sys.stderr, flush=True))
        except ClaimedError as exc:
            raise _busy(paths, exc.holder) from None
        try:
            yield claim
        finally:
            claim.give_back()
    finally:
        lock.release()


def is_held(paths: RunPaths) -> bool:
    """Whether a runner is at work on the run."""
    return _is_locked(paths) or is_claimed(paths.lock_holder)


def _is_locked(paths: RunPaths) -> bool:
    try:
        fd = os.open(paths.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Shared: two that look at the same time do not take each other for a runner.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


def _busy(paths: RunPaths, holder: Holder | None) -> RunBusyError:
    return RunBusyError(
        f"run '{paths.run_name}' is already being run{holder.text if holder is not None else ''}; "
        f"look at it with: python -m sf_runner.status {paths.run_name} --train_dir={paths.train_dir}"
    )
