"""Starts the engine so that it cannot outlive the process that plays it.

The engine waits for its player for ever. If the player is killed, the kernel must kill the engine: a tiny
script in between asks for that (PR_SET_PDEATHSIG) and then becomes the engine. The request is tied to the
thread that started the script; in vizdoom that is a thread that waits for the engine, so it lives just as
long.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

_SIGKILL_WITH_PARENT = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"


@contextmanager
def guarded(engine: Path, *, working_dir: Path, preload: Path | None = None, silent: bool = False) -> Iterator[str]:
    """A path to execute in place of `engine`, valid inside the context and only for children of this process.

    `preload`: a library that the engine loads before its others. `silent`: what it prints is thrown away, and it reads
    no terminal; what matters it tells through vizdoom.

    It lies in memory, so no file is left over. The engine runs in `working_dir`, where it creates an empty
    folder; it exits if it cannot.
    """
    if not hasattr(os, "memfd_create"):  # not Linux: nothing of this exists there
        yield str(engine)
        return
    script = _script(engine, working_dir, preload, silent)
    descriptor = os.memfd_create("doom_engine", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, script.encode())
        os.fchmod(descriptor, 0o500)
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _script(engine: Path, working_dir: Path, preload: Path | None, silent: bool) -> str:
    # The parent may have died before the request was in place: then it is not ours any more, and we stop.
    loading = f'LD_PRELOAD={shlex.quote(str(preload))}"${{LD_PRELOAD:+:$LD_PRELOAD}}" ' if preload else ""
    streams = " </dev/null >/dev/null 2>&1" if silent else ""
    still_ours = f'[ "$PPID" = {os.getpid()} ] && {loading}exec {shlex.quote(str(engine))} "$@"'
    become_it = f'{_die_with_parent()} /bin/sh -c {shlex.quote(still_ours)} engine "$@"{streams}'
    # Who ends a whole tree of processes sends TERM to the engine, too: it plays on until the training has been saved.
    return f"#!/bin/sh\ntrap '' TERM\ncd {shlex.quote(str(working_dir))} && exec {become_it}\n"


@lru_cache(maxsize=1)
def _die_with_parent() -> str:
    """A command that asks for SIGKILL at its parent's death and then executes its arguments."""
    setpriv = shutil.which("setpriv")  # a few ms cheaper than Python; BusyBox's cannot do it
    if setpriv:
        command = [setpriv, "--pdeathsig", "KILL", "--", "/bin/true"]
        if subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0:
            return f"{shlex.quote(setpriv)} --pdeathsig KILL --"
    return f"{shlex.quote(sys.executable)} -I -S -c {shlex.quote(_SIGKILL_WITH_PARENT)}"
