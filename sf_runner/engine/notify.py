"""`--notify_command`: tells people elsewhere that a run has ended, or that something has failed for the first time.

The command gets what there is to say in its environment (docs/tui.md lists the variables). It runs beside the run and
is never waited for while that goes on.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sf_runner.basics.clock import steady_s
from sf_runner.basics.paths import NO_LOG, RunPaths
from sf_runner.basics.tail import last_line
from sf_runner.engine.notify_events import NotifyEvent
from sf_runner.state import events as ev
from sf_runner.state.fold import RunState
from sf_runner.state.summary import headline

_MAX_TEXT = 60_000
"""The kernel takes no variable longer than 128 KiB."""
_COMMAND_S = 10.0
"""At the end of a run its last commands may take so long; then they are left alone."""


@dataclass(kw_only=True)
class _Hook:
    event: NotifyEvent
    process: subprocess.Popen[bytes]


class Notifier:
    """Starts the command and says what went wrong with it, one line each.

    `on`: which events are told. `failure_told`: an earlier runner of this start has told the first failure.
    """

    def __init__(
        self, command: str, on: Sequence[NotifyEvent], run_paths: RunPaths, *, failure_told: bool = False
    ) -> None:
        self._command = command
        self._on = on
        self._paths = run_paths
        self._failure_told = failure_told or "first_failure" not in on
        self._started = steady_s()
        self._hooks: list[_Hook] = []

    def took(self, events: Sequence[ev.Event], state: RunState) -> list[str]:
        """Look at what happened; what to tell about commands that failed. Costs nothing when nothing did."""
        if not self._failure_told:
            for event in events:
                if isinstance(event, ev.AttemptEnded) and event.verdict == "failed":
                    self._failure_told = True
                    return [*self._start("first_failure", self._failure(event, state), state), *self._collect()]
        return self._collect() if self._hooks else []

    def ended(self, state: RunState, exit_code: int, summary: Sequence[str]) -> list[str]:
        """The run is over: tell it, and give every command that still runs a moment to end."""
        troubles: list[str] = []
        if "end" in self._on:
            more = {"EXIT_CODE": str(exit_code), "SUMMARY": "\n".join(summary)}
            troubles += self._start("end", more, state)
        deadline = steady_s() + _COMMAND_S
        for hook in self._hooks:
            try:
                hook.process.wait(max(0.0, deadline - steady_s()))
            except subprocess.TimeoutExpired:
                troubles.append(
                    f"--notify_command ({hook.event}) is still running after {_COMMAND_S:.0f} s; left alone"
                )
        return [*troubles, *self._collect()]

    def _failure(self, event: ev.AttemptEnded, state: RunState) -> dict[str, str]:
        paths = self._paths.job(event.job)
        log = str(paths.attempt_log(event.attempt).absolute()) if paths.has_log(event.attempt) else ""
        cause = event.cause.summary if event.cause is not None else ""
        summary = f"{event.job} failed: {cause}\n{log or NO_LOG}\n{headline(state)} so far"
        return {"SUMMARY": summary, "FAILED_JOB": event.job, "FAILED_CAUSE": cause, "FAILED_LOG": log}

    def _start(self, event: NotifyEvent, more: Mapping[str, str], state: RunState) -> list[str]:
        env = {**os.environ, **hook_environment(event, more, state, self._paths, steady_s() - self._started)}
        try:
            with self._paths.notify_log.open("ab") as log:
                # In our session, so that it counts as a helper of the runner and not as something a job left behind.
                process = subprocess.Popen(
                    ["/bin/sh", "-c", self._command], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
        except OSError as exc:
            return [f"--notify_command ({event}) could not be started: {exc.strerror or exc}"]
        self._hooks.append(_Hook(event=event, process=process))
        return []

    def _collect(self) -> list[str]:
        troubles = []
        for hook in list(self._hooks):
            code = hook.process.poll()
            if code is None:
                continue
            self._hooks.remove(hook)
            if code != 0:
                how = f"exit code {code}" if code > 0 else f"signal {-code}"
                said = last_line(self._paths.notify_log)[:200]
                troubles.append(
                    f"--notify_command ({hook.event}) failed with {how}{': ' + said if said else ''} "
                    f"(its output: {self._paths.notify_log})"
                )
        return troubles


def hook_environment(
    event: NotifyEvent, more: Mapping[str, str], state: RunState, run_paths: RunPaths, elapsed_s: float
) -> dict[str, str]:
    """The variables a notification command gets besides the runner's own."""
    values = {
        "EVENT": event,
        "RUN": state.run_name,
        "RUN_DIR": str(run_paths.root.absolute()),
        "TITLE": f"{state.run_name}: {headline(state)}",
        "TOTAL": str(state.total),
        "SUCCEEDED": str(state.count("Succeeded")),
        "FAILED": str(state.count("Failed")),
        "CANCELLED": str(state.count("Cancelled")),
        "RUNNING": str(len(state.active)),
        "WAITING": str(state.count("Waiting")),
        "ELAPSED_S": str(round(elapsed_s)),
        **more,
    }
    return {f"SF_RUNNER_{name}": value[:_MAX_TEXT].replace("\0", "") for name, value in values.items()}
