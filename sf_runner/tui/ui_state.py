"""What the person at the keyboard chose to look at: plain data, changed only by `commands.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sf_runner.state.jobs import ACTIVE, Cancelled, Failed, JobRecord, Waiting, is_queued

Page = Literal["jobs", "log", "help", "failures", "messages"]
Sort = Literal["state", "number", "time", "progress", "fps", "metric"]
SORTS: tuple[Sort, ...] = ("state", "number", "time", "progress", "fps", "metric")
Show = Literal["", "running", "failed", "waiting", "succeeded", "cancelled"]
SHOWS: tuple[Show, ...] = ("", "running", "failed", "waiting", "succeeded", "cancelled")

Mode = Literal["runner", "watch"]
"""Whether the screen belongs to the runner itself, or looks at it from another process."""


@dataclass(frozen=True, kw_only=True)
class Pin:
    """The job the cursor was put on, and where it was then: when the job moves to another group of the list because
    it ended, the cursor stays in its row instead of running after it."""

    job: str
    group: Show
    row: int


@dataclass(frozen=True, kw_only=True)
class Dialog:
    """A question at the bottom of the screen. `jobs`: what cancel, kill or retry would act on."""

    kind: Literal["cancel", "retry", "detach", "quit"]
    jobs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class UiState:
    """`pin` None: the cursor stays on the first job of the list. `typing`: the filter is being typed; `typed_over` is
    what it was before."""

    page: Page = "jobs"
    pin: Pin | None = None
    top: int = 0
    sort: Sort = "state"
    reverse: bool = False
    show: Show = ""
    filter: str = ""
    typing: bool = False
    typed_over: str = ""
    dialog: Dialog | None = None
    metric: str = ""
    """The metric shown; empty: the one people most likely mean."""
    scroll: int = 0
    """First line of a page of text."""


def group_of(record: JobRecord) -> Show:
    """The part of the list it belongs to."""
    state = record.state
    if isinstance(state, Waiting) or is_queued(record):
        return "waiting"
    if isinstance(state, ACTIVE):
        return "running"
    if isinstance(state, Failed):
        return "failed"
    return "cancelled" if isinstance(state, Cancelled) else "succeeded"
