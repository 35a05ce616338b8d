"""One live runner per run: a file lock that the operating system releases when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from sf_runner.basics.clock import boot_id
from sf_runner.basics.errors import SfRunnerError, StorageError
from sf_runner.basics.paths import RunPaths
from sf_runner.linux.process_tools import handle_of, is_alive

_HANDOVER_S = 20.0
_GLANCE_S = 0.3
"""Somebody who only looks whether a runner is at work holds the lock for an instant."""


class RunBusyError(SfRunnerError):
    """Another runner is at work on this run."""

    exit_code = 3


@contextlib.contextmanager
def run_lock(paths: RunPaths, guardian: int | None = None) -> Iterator[None]:
    """Hold the run. RunBusyError naming the holder when somebody else does; StorageError when it cannot be had.

    `guardian`: pid of the process without which this one hands the run back; people know it as the runner. If the
    holder's guardian was killed, the holder is about to let go, and is waited for.
    """
    try:
        paths.runner_dir.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StorageError(f"cannot create {paths.runner_dir}: {exc.strerror}; choose another --train_dir") from exc
    lock = FileLock(paths.lock)
    try:
        wait_s = _HANDOVER_S if _is_handing_over(paths.lock_holder) else _GLANCE_S
        lock.acquire(timeout=wait_s, poll_interval=0.02)
    except Timeout:
        raise RunBusyError(
            f"run '{paths.run_name}' is already being run{_holder(paths.lock_holder)}; "
            f"look at it with: python -m sf_runner.status {paths.run_name} --train_dir={paths.train_dir}"
        ) from None
    except (OSError, NotImplementedError) as exc:
        why = getattr(exc, "strerror", None) or exc
        raise StorageError(f"cannot lock {paths.lock}: {why}; choose another --train_dir") from exc
    try:
        _write_holder(paths.lock_holder, guardian or os.getpid())
        yield
    finally:
        lock.release()


def is_held(paths: RunPaths) -> bool:
    """Whether a runner is at work on the run."""
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


def _is_handing_over(holder: Path) -> bool:
    """Whether the guardian of the last holder is gone."""
    try:
        body = json.loads(holder.read_text(encoding="utf-8"))
        if body["host"] != socket.gethostname():
            return False
        boot = boot_id()
        return not all(is_alive(handle, boot) for handle in body["guardians"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write_holder(path: Path, guardian: int) -> None:
    holder = {
        "pid": guardian,
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "guardians": [handle_of(guardian)],
    }
    with contextlib.suppress(OSError):  # for people, and for the next one
        path.write_text(json.dumps(holder), encoding="utf-8")


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f" by pid {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
