"""Pages of text: help, failures by cause, messages. And the words of the questions. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sf_runner.basics.paths import NO_LOG, RunPaths
from sf_runner.state.failures import failure_groups
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import Failed
from sf_runner.tui.text import Line
from sf_runner.tui.ui_state import Dialog, Mode
from sf_runner.tui.view_model import short_name

_LOGS_PER_CAUSE = 100
_HELP: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Moving about",
        (
            ("up down j k", "one experiment up or down"),
            ("pgup pgdn", "one screen up or down"),
            ("home g, end G", "the first (and stay there), the last"),
            ("enter l", "the log of the experiment on the whole screen"),
            ("s S", "sort by another column; turn the order round"),
            ("/", "filter: words in a name or parameter=value; !word leaves out"),
            ("f", "only running, failed, waiting ... experiments"),
            ("m", "show another metric"),
            ("e", "failures, grouped by cause"),
            ("n", "notes and warnings of the runner"),
            ("esc", "drop the filter"),
            ("ctrl-l", "draw the screen anew"),
        ),
    ),
    (
        "Steering the run",
        (
            ("c", "cancel the experiment (asks first)"),
            ("C", "cancel all that the filter leaves (asks first)"),
            ("r", "try a failed or cancelled experiment again"),
            ("R", "the same for all that the filter leaves (asks first)"),
            ("p", "start nothing more for now; go on"),
            ("+ -", "one more or one fewer side by side"),
        ),
    ),
    (
        "In a log",
        (
            ("up down j k", "one line"),
            ("pgup pgdn space b", "one screen"),
            ("home g, end G", "the beginning, the end (and follow)"),
            ("left right", "sideways"),
            ("F", "follow or hold still"),
            ("a", "the log of another attempt"),
            ("esc q", "back to the list"),
        ),
    ),
)
_LEAVING = {
    "runner": (
        ("d", "detach: the runner ends, running experiments go on; the same command finds them again"),
        ("q", "asks whether to detach, to wind down or to stop"),
        ("ctrl-z", "back to the shell, the run goes on behind it; fg brings the screen back"),
        ("ctrl-c", "once: nothing new is started; twice: running ones are ended; three times: killed"),
    ),
    "watch": (
        ("q d ctrl-c", "leave; the run goes on as it is"),
        ("ctrl-z", "back to the shell; fg brings the screen back"),
    ),
}


def help_lines(mode: Mode) -> list[Line]:
    """The help page."""
    lines: list[Line] = []
    for title, keys in (*_HELP, ("Leaving", _LEAVING[mode])):
        lines += [((f" {title}", "title"),)]
        lines += [((f"   {key:<18}", "key"), (what, "")) for key, what in keys]
        lines.append(())
    return lines[:-1]


def failure_lines(state: RunState, run_paths: RunPaths) -> list[Line]:
    """Failed experiments, grouped by cause, with their logs."""
    groups = failure_groups(state)
    if not groups:
        return [((" Nothing has failed.", "good"),)]
    lines: list[Line] = []
    for group in groups:
        lines.append(((f" {len(group.jobs)} x ", "failed"), (group.summary, "cause")))
        for record in group.jobs[:_LOGS_PER_CAUSE]:
            assert isinstance(record.state, Failed)
            tries = f"  ({record.attempts} attempts)" if record.attempts > 1 else ""
            paths = run_paths.job(record.job_id)
            log = str(paths.attempt_log(record.state.attempt)) if paths.has_log(record.state.attempt) else NO_LOG
            lines.append(((f"     {short_name(record.job_id)}{tries}  ", ""), (log, "dim")))
        if len(group.jobs) > _LOGS_PER_CAUSE:
            lines.append(((f"     and {len(group.jobs) - _LOGS_PER_CAUSE} more", "dim"),))
        lines.append(())
    return lines[:-1]


def message_lines(state: RunState) -> list[Line]:
    """Notes and warnings of the runner, the latest first."""
    if not state.notes:
        return [((" No messages.", "dim"),)]
    styles = {"info": "", "warning": "warning", "error": "failed"}
    lines: list[Line] = []
    for note in reversed(state.notes):
        when = time.strftime("%m-%d %H:%M:%S", time.localtime(note.t))
        where = f"{short_name(note.job)}: " if note.job else ""
        lines.append(((f" {when} ", "dim"), (f"{note.level:<8}", styles[note.level]), (where + note.text, "")))
    return lines


def dialog_lines(dialog: Dialog, *, running: int, waiting: int) -> list[Line]:
    """The question and its answers, as keys with what they do."""
    jobs = dialog.jobs
    what = f"'{short_name(jobs[0])}'" if len(jobs) == 1 else f"{len(jobs)} experiments"
    stay = ("esc", "no")
    if dialog.kind == "cancel":
        return _question(
            f"Cancel {what}?",
            ("y", "tell it to end (TERM, KILL after the grace period)" if len(jobs) == 1 else "tell them to end"),
            ("k", "kill at once"),
            stay,
        )
    if dialog.kind == "retry":
        return _question(f"Try {what} again?", ("y", "yes"), stay)
    go_on = f"the runner ends here; {running} running go on, {waiting} waiting start when the same command is given"
    if dialog.kind == "detach":
        return _question("Detach?", ("y", go_on), stay)
    return _question(
        "Leave this run?",
        ("d", f"detach: {go_on}"),
        ("w", f"wind down: start nothing new, end when the {running} running are done"),
        ("s", f"stop: end the {running} running now"),
        ("esc", "stay"),
    )


def _question(text: str, *answers: tuple[str, str]) -> list[Line]:
    return [((f" {text}", "warning"),), *(((f"   {key:<5}", "key"), (what, "")) for key, what in answers)]


def footer_keys(mode: Mode, *, alive: bool, sort: str, paused: bool) -> Sequence[tuple[str, str]]:
    """The keys of the list, most useful first; the last two are always in sight."""
    steer = (
        [("c", "cancel"), ("r", "retry"), ("p", "go on" if paused else "pause"), ("+-", "parallel")] if alive else []
    )
    leave = [("d", "detach")] if mode == "runner" else []
    return [
        ("enter", "log"), *steer, ("/", "filter"), ("s", f"sort: {sort}"), ("e", "failures"), ("f", "show"), *leave,
        ("m", "metric"), ("n", "messages"), ("?", "help"), ("q", "quit"),
    ]  # fmt: skip
