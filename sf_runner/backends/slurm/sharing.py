"""`--max_parallel` across arrays: each has a throttle, and those for which there is no room wait for the others to end.

Slurm keeps to a throttle by itself, but it has none that means "nothing now". An array that is to wait depends on the
others (`afterany`), which holds without a runner, too: then the arrays run one after another. A runner lets one that
waits begin as soon as there is room. Room is what Slurm has shown to be free: a throttle is lowered first, and what it
leaves is given away when fewer tasks are seen running.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sf_runner.backends.background_calls import BackgroundCalls
from sf_runner.backends.slurm.array import Array
from sf_runner.backends.slurm.client import SlurmClient
from sf_runner.backends.slurm.states import meaning


@dataclass(frozen=True, kw_only=True)
class Load:
    """An array: tasks that are not over, those of them that run, and how Slurm limits it. throttle: 0: not limited."""

    tasks: int
    running: int = 0
    side_by_side: int = 1
    """Experiments of a task."""
    throttle: int = 0
    blocked: bool = False
    """Whether it waits for other arrays."""

    @property
    def wanted(self) -> int:
        """Experiments that could run side by side."""
        return self.tasks * self.side_by_side

    @property
    def could_run(self) -> int:
        """Experiments that Slurm may run of it before it is told otherwise."""
        throttled = min(self.throttle or self.tasks, self.tasks)
        return max(self.running, 0 if self.blocked else throttled) * self.side_by_side


@dataclass(frozen=True, kw_only=True)
class Share:
    throttle: int = 0
    blocked: bool = False


def shares(loads: Sequence[Load], max_parallel: int | None) -> list[Share]:
    """What each array is to get in the end.

    They begin in the order in which they were submitted, none before another one: Slurm lets one begin when those
    before it have ended, and does not know of others. As many as there is room for get a task each, and share the rest
    in proportion to what they could use."""
    if max_parallel is None or sum(load.wanted for load in loads) <= max_parallel:
        return [Share()] * len(loads)
    left = max_parallel
    opened: list[int] = []
    for number, load in enumerate(loads):
        if opened and load.side_by_side > left:
            break
        opened.append(number)
        left -= load.side_by_side
    found = [Share(blocked=True)] * len(loads)
    wanted = sum(loads[number].wanted - loads[number].side_by_side for number in opened)
    for number in sorted(opened, key=lambda number: loads[number].wanted):
        load = loads[number]
        want = load.wanted - load.side_by_side
        more = max(0, left) * want // max(1, wanted) // load.side_by_side
        found[number] = Share(throttle=1 + more)
        left -= more * load.side_by_side
        wanted -= want
    return found


def changes(loads: Sequence[Load], max_parallel: int | None) -> list[tuple[int, Share]]:
    """(number of the array, what Slurm is to be told about it now) for those of which something is to change now.
    The arrays in the order in which they were submitted."""
    told: list[tuple[int, Share]] = []
    nothing_open = bool(loads) and all(load.blocked for load in loads)
    if nothing_open:  # Slurm lets the first one begin, and may have done so by now
        loads = [replace(loads[0], blocked=False), *loads[1:]]
    room = float("inf") if max_parallel is None else max_parallel - sum(load.could_run for load in loads)
    for number, (load, share) in enumerate(zip(loads, shares(loads, max_parallel), strict=True)):
        if share.blocked:
            if not load.blocked and load.tasks > load.running:
                told.append((number, Share(throttle=1, blocked=True)))
            continue
        target = min(share.throttle or load.tasks, load.tasks)
        most = min(load.throttle or load.tasks, load.tasks)
        if not load.blocked and (target < most or (nothing_open and number == 0)):
            told.append((number, Share(throttle=0 if share.throttle == 0 and target == load.tasks else target)))
        elif load.blocked or target > most:
            now = load.running if load.blocked else max(most, load.running)
            more = int(min(target - now, room // load.side_by_side))
            if more > 0:
                room -= more * load.side_by_side
                enough = share.throttle == 0 and now + more >= load.tasks
                told.append((number, Share(throttle=0 if enough else now + more)))
    return told


class Sharer:
    """Tells Slurm what follows from what it shows."""

    def __init__(self, client: SlurmClient, calls: BackgroundCalls, done: Callable[[Any], None]) -> None:
        self._client = client
        self._calls = calls
        self._done = done
        self.own_dependency = ""
        """What the user wants jobs to wait for."""

    def share_out(self, arrays: Iterable[Array], max_parallel: int | None) -> None:
        live = sorted((array for array in arrays if array.live), key=lambda array: int(array.paths.name))
        for array in live:
            see_limits(array, own_dependency=bool(self.own_dependency))
        for number, share in changes([load_of(array) for array in live], max_parallel):
            array = live[number]
            before = [other for other in live[:number] if other.cluster == array.cluster]
            self._calls.ask(self._command(array, share, before), self._answer(array, share))

    def _command(self, array: Array, share: Share, before: Sequence[Array]) -> Callable[[], None]:
        cluster, array_id = array.cluster, array.array_id
        after = None
        if share.blocked:
            after = after_all((other.array_id for other in before), self.own_dependency)
        elif array.blocked:
            after = self.own_dependency
        return lambda: self._client.limit(cluster, array_id, share.throttle, after)

    def _answer(self, array: Array, share: Share) -> Callable[[Any], None]:
        def answered(answer: Any) -> None:
            if not isinstance(answer, Exception):
                array.throttle = array.told_throttle = share.throttle
                array.blocked, array.opened = share.blocked, not share.blocked
            self._done(answer)

        return answered


def see_limits(array: Array, *, own_dependency: bool) -> None:
    """Take over how Slurm limits an array, as far as it shows."""
    shown, told = array.shown_throttle, array.told_throttle
    if shown is not None:  # it may be an old answer: what it was told, or what it shows, whichever lets more run
        array.throttle = shown if told is None else 0 if 0 in (shown, told) else max(shown, told)
    reasons = {
        task.entry.reason if meaning(task.entry.state).phase == "queued" else "running"
        for task in array.tasks.values()
        if task.units and task.entry is not None
    }
    if "Dependency" in reasons:
        array.blocked = not array.opened and (array.blocked or not own_dependency)
    elif reasons - {"None", ""}:  # which it has before Slurm has looked at it
        array.blocked = False


def load_of(array: Array) -> Load:
    tasks = [task for task in array.tasks.values() if task.units]
    # What is not shown may run.
    running = sum(
        (task.entry is None and task.history.begins > 0)
        or (task.entry is not None and meaning(task.entry.state).phase == "running")
        for task in tasks
    )
    return Load(
        tasks=len(tasks),
        running=running,
        side_by_side=array.header.side_by_side,
        throttle=array.throttle,
        blocked=array.blocked,
    )


def after_all(ids: Iterable[str], own: str = "") -> str:
    """A dependency on the end of all these arrays, and on what the user asked for."""
    others = ":".join(ids)
    return ",".join(part for part in (f"afterany:{others}" if others else "", own) if part)


def has_to_wait(live: Sequence[Load], new: Load, max_parallel: int | None) -> bool:
    """Whether an array that is about to be submitted has to wait for those that are there."""
    if max_parallel is None or not live:
        return False
    return sum(load.wanted for load in live) + new.wanted > max_parallel
