"""What the commands have to know of a backend, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sf_runner.backends.base import Backend, Launch
from sf_runner.basics.paths import RunPaths
from sf_runner.cli.options import RunOptions
from sf_runner.cli.slots import SlotChoice
from sf_runner.describe.plan import Plan
from sf_runner.linux.lifeline import Lifeline
from sf_runner.slots.types import SlotRequest
from sf_runner.state.fold import RunState


@dataclass(frozen=True, kw_only=True)
class BackendContext:
    """What a backend may be made of. `state`: the run as it is before this start does anything."""

    options: RunOptions
    plan: Plan
    state: RunState
    lifeline: Lifeline | None = None


class BackendKind(Protocol):
    """One value of `--runner`. Whether its runner is guarded is said in `options.GUARDED`, which loads nothing."""

    name: str
    local: bool
    """Attempts are processes of this machine."""
    queues: bool
    """Attempts wait in a queue of the backend after they were submitted."""
    hands_over_all: bool
    """Everything that is ready is handed over at once; the backend itself keeps to `max_parallel`."""

    def check(self, options: RunOptions, plan: Plan) -> None:
        """UsageError in one line when it cannot work here or a flag cannot be fulfilled. Touches nothing."""

    def choose_slots(self, options: RunOptions, plan: Plan) -> SlotChoice:
        """Devices and cores that the runner hands out, and how many experiments run side by side."""

    def slot_requests(self, plan: Plan) -> Mapping[str, SlotRequest]:
        """What each shape of job asks of those slots."""

    def make(self, context: BackendContext) -> Backend:
        """The backend of a start of the run."""

    def reopen(self, paths: RunPaths, state: RunState) -> Backend:
        """The backend as far as it takes to find, watch and end what an earlier start left, without its flags."""

    def preview(self, context: BackendContext, launches: Sequence[Launch]) -> Iterator[tuple[str, str]]:
        """What would be submitted for these attempts: (what it is, its exact text) each. UsageError where nothing is
        ever submitted."""
