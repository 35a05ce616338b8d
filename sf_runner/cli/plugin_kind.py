"""A whole backend that a user wrote, for the commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sf_runner.backends.base import Backend, Launch
from sf_runner.basics.errors import UsageError, one_line
from sf_runner.basics.paths import RunPaths
from sf_runner.cli.kind import BackendContext
from sf_runner.cli.options import RunOptions
from sf_runner.cli.slots import SlotChoice, choose_slots
from sf_runner.describe.plan import Plan
from sf_runner.engine.reconcile import slot_requests
from sf_runner.slots.types import SlotRequest
from sf_runner.state.fold import RunState


class PluginKind:
    """`cls(run_id)` makes the backend. Its attributes `local`, `queues` and `hands_over_all` say what it is like; by
    default attempts do not run on this machine, and the runner counts how many are submitted."""

    def __init__(self, name: str, cls: type[Any]) -> None:
        self.name = name
        self._cls = cls
        self.local = bool(getattr(cls, "local", False))
        self.queues = bool(getattr(cls, "queues", not self.local))
        self.hands_over_all = bool(getattr(cls, "hands_over_all", False))

    def check(self, options: RunOptions, plan: Plan) -> None:
        """It says in `open` when it cannot work."""

    def choose_slots(self, options: RunOptions, plan: Plan) -> SlotChoice:
        return choose_slots(options, plan.defaults)

    def slot_requests(self, plan: Plan) -> Mapping[str, SlotRequest]:
        return slot_requests(plan)

    def make(self, context: BackendContext) -> Backend:
        return self._make(context.state.run_id)

    def reopen(self, paths: RunPaths, state: RunState) -> Backend:
        return self._make(state.run_id)

    def _make(self, run_id: str) -> Backend:
        try:
            backend: Backend = self._cls(run_id)
        except Exception as exc:  # whatever the user's class does
            what = one_line(f"{type(exc).__name__}: {exc}")
            raise UsageError(f"--runner={self.name}: {self._cls.__name__}(run_id) failed: {what}") from exc
        return backend

    def preview(self, context: BackendContext, launches: Sequence[Launch]) -> Iterator[tuple[str, str]]:
        raise UsageError(f"--runner={self.name} cannot show what it would submit; --dry_run shows what it would start")
