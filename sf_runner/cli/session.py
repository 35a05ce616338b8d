"""The composition root of the run command: puts the parts together around one start of a run."""

from __future__ import annotations

import os
import shlex
import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass

from sf_runner import events as ev
from sf_runner.backends.base import Known
from sf_runner.backends.process_tools import boot_id
from sf_runner.backends.processes import ProcessesBackend
from sf_runner.cli.options import RunOptions
from sf_runner.cli.slots import SlotChoice, choose_slots
from sf_runner.errors import StorageError, UsageError
from sf_runner.history import load_history, save_history
from sf_runner.job_state import Running, Stopping
from sf_runner.journal import Journal
from sf_runner.launching import LaunchBuilder
from sf_runner.loading import load_description
from sf_runner.paths import RunPaths
from sf_runner.plan import Plan, make_plan
from sf_runner.reconcile import ranks, reconcile, slot_requests
from sf_runner.run_lock import run_lock
from sf_runner.run_loop import RunLoop
from sf_runner.run_state import RunState
from sf_runner.run_view import Screen
from sf_runner.scheduler import Policy
from sf_runner.signals import SignalInbox
from sf_runner.slot_manager import SlotManager
from sf_runner.summary import exit_code, summary_lines
from sf_runner.tui.plain import PlainScreen, SilentScreen


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything known before anything is touched."""

    options: RunOptions
    plan: Plan
    slots: SlotChoice
    pause_between_s: float


def prepare(options: RunOptions) -> Prepared:
    """Load and check; touches nothing. UsageError or DescriptionError in one line."""
    description = load_description(options.run)
    plan = make_plan(description, options.train_dir, experiment_suffix=options.experiment_suffix)
    if options.backend != "processes":
        raise UsageError(f"--runner={options.backend} is not available in this version; use --runner=processes")
    pause = options.pause_between if options.pause_between is not None else plan.defaults.pause_between_s or 0.0
    return Prepared(options=options, plan=plan, slots=choose_slots(options, plan.defaults), pause_between_s=pause)


def execute(prepared: Prepared, command: list[str]) -> int:
    """Run the plan to its end; the exit code."""
    options, plan = prepared.options, prepared.plan
    started = time.time()
    with ExitStack() as stack:
        stack.enter_context(run_lock(plan.paths))
        journal, state = _open_journal(plan)
        stack.callback(journal.close)
        # From here on a Ctrl-C is an event of the run, not an exception in the middle of something.
        signals = stack.enter_context(SignalInbox())
        history = load_history(plan.paths.train_dir)
        events = _opening_events(prepared, state, history.durations_s, command)
        backend = ProcessesBackend(plan.paths.runner_dir, state.run_id)
        slots = SlotManager(
            prepared.slots.setup,
            prepared.slots.probe,
            prepared.slots.snapshot,
            backend.sessions,
            history.peaks,
        )
        backend.open()
        screen = _make_screen(options, plan)
        loop = RunLoop(
            jobs=plan.by_id(),
            state=state,
            journal=journal,
            backend=backend,
            slots=slots,
            requests=slot_requests(plan),
            launches=LaunchBuilder(plan.paths),
            policy=policy_of(prepared),
            screen=screen,
            signals=signals,
        )
        ending = None
        try:
            _write(journal, state, events)
            slots.restore(state.active)
            ending = loop.run(backend.adopt(known_attempts(state, plan.paths)))
        finally:
            screen.stop(loop.view())
            backend.close(detach=ending in (None, "detached"))
        save_history(plan.paths.history, state, slots.peaks)
        code = exit_code(state, loop.interrupted_by)
        _write(journal, state, [ev.RunClosed(t=time.time(), exit_code=code)])
    _print_summary(state, plan, started, command)
    return code


def policy_of(prepared: Prepared) -> Policy:
    options = prepared.options
    return Policy(
        pause_between_s=prepared.pause_between_s,
        max_retries=options.max_retries,
        retry_delay_s=options.retry_delay,
        max_failures=options.max_failures,
        timeout_s=options.timeout,
        stall_timeout_s=options.stall_timeout,
        grace_s=options.grace,
    )


def _open_journal(plan: Plan) -> tuple[Journal, RunState]:
    try:
        journal, events = Journal.open(plan.paths.journal, plan.run_name)
    except OSError as exc:
        raise StorageError(f"cannot write {plan.paths.journal}: {exc.strerror}; choose another --train_dir") from exc
    state = RunState()
    state.apply_all(events)
    return journal, state


def _opening_events(
    prepared: Prepared, state: RunState, expected_s: dict[str, float], command: list[str]
) -> list[ev.Event]:
    options, plan, now = prepared.options, prepared.plan, time.time()
    opened = ev.RunOpened(
        t=now,
        pid=os.getpid(),
        host=socket.gethostname(),
        backend=options.backend,
        boot_id=boot_id(),
        command=command,
        max_parallel=prepared.slots.max_parallel,
        max_retries=options.max_retries,
    )
    retry = [name for name, on in (("failed", options.retry_failed), ("cancelled", options.retry_cancelled)) if on]
    changes = reconcile(
        plan,
        state,
        ranks_by_job=ranks(plan, options.order, expected_s),  # type: ignore[arg-type]  # checked by argparse
        changed=options.changed,  # type: ignore[arg-type]
        retry=retry,  # type: ignore[arg-type]
        now=now,
    )
    notes = [ev.Note(t=now, text=text, level="info") for text in prepared.slots.setup.notes]
    notes += [ev.Note(t=now, text=warning.message) for warning in prepared.slots.snapshot.warnings]
    return [opened, *changes, *notes]


def _write(journal: Journal, state: RunState, events: list[ev.Event]) -> None:
    journal.append(events)
    state.apply_all(events)
    if not journal.flush():
        raise StorageError(f"cannot write {journal.path}: {journal.trouble}; free some space and start again")


def known_attempts(state: RunState, paths: RunPaths) -> list[Known]:
    """Attempts that the journal believes to hold a slot."""
    known = []
    for job, record in state.active.items():
        running = record.state.running if isinstance(record.state, Stopping) else record.state
        known.append(
            Known(
                job=job,
                attempt=record.attempts,
                handle=running.handle if isinstance(running, Running) else None,
                exit_record=paths.job(job).exit_record,
            )
        )
    return known


def _make_screen(options: RunOptions, plan: Plan) -> Screen:
    if options.ui == "none":
        return SilentScreen()
    return PlainScreen(plan.paths, every_s=options.progress_every)


def _print_summary(state: RunState, plan: Plan, started: float, command: list[str]) -> None:
    rerun = shlex.join(["python", "-m", "sf_runner.run", *command])
    elapsed = time.time() - started
    for line in summary_lines(state, plan.paths, elapsed_s=elapsed, rerun=rerun):
        try:
            print(line, flush=True)
        except OSError:  # the terminal is gone
            sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
            return
