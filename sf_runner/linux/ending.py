"""How attempts are ended: one TERM for every process, the whole grace period, then KILL. Standard library only.

A program that saves on TERM may hang anywhere in the tree of an attempt: below a shell that TERM kills at once, in a
process group or a session of its own. A second TERM would interrupt its saving. So whoever ends an attempt says which
processes have had theirs and when KILL is due, and whoever is the parent of what is left keeps to it. Where these are
two processes (a guardian or a runner in the background is the parent, a later runner or `sf_runner.cancel` ends the
attempt), it is said in a file beside the exit record.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sf_runner.basics.json_line import json_line
from sf_runner.linux.kernel import process_stat, read_tag

REAPED = float("inf")
"""In place of when a process started: whoever has its number now is another one."""
_INIT = 1
"""0 and 1 are never an experiment's. As a session or group, 0 would stand for the kernel's and the container's own."""
_TICK_S = 0.01
"""The kernel tells when a process started to a hundredth of a second."""


@dataclass(kw_only=True)
class Ending:
    """What was done to end an attempt.

    kill_at: steady time of KILL. grace_s: how long a process has after its TERM.
    termed: processes that were sent TERM, pid -> when they started (seconds since boot).
    before: all processes that started before this have had TERM (seconds since boot); None: nobody has sent it to all.
    """

    kill_at: float
    grace_s: float
    termed: dict[int, float] = field(default_factory=dict)
    before: float | None = None

    def has_reached(self, pid: int, started_up_s: float) -> bool:
        """Whether that process has had its TERM."""
        if self.before is not None and started_up_s <= self.before + _TICK_S:
            return True
        return self.termed.get(pid) == started_up_s


@dataclass(frozen=True, slots=True)
class Member:
    """A live process of an attempt."""

    pid: int
    group: int
    started_up_s: float

    def signal(self, signum: int) -> None:
        """Signal exactly this process: not another one that has its number by now. A stopped one is woken for TERM."""
        assert self.pid > _INIT
        try:
            pidfd = os.pidfd_open(self.pid)
        except (OSError, AttributeError):  # it is gone, or there are no pidfds
            pidfd = -1
        try:
            stat = process_stat(self.pid)
            if stat is None or stat.ended or stat.started_up_s != self.started_up_s:
                return
            for each in (signum, signal.SIGCONT) if signum == signal.SIGTERM else (signum,):
                if pidfd >= 0:
                    signal.pidfd_send_signal(pidfd, each)
                else:
                    os.kill(self.pid, each)
        except OSError:
            pass
        finally:
            if pidfd >= 0:
                os.close(pidfd)


def member_of(pid: int) -> Member | None:
    """The live process of that number; None when there is none."""
    stat = process_stat(pid)
    return None if stat is None or stat.ended else Member(pid, stat.group, stat.started_up_s)


def send_missed_term(ending: Ending, members: Iterable[Member], now: float) -> None:
    """TERM to those that have not had it, with a whole grace period from now."""
    for member in members:
        if not ending.has_reached(member.pid, member.started_up_s):
            member.signal(signal.SIGTERM)
            ending.termed[member.pid] = member.started_up_s
            ending.kill_at = max(ending.kill_at, now + ending.grace_s)


def is_number_of(pid: int, started_up_s: float) -> bool:
    """Whether the number `pid`, of a process that started then, still stands for it and its group and session. While
    they have members it is given to nobody else, so a later process of that number means that all of them are gone."""
    stat = process_stat(pid)
    return stat is None or stat.started_up_s == started_up_s


def trees_of(mains: Mapping[int, tuple[str, float]]) -> dict[int, list[Member]]:
    """Live processes of attempts, given by main process -> (tag, when that started). One pass over /proc.

    An attempt's processes are those in the session or the group of its main process, those with its tag, and what
    these have started. A process with the tag of another attempt (of a runner that runs inside this attempt, which ends
    its own) is left out with all that it started.
    """
    ours = {pid for pid, (_, started) in mains.items() if pid > _INIT and is_number_of(pid, started)}
    by_tag = {tag: pid for pid, (tag, _) in mains.items() if tag}
    stats = {pid: stat for pid in _process_ids() if (stat := process_stat(pid)) is not None and not stat.ended}
    main_of: dict[int, int] = {}
    tags: dict[int, str] = {}
    children: dict[int, list[int]] = {}
    for pid, stat in stats.items():
        children.setdefault(stat.parent, []).append(pid)
        main = stat.session if stat.session in ours else stat.group if stat.group in ours else None
        if main is None:
            tags[pid] = read_tag(pid)
            main = by_tag.get(tags[pid])
        if main is not None:
            main_of[pid] = main
    queue = list(main_of)
    while queue:
        parent = queue.pop()
        for pid in children.get(parent, ()):
            if pid > _INIT and pid not in main_of and not tags.get(pid):
                main_of[pid] = main_of[parent]
                queue.append(pid)
    found: dict[int, list[Member]] = {main: [] for main in mains}
    for pid, main in main_of.items():
        found[main].append(Member(pid, stats[pid].group, stats[pid].started_up_s))
    return found


def stop_file(exit_record: str) -> str:
    """The file that says how an attempt is being ended, beside its exit record."""
    return f"{os.path.dirname(exit_record)}/stop.json"  # noqa: PTH120


def write_stop(path: str, attempt: int, ending: Ending, *, sent: bool) -> None:
    """`sent`: whether all have had TERM by now; before that, that they are just getting it. A disk that is full makes
    no difference here: then only this process knows."""
    body = {
        "version": 1,
        "attempt": attempt,
        "sent": sent,
        "kill_at": ending.kill_at,
        "grace_s": ending.grace_s,
        "termed": [[pid, started] for pid, started in ending.termed.items()],
    }
    tmp = f"{path}.tmp"
    try:
        Path(tmp).write_text(json_line(body), encoding="utf-8")
        os.rename(tmp, path)  # noqa: PTH104
    except OSError:
        pass


def read_stop(path: str, attempt: int) -> tuple[Ending, bool] | None:
    """How exactly that attempt is being ended, and whether all have had TERM; None when it is not."""
    try:
        body = json.loads(Path(path).read_bytes())
        if body["attempt"] != attempt:
            return None
        termed = {int(pid): float(started) for pid, started in body["termed"]}
        ending = Ending(kill_at=float(body["kill_at"]), grace_s=float(body["grace_s"]), termed=termed)
        return ending, bool(body["sent"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _process_ids() -> Iterator[int]:
    """Every process but this one."""
    own = str(os.getpid())
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit() and entry.name != own:
                yield int(entry.name)
