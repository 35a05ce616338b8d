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
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sf_runner.basics.files import replace_file
from sf_runner.basics.json_line import json_line
from sf_runner.linux.kernel import process_ids, process_stat, read_tag

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


class Main(NamedTuple):
    """The main process of an attempt, and the tag of all its processes. `pid` 0: there was none, or nobody knows it."""

    tag: str
    pid: int
    started_up_s: float

    @property
    def has_its_number(self) -> bool:
        """Whether its number still stands for it and its group and session. While they have members it is given to
        nobody else, so a later process of that number means that all of them are gone."""
        stat = process_stat(self.pid) if self.pid > _INIT else None
        return self.pid > _INIT and (stat is None or stat.started_up_s == self.started_up_s)


def trees_of(attempts: Mapping[str, Main]) -> dict[str, list[Member]]:
    """Live processes of attempts, by the names they are given. One pass over /proc.

    An attempt's processes are those in the session or the group of its main process, those with its tag, and what
    these have started. A process with the tag of another attempt (of a runner that runs inside this attempt, which ends
    its own) is left out with all that it started.
    """
    by_number = {main.pid: name for name, main in attempts.items() if main.has_its_number}
    by_tag = {main.tag: name for name, main in attempts.items() if main.tag}
    stats = {pid: stat for pid in process_ids() if (stat := process_stat(pid)) is not None and not stat.ended}
    owners: dict[int, str] = {}
    tags: dict[int, str] = {}
    children: dict[int, list[int]] = {}
    for pid, stat in stats.items():
        children.setdefault(stat.parent, []).append(pid)
        owner = by_number.get(stat.session, by_number.get(stat.group))
        if owner is None:
            tags[pid] = read_tag(pid)
            owner = by_tag.get(tags[pid])
        if owner is not None:
            owners[pid] = owner
    queue = list(owners)
    while queue:
        parent = queue.pop()
        for pid in children.get(parent, ()):
            if pid > _INIT and pid not in owners and not tags.get(pid):
                owners[pid] = owners[parent]
                queue.append(pid)
    found: dict[str, list[Member]] = {name: [] for name in attempts}
    for pid, owner in owners.items():
        found[owner].append(Member(pid, stats[pid].group, stats[pid].started_up_s))
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
    with suppress(OSError):
        replace_file(path, json_line(body).encode())


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
