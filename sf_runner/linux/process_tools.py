"""Finding processes by identity: pid, start time and boot, or the environment tag. Linux's /proc."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sf_runner.basics.clock import boot_id
from sf_runner.linux.kernel import process_ids, process_stat, read_tag, started_up_s

_START_TOLERANCE_S = 2.0
_PERMANENT = (errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.E2BIG, errno.EPERM, errno.EINVAL, errno.ENOTDIR)


def make_tag(run_id: str, job: str, attempt: int) -> str:
    """The value of SF_RUNNER_TAG that every process of an attempt inherits."""
    return f"{run_id}:{attempt}:{job}"


def make_handle(pid: int, up_s: float, boot: str) -> dict[str, Any]:
    """What identifies a process across restarts of the runner: its pid, when it started (seconds since boot, to
    about a second) and the boot."""
    return {"pid": pid, "up": up_s, "boot": boot}


def handle_of(pid: int) -> dict[str, Any]:
    """The handle of a live process of this machine; of a dead one, a handle that is never alive."""
    return make_handle(pid, started_up_s(pid) or -1.0, boot_id())


def is_alive(handle: Mapping[str, Any], boot: str) -> bool:
    """Whether the process of a journaled handle still exists and is not a zombie."""
    return _lives(handle, boot, zombie=False)


def is_zombie_of(handle: Mapping[str, Any], boot: str) -> bool:
    """Whether the process of a journaled handle has ended and still waits for its parent."""
    return _lives(handle, boot, zombie=True)


def _lives(handle: Mapping[str, Any], boot: str, *, zombie: bool) -> bool:
    pid = int(handle.get("pid", 0))
    if pid <= 0 or handle.get("boot", boot) != boot:
        return False
    stat = process_stat(pid)
    if stat is None or stat.ended != zombie:
        return False
    return "up" not in handle or abs(stat.started_up_s - float(handle["up"])) < _START_TOLERANCE_S


def tagged_processes(wanted: Iterable[str]) -> dict[str, list[int]]:
    """Live processes by tag, for the wanted tags or tag prefixes ending in ':'. One pass over /proc: milliseconds."""
    tags = tuple(wanted)
    prefixes = tuple(tag for tag in tags if tag.endswith(":"))
    exact = set(tags)
    found: dict[str, list[int]] = {}
    for pid in process_ids():
        tag = read_tag(pid)
        if tag and (tag in exact or tag.startswith(prefixes)):
            found.setdefault(tag, []).append(pid)
    return found


def owner_of(pid: int, sessions: Mapping[int, str]) -> str | None:
    """The job a process belongs to: `sessions` maps the pid of each job's main process to the job."""
    try:
        job = sessions.get(os.getsid(pid))
    except OSError:
        return None
    if job is not None:
        return job
    _, _, name = read_tag(pid).partition(":")
    name = name.partition(":")[2]
    return name if name in sessions.values() else None


def start_error(program: str, log: str, exc: OSError | ValueError) -> tuple[str, bool]:
    """(why it could not be started, whether trying again cannot help). The error does not say which file it means."""
    if isinstance(exc, UnicodeEncodeError):
        text = exc.object[max(0, exc.start - 40) : exc.end + 40]
        return f"cannot start '{program}': {text!a} cannot be said in this locale ({exc.encoding}); use UTF-8", True
    if isinstance(exc, ValueError):
        return f"cannot start '{program}': {exc}", True
    folder = Path(log).parent
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: cannot write {log}", False
    if exc.errno == errno.EROFS or not (folder.is_dir() and os.access(folder, os.W_OK)):
        return f"cannot write {log}: {exc.strerror}", exc.errno in _PERMANENT
    if exc.errno == errno.ENOENT and shutil.which(program) is None:
        where = "does not exist" if "/" in program else "was not found on PATH"
        return f"program '{program}' {where}", True
    if exc.errno == errno.ENOENT:
        return f"cannot start '{program}': the interpreter that its first line names was not found", True
    if exc.errno == errno.ENOEXEC:
        return f"cannot start '{program}': it is no program; does it lack a first line like #!/bin/sh?", True
    return f"cannot start '{program}': {exc.strerror}", exc.errno in _PERMANENT
