"""What Linux tells a parent about its children: how they ended, which ones there are, whose they are.

Standard library only. Where a kernel lacks a call, the next best thing is used; each function says which.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import signal
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sf_runner.basics.clock import since_boot_s

TAG_VARIABLE = "SF_RUNNER_TAG"
"""Every process of an attempt inherits this variable."""

_PR_SET_CHILD_SUBREAPER = 36
_PF_EXITING = 0x4
_SYS_WAITID = {"x86_64": 247, "aarch64": 95, "riscv64": 95}
_SIGINFO = struct.Struct("7i")  # signo, errno, code, padding, pid, uid, status
_RUSAGE = struct.Struct("5q")  # user s, user us, system s, system us, max RSS in KiB
_PIDFD_INFO = struct.Struct("=Q52xi")  # mask, much else, wait status
_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_GET_INFO = (3 << 30) | (_PIDFD_INFO.size << 16) | (0xFF << 8) | 11  # _IOWR(0xFF, 11, struct pidfd_info)
_PEEK = os.WEXITED | os.WNOHANG | os.WNOWAIT
_YOUNG_S = 2.0
"""Process ids cannot have gone once around in less."""
_FEW_PIDS = 64


@dataclass(frozen=True, kw_only=True)
class EndedChild:
    """A child that has ended and still waits to be reaped. One of `exit_code` and `signal` is set."""

    pid: int
    exit_code: int | None
    signal: int | None
    max_rss_mb: float | None = None
    cpu_s: float | None = None


def make_subreaper(on: bool = True) -> bool:
    """Orphaned descendants become our children from now on. False where the kernel has no such thing."""
    try:
        return bool(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


class ChildWatch:
    """Looks at ended children without reaping them, so that nothing is lost when the looking process is killed.

    The system call gives the used resources too, which the C library's `waitid` leaves out; on other architectures
    they are not known.
    """

    def __init__(self) -> None:
        number = _SYS_WAITID.get(platform.machine()) if struct.calcsize("P") == 8 else None
        self._syscall: Any = ctypes.CDLL(None, use_errno=True).syscall if number else None
        self._number = number
        self._info = ctypes.create_string_buffer(128)
        self._usage = ctypes.create_string_buffer(256)
        self._rest = (ctypes.byref(self._info), _PEEK, ctypes.byref(self._usage))

    def ended(self, pid: int = 0) -> EndedChild | None:
        """This child, or (0) any child, if it has ended; None when it runs on or is no child of ours."""
        if self._syscall is None:
            return _ended_without_usage(pid)
        if self._syscall(self._number, os.P_PID if pid else os.P_ALL, pid, *self._rest) != 0:
            return None
        _, _, code, _, found, _, status = _SIGINFO.unpack_from(self._info)
        if not found:  # the kernel fills all of it in, with zeros when no child has ended
            return None
        user_s, user_us, system_s, system_us, rss_kb = _RUSAGE.unpack_from(self._usage)
        exited = code == os.CLD_EXITED
        return EndedChild(
            pid=found,
            exit_code=status if exited else None,
            signal=None if exited else status,
            max_rss_mb=round(rss_kb / 1024, 1),
            cpu_s=round(user_s + system_s + (user_us + system_us) / 1e6, 3),
        )


def _ended_without_usage(pid: int) -> EndedChild | None:
    try:
        info = os.waitid(os.P_PID if pid else os.P_ALL, pid, _PEEK)
    except ChildProcessError:
        return None
    if info is None:
        return None
    exited = info.si_code == os.CLD_EXITED
    status = info.si_status
    return EndedChild(pid=info.si_pid, exit_code=status if exited else None, signal=None if exited else status)


def end_of_stranger(pid: int, pidfd: int | None) -> EndedChild | None:
    """How a process ended that is no child of ours; None when nobody can tell (any more).

    Its zombie tells for as long as its parent leaves it; after that, since Linux 6.15, a pidfd opened in time does.
    """
    stat = process_stat(pid)
    if stat is not None and stat.ended:
        return _from_wait_status(pid, stat.wait_status)
    if stat is None and pidfd is not None:
        answer = bytearray(_PIDFD_INFO.pack(_PIDFD_INFO_EXIT, 0))
        try:
            fcntl.ioctl(pidfd, _PIDFD_GET_INFO, answer)
        except OSError:
            return None
        mask, status = _PIDFD_INFO.unpack(answer)
        if mask & _PIDFD_INFO_EXIT:
            return _from_wait_status(pid, status)
    return None


def _from_wait_status(pid: int, status: int) -> EndedChild:
    killed = os.WIFSIGNALED(status)
    return EndedChild(
        pid=pid,
        exit_code=None if killed else os.WEXITSTATUS(status),
        signal=os.WTERMSIG(status) if killed else None,
    )


def reap(pid: int) -> bool:
    """Whether that child had ended; it is gone now."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False


def is_child(pid: int) -> bool:
    """Whether the process is a child of this one, ended or not."""
    try:
        os.waitid(os.P_PID, pid, _PEEK)
    except OSError:
        return False
    return True


class Children:
    """Finds our children, adopted ones included. `ignored` tells cheaply which processes are of no interest."""

    def __init__(self, ignored: Callable[[int], bool] = lambda pid: False) -> None:
        self._ignored = ignored
        self._list = _open_if_there(f"/proc/self/task/{os.getpid()}/children")  # not every kernel is built with that
        self._loadavg = _open_if_there("/proc/loadavg") if self._list < 0 else -1

    def all(self) -> list[int]:
        if self._list >= 0:
            return [pid for pid in map(int, _pread_whole(self._list).split()) if not self._ignored(pid)]
        return self._among(process_ids())

    def since(self, pid: int, age_s: float) -> list[int]:
        """Those that may have come into being after the process `pid`, `age_s` seconds ago, did, and some more.

        This is asked at the end of every job, so without the kernel's list only the process ids that have been given
        out since are looked at, as long as they are few.
        """
        if self._list >= 0 or self._loadavg < 0 or not 0 <= age_s < _YOUNG_S:
            return self.all()
        last = int(os.pread(self._loadavg, 256, 0).split()[4])
        return self._among(range(pid + 1, last + 1)) if 0 <= last - pid <= _FEW_PIDS else self.all()

    def _among(self, pids: Iterable[int]) -> list[int]:
        own = os.getpid()
        found = []
        for pid in pids:
            if self._ignored(pid):
                continue
            stat = process_stat(pid)
            # Threads have numbers of their own, but only a process leads its group of threads.
            if stat is not None and stat.parent == own and os.path.exists(f"/proc/{pid}/task/{pid}"):  # noqa: PTH110
                found.append(pid)
        return found


def process_ids() -> Iterator[int]:
    """Every process but this one."""
    own = os.getpid()
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit() and int(entry.name) != own:
                yield int(entry.name)


def session_of(pid: int) -> int:
    """0 when there is no such process."""
    try:
        return os.getsid(pid)
    except OSError:
        return 0


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """From /proc/<pid>/stat. `started_up_s`: seconds since boot. `flags`: those of its first thread."""

    state: bytes
    parent: int
    group: int
    session: int
    flags: int
    threads: int
    started_up_s: float
    wait_status: int
    """How it ended, once it has; 0 also where the kernel does not tell us."""

    @property
    def ended(self) -> bool:
        """A zombie: it only waits for its parent, and its children have gone to somebody else.

        A process whose first thread has ended shows the state of a zombie too. But as long as another thread lives (it
        may hang in a write to a slow disk) its files are open, its locks held and its children still its own.
        """
        return self.state in (b"Z", b"X") and self.threads <= 1

    @property
    def leaving(self) -> bool:
        """Its first thread has begun to end or has ended: it does nothing any more, and no orphan comes to it."""
        return bool(self.flags & _PF_EXITING) or self.state in (b"Z", b"X")


_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def process_stat(pid: int) -> ProcessStat | None:
    """None when there is no such process."""
    try:
        fields = read_whole(f"/proc/{pid}/stat").rpartition(b") ")[2].split()
        parent, group, session, flags, threads, start, status = (int(fields[n]) for n in (1, 2, 3, 6, 17, 19, 49))
        return ProcessStat(fields[0], parent, group, session, flags, threads, start / _TICKS_PER_S, status)
    except (OSError, ValueError, IndexError):
        return None


def started_up_s(pid: int) -> float | None:
    """When a process started, in seconds since boot; None when it does not exist or is a zombie."""
    stat = process_stat(pid)
    return None if stat is None or stat.ended else stat.started_up_s


def read_whole(path: str) -> bytes:
    """A file of /proc, in as few calls as it takes."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, 1 << 16)
        while data and (more := os.read(fd, 1 << 20)):
            data += more
        return data
    finally:
        os.close(fd)


def _open_if_there(path: str) -> int:
    """A file of /proc to be read again and again; -1 when there is none."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _pread_whole(fd: int) -> bytes:
    data = os.pread(fd, 1 << 16, 0)
    while data and (more := os.pread(fd, 1 << 20, len(data))):
        data += more
    return data


def group_alive(pgid: int) -> bool:
    """Whether the process group has a member, zombies included."""
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody in the group changed user; it exists
        return True
    return True


def signal_group(pgid: int, signum: int) -> None:
    """Signal a whole process group; a stopped one is woken for TERM. One that is gone, or not ours, is passed over."""
    assert pgid > 1, "0 would be our own group, 1 everybody"
    with suppress(OSError):
        os.killpg(pgid, signum)
        if signum == signal.SIGTERM:
            os.killpg(pgid, signal.SIGCONT)


def signal_process(pid: int, signum: int) -> None:
    """The same for one process."""
    assert pid > 1, "0 would be our own group, -1 everybody"
    with suppress(OSError):
        os.kill(pid, signum)
        if signum == signal.SIGTERM:
            os.kill(pid, signal.SIGCONT)


def read_environ(pid: int) -> dict[str, str]:
    """The environment a process was started with; empty when it is gone or may not be looked at."""
    try:
        items = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = (item.partition(b"=") for item in items if item)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def read_tag(pid: int) -> str:
    """The environment tag of a process; empty when it has none or may not be looked at."""
    return read_environ(pid).get(TAG_VARIABLE, "")


def writes_to(pid: int, path: str) -> bool:
    """Whether the standard output or error of a process goes to that file."""
    for fd in (1, 2):
        try:
            if os.readlink(f"/proc/{pid}/fd/{fd}") == path:  # noqa: PTH115
                return True
        except OSError:
            continue
    return False


def uptime_s() -> float:
    """Seconds since boot, suspended time included: the clock of process start times. Immune to clock adjustments."""
    return round(since_boot_s(), 2)
