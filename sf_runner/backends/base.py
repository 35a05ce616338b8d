"""What the run loop asks of a place where jobs run. One contract test holds for every backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from sf_runner.slots.placement import Placement
from sf_runner.state.jobs import FailureCause

StopLevel = Literal["terminate", "kill"]


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A request to start one attempt. `env` is added to the environment of the runner; `log` receives both
    streams. Both paths are absolute; text, because a run may start thousands of attempts a second."""

    job: str
    attempt: int
    argv: Sequence[str]
    env: Mapping[str, str]
    placement: Placement
    log: str
    exit_record: str


@dataclass(frozen=True, kw_only=True)
class Known:
    """An attempt that the journal believes to hold a slot, to be found again after a restart of the runner."""

    job: str
    attempt: int
    handle: Mapping[str, Any] | None
    """None: it was submitted, and nobody wrote down whether it started."""
    log: str
    exit_record: str


@dataclass(frozen=True, kw_only=True)
class Started:
    """The attempt runs (or is queued elsewhere). `handle` finds it again after a restart; it is journaled.

    `t`: unix time, here and in the other reports."""

    job: str
    attempt: int
    handle: Mapping[str, Any]
    t: float
    placement: Placement | None = None
    """Where it runs, when only the backend knows; None: as was decided when it was submitted."""


Fate = Literal["requeued", "requeue", "failed", "cancelled"]
"""What the place where it ran says of the end of an attempt, beyond its exit record: `requeued`: it was ended there and
queued again as the next attempt, which counts as submitted from now on; `requeue`: the machine was to blame, it has to
be submitted again; `failed`: it failed, record or not; `cancelled`: somebody ended it from outside the runner."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The attempt is over and nothing of it is left. `record` is its exit record; None: nobody saw how it ended.

    `cause`: the backend's own words for why it ended, in place of what its log says. An attempt that the runner told
    to end is never reported `requeued`."""

    job: str
    attempt: int
    t: float
    record: Mapping[str, Any] | None
    fate: Fate | None = None
    cause: FailureCause | None = None


@dataclass(frozen=True, kw_only=True)
class NotStarted:
    """The attempt could not be started. `permanent`: trying again cannot help (no such program)."""

    job: str
    attempt: int
    t: float
    error: str
    permanent: bool


@dataclass(frozen=True, kw_only=True)
class Remark:
    """Something a person should read."""

    text: str
    job: str = ""


@dataclass(frozen=True, kw_only=True)
class Withdrawn:
    """The attempt never got to where it would queue or run, and is not on its way any more: it does not count, and its
    number may be used again."""

    job: str
    attempt: int
    t: float


Report = Started | Ended | NotStarted | Withdrawn | Remark


@dataclass(frozen=True, kw_only=True)
class Room:
    """How many further attempts a place takes now. `why` not more, for people; `wait_s`: when to ask again."""

    number: int
    why: str
    wait_s: float


class Backend(Protocol):
    """Starts, watches and ends attempts. Never decides, never raises for what a job does. A class that is derived from
    this has what most backends can do without.

    Guarantees: every submitted attempt is reported NotStarted, or Started and then Ended, exactly once, also across
    restarts of the runner (through `adopt`); Ended is reported only when no process of the attempt is left.
    """

    name: str

    def open(self) -> None:
        """Get ready. BackendError when it cannot work here."""

    def adopt(self, known: Sequence[Known]) -> list[Report]:
        """Find attempts of an earlier runner. Those found are watched from now on and reported as if started here;
        an attempt that never started is reported as Ended without a record."""

    def submit(self, launch: Launch) -> None:
        """Ask for an attempt; what becomes of it is reported by `poll`."""

    def stop(self, job: str, level: StopLevel, grace_s: float) -> None:
        """End the attempt of that job: TERM to all of it, KILL after `grace_s`; `kill`: at once. May be repeated."""

    def poll(self, now: float) -> list[Report]:
        """What happened since; never blocks. `now`: of the steady clock (`basics/clock.py`)."""

    def fds(self) -> Sequence[int]:
        """File descriptors that become readable when `poll` has something to say."""

    def set_parallel(self, number: int) -> None:
        """So many may run side by side from now on. For backends that queue by themselves; others need not care."""
        return

    def settled(self) -> bool:
        """Whether everything submitted has been handed on to where it queues or runs."""

    def certain(self) -> bool:
        """Whether of every adopted attempt it is known if it is over, and reported if it is."""

    def next_wake(self) -> float | None:
        """When `poll` wants to be called even if nothing becomes readable, by the steady clock."""

    def close(self, *, detach: bool) -> None:
        """Let go. With `detach` running attempts go on; without, none is running any more."""

    def outlive_jobs(self) -> None:
        """After `close(detach=True)`: stay for as long as attempts need this process. Blocks."""
        return

    def sessions(self) -> Mapping[int, str]:
        """Pid of each attempt's main process on this machine -> job."""
        return {}


@runtime_checkable
class Bounded(Protocol):
    """What a backend offers beyond `Backend` whose place may not take everything that is ready."""

    def room(self) -> Room | None:
        """How many further attempts may be submitted now; None: any number."""

    def give_back(self, *, leaving: bool) -> list[Report]:
        """Nothing more is to be started: `Withdrawn` for what is not yet where it would queue or run. With `leaving`
        the runner is about to let go, and what only waits for its turn may still be handed on."""
