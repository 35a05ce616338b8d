"""One live runner per run: a file lock that the operating system releases when its holder dies."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from sf_runner.errors import SfRunnerError, StorageError
from sf_runner.paths import RunPaths

_HANDOVER_S = 20.0


class RunBusyError(SfRunnerError):
    """Another runner is at work on this run."""

    exit_code = 3


@contextlib.contextmanager
def run_lock(paths: RunPaths, guardian_pid: int) -> Iterator[None]:
    """Hold the run. RunBusyError naming the holder when somebody else does; StorageError when it cannot be had.

    `guardian_pid`: the process people know as the runner. If that of the holder was killed, the holder is handing the
    run back, and is waited for.
    """
    try:
        paths.runner_dir.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StorageError(f"cannot create {paths.runner_dir}: {exc.strerror}; choose another --train_dir") from exc
    lock = FileLock(paths.lock)
    try:
        lock.acquire(timeout=_HANDOVER_S if _is_handing_over(paths.lock_holder) else 0, poll_interval=0.02)
    except Timeout:
        raise RunBusyError(
            f"run '{paths.run_name}' is already being run{_holder(paths.lock_holder)}; "
            f"look at it with: python -m sf_runner.status {paths.run_name} --train_dir={paths.train_dir}"
        ) from None
    except (OSError, NotImplementedError) as exc:
        raise StorageError(f"cannot lock {paths.lock}: {exc}; choose another --train_dir") from exc
    try:
        _write_holder(paths.lock_holder, guardian_pid)
        yield
    finally:
        lock.release()


def is_held(paths: RunPaths) -> bool:
    """Whether a runner is at work on the run."""
    if not paths.lock.exists():
        return False
    lock = FileLock(paths.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False
    lock.release()
    return False


def _is_handing_over(holder: Path) -> bool:
    """Whether the guardian of the last holder is gone."""
    try:
        body = json.loads(holder.read_text())
        if body["host"] != socket.gethostname():
            return False
        os.kill(int(body["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return False


def _write_holder(path: Path, pid: int) -> None:
    holder = {"pid": pid, "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with contextlib.suppress(OSError):  # for people only
        path.write_text(json.dumps(holder))


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f" by pid {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
