"""Who is at work on a run, as a file that only one can create: for file systems on which every lock succeeds.

<run>/.runner/runner.json names the process that holds the run: its machine (host, boot, process namespace), pid and
start time. It is removed when the run is handed back. On the same machine the holder is looked up among the processes.
On another one it is alive as long as it touches the file, every few seconds. Ages are differences between times that
the file server set, so no two clocks are compared.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sf_runner.basics.clock import boot_id
from sf_runner.basics.files import create_once
from sf_runner.linux.process_tools import handle_of, is_alive

BEAT_S = 5.0
STALE_S = 30.0
_POLL_S = 0.05
_HALF_WRITTEN_S = 1.0
_BURIED_S = 5.0

Life = Literal["dead", "alive", "handing_over", "elsewhere"]


@dataclass(frozen=True, kw_only=True)
class Holder:
    """What the file says. `body` is empty where it says nothing that this version understands: an older one wrote it,
    which relied on the lock alone."""

    body: Mapping[str, Any]

    @property
    def token(self) -> str:
        """Different for every claim."""
        return str(self.body.get("token", ""))

    @property
    def text(self) -> str:
        """For people: ` by pid 7 on box since ...`; empty where that is not known."""
        try:
            return f" by pid {self.body['pid']} on {self.body['host']} since {self.body['since']}"
        except KeyError:
            return ""

    @property
    def unguarded(self) -> bool:
        """Whether its guardian is gone, on this machine: it lets go soon."""
        try:
            boot = boot_id()
            here = self.body["host"] == socket.gethostname()
            return here and not all(is_alive(handle, boot) for handle in self.body["guardians"])
        except (KeyError, TypeError, ValueError):
            return False

    def life(self) -> Life:
        """Whether its process is there; `handing_over`: it is, but without its guardian, and lets go soon."""
        if not self.token:
            return "dead"
        if self.body.get("machine") != machine():
            return "elsewhere"
        try:
            if not is_alive(self.body["owner"], boot_id()):
                return "dead"
            return "handing_over" if self.unguarded else "alive"
        except (KeyError, TypeError, ValueError):
            return "dead"


def read_holder(path: Path) -> Holder | None:
    """None where there is no such file."""
    try:
        with path.open(encoding="utf-8") as file:  # opened: only then a network file system asks its server
            body = json.loads(file.read())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return Holder(body={})
    return Holder(body=body if isinstance(body, dict) else {})


def machine() -> list[Any]:
    """What processes can be looked up from here: host, boot, namespace of process ids."""
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116
    except OSError:
        namespace = 0
    return [socket.gethostname(), boot_id(), namespace]


def is_claimed(path: Path) -> bool:
    """Whether a process that is alive holds the run, as far as its file tells."""
    holder = read_holder(path)
    if holder is None:
        return False
    life = holder.life()
    return life in ("alive", "handing_over") or (life == "elsewhere" and age_s(path) < STALE_S)


def age_s(path: Path) -> float:
    """Seconds since the file was touched, by the clock of whoever keeps it; infinite where it is gone."""
    probe = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}.now")
    now = time.time()  # where nothing can be written
    with contextlib.suppress(OSError):
        try:
            with probe.open("wb") as file:
                now = os.fstat(file.fileno()).st_mtime
        finally:
            probe.unlink()
    try:
        with path.open("rb") as file:
            return now - os.fstat(file.fileno()).st_mtime
    except OSError:
        return float("inf")


class ClaimedError(Exception):
    """Somebody else holds the run."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(holder.text)
        self.holder = holder


class Claim:
    """The file, held by this process. `lost`: another process has it now."""

    def __init__(self, path: Path, guardian: int) -> None:
        self._path = path
        self._token = secrets.token_hex(8)
        self._body = {
            "pid": guardian,
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "guardians": [handle_of(guardian)],
            "owner": handle_of(os.getpid()),
            "machine": machine(),
            "token": self._token,
        }
        self._over = threading.Event()
        self.lost = False

    def take(self, handover_s: float, tell: Callable[[str], None]) -> None:
        """Hold the run. `handover_s`: how long a holder that is about to let go is awaited.

        A disk that is full must not keep a runner from coming back: then the file is written when it can be.

        Raises:
            ClaimedError: somebody else holds it.
        """
        started = time.monotonic()
        with contextlib.suppress(OSError):
            while not self._create():
                holder = read_holder(self._path)
                if holder is None:
                    continue
                waited_s = time.monotonic() - started
                life = holder.life()
                if life == "elsewhere":
                    life = self._watch(holder, tell)
                if life == "alive" or (life == "handing_over" and waited_s > handover_s):
                    raise ClaimedError(holder)
                if life == "dead" and (holder.body or waited_s > _HALF_WRITTEN_S):
                    self._bury(holder.token)
                else:
                    time.sleep(_POLL_S)
        with contextlib.suppress(RuntimeError):  # no further thread on this machine
            threading.Thread(target=self._beat, name="claim", daemon=True).start()

    def give_back(self) -> None:
        """Let the next one have it."""
        self._over.set()
        if not self.lost:
            with contextlib.suppress(OSError):
                self._remove(self._token)

    def _create(self) -> bool:
        """Whether the file is ours now."""
        return create_once(self._path, json.dumps(self._body))

    def _bury(self, token: str) -> None:
        """Remove the claim of a dead holder. Only one may: whoever else saw it dead might remove what came after it.

        Raises OSError where nothing can be removed.
        """
        right = self._path.with_name(f"{self._path.name}.{token or 'old'}.dead")
        try:
            os.close(os.open(right, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        except FileExistsError:
            if age_s(right) > _BURIED_S:  # whoever had it was killed
                right.unlink(missing_ok=True)
            time.sleep(_POLL_S)
            return
        try:
            self._remove(token)
        finally:
            right.unlink(missing_ok=True)

    def _remove(self, token: str) -> None:
        holder = read_holder(self._path)
        if holder is not None and holder.token == token:
            self._path.unlink(missing_ok=True)

    def _watch(self, holder: Holder, tell: Callable[[str], None]) -> Life:
        """Whether a holder on another machine is alive: it touches the file, or has not for long."""
        first = self._touched()
        if age_s(self._path) < STALE_S:
            tell(f"looking for up to {STALE_S:.0f} s whether the runner{holder.text} is alive")
        while age_s(self._path) < STALE_S:
            if self._touched() != first:
                return "alive"
            time.sleep(10 * _POLL_S)
        return "dead"

    def _touched(self) -> object:
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
            return status.st_ino, status.st_mtime_ns
        except OSError:
            return None

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            holder = read_holder(self._path)
            with contextlib.suppress(OSError):
                if holder is None:  # somebody cleaned up
                    self._create()
                elif holder.token == self._token:
                    os.utime(self._path)
                elif holder.token:
                    self.lost = True
                    return
