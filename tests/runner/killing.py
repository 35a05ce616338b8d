"""Ways to kill a runner and its guardian at random moments, and what its journal says of it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from sf_runner.state import events as ev
from tests.runner.harness import RunUnderTest

WAYS = {
    "guardian": ("guardian",),
    "runner": ("runner",),
    "guardian, then runner": ("guardian", "runner"),
    "runner, then guardian": ("runner", "guardian"),
    "process group": ("group",),
}


def many(count: int, script: str) -> str:
    """The text of an experiment with `count` jobs; the script gets `i=<number>` as its first argument."""
    grid = f"ParamGrid([('i', list(range({count})))]).generate_params(randomize=False)"
    return f"Experiment('job', ['sh', '-c', {script!r}, 'sh'], {grid})"


def processes(run: RunUnderTest) -> dict[str, int]:
    """Guardian and runner that were started last."""
    opened = run.read().opened
    assert opened is not None
    (guardian,) = (int(handle["pid"]) for handle in opened.guardians)
    return {"guardian": guardian, "runner": opened.pid}


def kill(run: RunUnderTest, *which: str) -> None:
    """Kill these at once."""
    pids = processes(run)
    for name in which:
        with suppress(ProcessLookupError):
            if name == "group":
                os.killpg(pids["guardian"], signal.SIGKILL)
            else:
                os.kill(pids[name], signal.SIGKILL)


def not_yet(run: RunUnderTest, guardian: int, openings: int) -> bool:
    """Whether the journal does not yet speak of the runner that was started last."""
    opened = run.read().opened
    return opened is None or len(run.state.runners) <= openings or opened.guardians[0]["pid"] != guardian


def is_lost(event: ev.Event) -> bool:
    return isinstance(event, ev.AttemptEnded) and event.cause is not None and event.cause.kind == "lost"


def kills_both(way: str) -> bool:
    return set(WAYS[way]) == {"guardian", "runner"}
