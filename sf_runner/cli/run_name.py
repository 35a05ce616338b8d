"""What a start says of a run name that changes by itself."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sf_runner.basics.paths import RunPaths, iter_runs
from sf_runner.describe.changing_name import holds_the_time, look_alikes, may_change

_REMEDY = "give RunDescription a run_name that stays the same"
_FIRST_LINES_BYTES = 1 << 16


def name_note(paths: RunPaths, command: Sequence[str], now: float) -> str:
    """What to say where the run that begins at `now` is new and its name will be another one at the next start; else
    empty. `command`: the arguments of this start."""
    name = paths.run_name
    if paths.journal.exists():
        return ""
    runs = {run.run_name: run for run in iter_runs(paths.train_dir)} if may_change(name) else {}
    earlier = [other for other in look_alikes(name, runs) if _started_by(runs[other]) == list(command)]
    seen = ""
    if earlier:
        more = f" and {len(earlier) - 1} more" if len(earlier) > 1 else ""
        seen = f"the same command has started '{earlier[-1]}'{more} before, and "
    if holds_the_time(name, now):
        return f"{seen}run_name '{name}' holds the time: every start is a new run that continues no other; {_REMEDY}"
    if earlier:
        return (
            f"{seen}'{name}' is a new run that continues nothing: if the name changes by itself (a date, a time, "
            f"chance), {_REMEDY}"
        )
    return ""


def _started_by(run: RunPaths) -> list[str] | None:
    """The command that started a run first; None where its journal does not tell."""
    try:
        with run.journal.open("rb") as file:
            lines = file.read(_FIRST_LINES_BYTES).split(b"\n")
        command = json.loads(lines[1]).get("command")
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    return command if isinstance(command, list) else None
