"""`python -m sf_runner.status [RUN]`: how a run stands, live or long over."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sf_runner.basics.errors import SfRunnerError, UsageError
from sf_runner.basics.json_line import json_line, quoted
from sf_runner.basics.paths import iter_runs
from sf_runner.cli.common import add_run_arguments, run_paths
from sf_runner.cli.errors import run_command
from sf_runner.cli.parser import Parser, one_of
from sf_runner.engine.snapshot import STATE_NAMES, RunSnapshot, job_json, read_run, run_json, shown_jobs, state_name
from sf_runner.linux.output import unblocked_output
from sf_runner.linux.terminal_guard import run_with_guard
from sf_runner.slots.placement import Placement
from sf_runner.state.estimate import format_duration
from sf_runner.state.jobs import ACTIVE, Failed, JobRecord, Succeeded, last_cause, running_of

_LISTED = 500
_TELLING = (
    "running", "ending", "starting", "failed", "retrying", "queued", "waiting", "cancelled", "succeeded",
)  # fmt: skip
"""States, in the order in which people want to know of them."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; `argv` without the program's name, by default the process's. Returns the exit code."""
    return run_command(_status, argv)


def _status(argv: Sequence[str]) -> int:
    parser = Parser("sf_runner.status", "[RUN]", "How a run stands, live or long over; without RUN: every run.")
    add_run_arguments(parser, run_optional=True)
    parser.add_argument("--json", action="store_true", help="everything, for programs")
    states = one_of(*sorted({*STATE_NAMES.values(), "retrying", "queued"}))
    text = "only experiments in this state, e.g. failed; may be repeated"
    parser.flag(parser, "--state", states, text, action="append")
    text = f"list every experiment; otherwise {_LISTED} at most, those that run or failed first"
    parser.add_argument("--all", action="store_true", help=text)
    parser.add_argument("--watch", "-w", action="store_true", help="look at it in the full-screen UI until you leave")
    text = "for --watch: auto, rich (the full-screen UI) or plain (default: auto)"
    parser.flag(parser, "--ui", one_of("auto", "rich", "plain"), text, default="auto", metavar="UI")
    options = parser.parse_strictly(argv)
    if options.watch:
        return _watch(options.run, options.train_dir, options.ui)
    now = time.time()
    if options.run is None:
        lines = list(_all_runs(Path(options.train_dir), options.json, now))
        if lines or not options.json:
            print("\n".join(lines) if lines else f"no runs under --train_dir={options.train_dir}")
        return 0
    snapshot = read_run(run_paths(options.run, options.train_dir))
    if options.json:
        jobs = [r for r in shown_jobs(snapshot.state) if not options.state or state_name(r) in options.state]
        sys.stdout.writelines(_json_parts(run_json(snapshot, now), (job_json(snapshot, record) for record in jobs)))
    else:
        for line in _table(snapshot, now, options.state, None if options.all else _LISTED):
            print(line)
    return 0


def _json_parts(run: Mapping[str, Any], jobs: Iterator[Mapping[str, Any]]) -> Iterator[str]:
    """The text of the run with its `jobs`, one job after the other: all of a large run would not fit into memory."""
    yield json.dumps(run, indent=1).removesuffix("\n}")
    yield ',\n "jobs": ['
    separator = "\n"
    for job in jobs:
        yield f"{separator}  {_indented(job, 2)}"
        separator = ",\n"
    yield "]\n}\n" if separator == "\n" else "\n ]\n}\n"


def _indented(value: object, level: int) -> str:
    """As `json.dumps` with an indentation of 1 writes it, which takes most of the time for a large run."""
    if type(value) not in (dict, list, tuple) or not value:
        return json_line(value)
    if isinstance(value, dict):
        items = [f"{quoted(str(key))}: {_indented(item, level + 1)}" for key, item in value.items()]
        ends = "{}"
    else:
        assert isinstance(value, list | tuple)
        items, ends = [_indented(item, level + 1) for item in value], "[]"
    inner = "\n" + " " * (level + 1)
    return f"{ends[0]}{inner}{f',{inner}'.join(items)}\n{' ' * level}{ends[1]}"


def _watch(run: str | None, train_dir: str, ui: str) -> int:
    if run is None:
        raise UsageError("--watch needs the RUN to look at; without --watch all runs are listed")
    paths = run_paths(run, train_dir)

    def body(guard_pid: int | None) -> int:
        from sf_runner.tui.watch import watch

        with unblocked_output():  # a pager that is left alone must not keep it from hearing TERM
            return watch(paths, ui=ui, parent_pid=guard_pid)

    return run_with_guard(body)


def _all_runs(train_dir: Path, as_json: bool, now: float) -> Iterator[str]:
    for paths in iter_runs(train_dir):
        try:
            snapshot = read_run(paths)
        except SfRunnerError as exc:
            yield json.dumps({"version": 1, "run": paths.run_name, "error": str(exc)}) if as_json else f"error: {exc}"
            continue
        if as_json:
            yield json.dumps(run_json(snapshot, now))
        else:
            yield f"{paths.run_name}: {headline(snapshot, now)}"


def headline(snapshot: RunSnapshot, now: float) -> str:
    """One line: counts, whether a runner is at work, time left."""
    state = snapshot.state
    parts = [f"{state.count('Succeeded')} of {state.total} succeeded"]
    for name in ("Failed", "Cancelled"):
        if state.count(name):
            parts.append(f"{state.count(name)} {STATE_NAMES[name]}")
    if state.active:
        running = len(state.active) - state.num_queued
        if running or not state.num_queued:
            parts.append(f"{running} running" if snapshot.live else f"{running} left running")
        if state.num_queued:
            parts.append(f"{state.num_queued} queued")
    if state.count("Waiting"):
        parts.append(f"{state.count('Waiting')} waiting")
    guess = snapshot.estimate(now)
    if guess is not None:
        parts.append(guess.text)
    if snapshot.live:
        parts.append(f"run by pid {state.opened.pid} on {state.opened.host}" if state.opened else "being run")
    elif not state.finished:
        alone = state.active and state.opened is not None and not state.opened.local
        doing = "they go on without a runner" if alone else "no runner is at work on it"
        parts.append(f"{doing}: start the same command again to go on")
    return ", ".join(parts)


def _table(snapshot: RunSnapshot, now: float, only: Sequence[str] | None, limit: int | None) -> Iterator[str]:
    """`limit`: rows at most; None: all there are."""
    yield f"run {snapshot.state.run_name}: {headline(snapshot, now)}"
    rows = [("state", "try", "time", "progress", "slot", "experiment")]
    wanted = [record for record in shown_jobs(snapshot.state) if not only or state_name(record) in only]
    listed = wanted if limit is None else _most_telling(wanted, limit)
    rows.extend(_row(snapshot, record, now) for record in listed)
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        yield "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[5]]).rstrip()
    if len(listed) < len(wanted):
        yield f"... and {len(wanted) - len(listed)} more (--state=failed lists those, --all every one)"
    for note in [note for note in snapshot.state.notes if note.level != "info"][-3:]:
        yield f"{note.level}: {note.job + ': ' if note.job else ''}{note.text}"


def _most_telling(records: Sequence[JobRecord], limit: int) -> Sequence[JobRecord]:
    """At most so many of them, in the same order: those that run or failed before others."""
    if len(records) <= limit:
        return records
    places: dict[str, list[int]] = {name: [] for name in _TELLING}
    for place, record in enumerate(records):
        places[state_name(record)].append(place)
    chosen = [place for name in _TELLING for place in places[name]][:limit]
    return [records[place] for place in sorted(chosen)]


def _row(snapshot: RunSnapshot, record: JobRecord, now: float) -> tuple[str, str, str, str, str, str]:
    state = record.state
    elapsed, slot = "", ""
    if isinstance(state, ACTIVE):
        running = running_of(state)
        slot = Placement.from_json(state.placement).label
        if running is not None:
            until = now if snapshot.live else snapshot.state.last_event_at
            elapsed = format_duration(running.elapsed_s(until))
    elif isinstance(state, Succeeded | Failed):
        elapsed = format_duration(state.duration_s)
    cause = last_cause(state)
    what = f"  ({cause.summary})" if cause is not None else ""
    tries = str(record.attempts) if record.attempts else ""
    return state_name(record), tries, elapsed, _progress(snapshot, record), slot, record.job_id + what


def _progress(snapshot: RunSnapshot, record: JobRecord) -> str:
    progress = snapshot.progress.get(record.job_id)
    if progress is None:
        return ""
    parts = []
    if progress.fraction is not None:
        parts.append(f"{100 * progress.fraction:.0f} %")
    elif progress.phase:
        parts.append(progress.phase)
    if progress.fps:
        parts.append(f"{progress.fps:,.0f}/s")
    return " ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
