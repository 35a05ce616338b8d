"""The composition root of the run command: puts the parts together around one start of a run."""

from __future__ import annotations

import contextlib
import gc
import os
import shlex
import socket
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from sf_runner.backends.base import Backend
from sf_runner.basics.clock import SYSTEM_CLOCK, boot_id, steady_s
from sf_runner.basics.errors import SfRunnerError, StorageError
from sf_runner.basics.paths import RunPaths
from sf_runner.basics.requests import answer_all
from sf_runner.cli.backends import kind_of
from sf_runner.cli.kind import BackendContext, BackendKind
from sf_runner.cli.options import RunOptions
from sf_runner.cli.run_name import name_note
from sf_runner.cli.slots import SlotChoice
from sf_runner.cli.switching import is_elsewhere, settle_elsewhere
from sf_runner.describe.loading import load_description
from sf_runner.describe.plan import Plan, make_plan
from sf_runner.engine.launching import LaunchBuilder, known_attempts
from sf_runner.engine.loop import Ending, LoopEnd, RunLoop
from sf_runner.engine.notify import Notifier
from sf_runner.engine.reconcile import ranks, reconcile
from sf_runner.engine.scheduler import Policy
from sf_runner.engine.screen import Screen
from sf_runner.engine.slot_manager import SlotManager
from sf_runner.linux.kernel import started_up_s
from sf_runner.linux.lifeline import Lifeline
from sf_runner.linux.output import begin_closing, finish
from sf_runner.linux.process_tools import handle_of
from sf_runner.linux.signals import SignalInbox
from sf_runner.state import events as ev
from sf_runner.state.fold import RunState
from sf_runner.state.history import History, load_history, save_history
from sf_runner.state.summary import detached_lines, exit_code, summary_lines
from sf_runner.store.claim import Claim
from sf_runner.store.journal import Journal
from sf_runner.store.lock import run_lock
from sf_runner.tui.choose import make_screen


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything known before anything is touched."""

    options: RunOptions
    plan: Plan
    kind: BackendKind
    slots: SlotChoice
    pause_between_s: float
    warnings: tuple[str, ...] = ()
    """What people should know before the run begins."""


def prepare(options: RunOptions, command: Sequence[str] = (), *, run_name: str = "") -> Prepared:
    """Load and check; touches nothing. UsageError or DescriptionError in one line.

    command: the arguments that this start was given. run_name: what the run is called, if another process of this start
    has named it already; a description may give it another name each time.
    """
    description = load_description(options.run)
    description.run_name = run_name or description.run_name
    plan = make_plan(
        description,
        options.train_dir,
        experiment_suffix=options.experiment_suffix,
        train_dir_of_jobs=options.train_dir_of_jobs,
    )
    kind = kind_of(options.backend)
    kind.check(options, plan)
    pause = options.pause_between if options.pause_between is not None else plan.defaults.pause_between_s or 0.0
    slots = kind.choose_slots(options, plan)
    note = name_note(plan.paths, command, SYSTEM_CLOCK.wall())
    return Prepared(
        options=options, plan=plan, kind=kind, slots=slots, pause_between_s=pause, warnings=(note,) if note else ()
    )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one start of a run ended. `ending` is None where the runner failed; `state` and `backend` are None where it
    failed before it had them."""

    exit_code: int
    ending: Ending | None = None
    state: RunState | None = None
    backend: Backend | None = None
    notifier: Notifier | None = None


def execute(prepared: Prepared, command: list[str], lifeline: Lifeline | None = None) -> int:
    """Run the plan to its end; the exit code. Without a `lifeline` there is no guardian."""
    started = steady_s()
    outcome = _run(prepared, command, lifeline)
    code, state, paths = outcome.exit_code, outcome.state, prepared.plan.paths
    if outcome.backend is not None and outcome.ending in (None, "detached"):
        if lifeline is not None:
            lifeline.let_go(code)
        outcome.backend.outlive_jobs()
        begin_closing()
        if prepared.options.detach and state is not None:
            _print_lines(detached_lines(state, paths))
    elif state is not None:
        rerun = shlex.join(["python", "-m", "sf_runner.run", *command])
        elapsed_s = steady_s() - started
        summary = summary_lines(state, paths, elapsed_s=elapsed_s, rerun=rerun, results=_results(state, paths))
        begin_closing()
        _print_lines(summary)
        if outcome.notifier is not None:
            _print_lines(f"warning: {text}" for text in outcome.notifier.ended(state, code, summary))
        if not finish():
            _keep(summary, paths)
    return code


def _run(prepared: Prepared, command: list[str], lifeline: Lifeline | None) -> Outcome:
    """From taking the run's lock to giving it back. A fault of ours must not take the experiments with it: it is
    printed, and the outcome tells of it."""
    try:
        with ExitStack() as stack:
            guardian = lifeline.guardian if lifeline is not None else None
            claim = stack.enter_context(run_lock(prepared.plan.paths, guardian))
            opened = _open(prepared, command, lifeline, stack)
            return _run_loop(prepared, opened, lifeline, claim)
    except SfRunnerError:
        raise
    except Exception:
        _print_failure(traceback.format_exc())
        return Outcome(exit_code=1)


def _keep(summary: Sequence[str], paths: RunPaths) -> None:
    """The closing words that nobody read."""
    with contextlib.suppress(OSError), paths.runner_output.open("a", encoding="utf-8", errors="replace") as file:
        file.writelines(f"{line}\n" for line in summary)


def _print_failure(trace: str) -> None:
    print(trace, end="", file=sys.stderr)
    print("error: the runner failed; running experiments go on, start the same command again", file=sys.stderr)


def _results(state: RunState, paths: RunPaths) -> list[str] | None:
    """The table of results; None where it cannot be made: numpy is not installed, files hold what nobody expected. It
    must not fail a run that has ended well."""
    try:
        from sf_runner.results.closing import closing_lines  # not before there are results

        return closing_lines(state, paths)
    except Exception:
        return None


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """A run whose journal is open and agrees with the plan."""

    journal: Journal
    state: RunState
    signals: SignalInbox
    history: History
    notes: list[ev.Event]
    """Already written, to be shown."""


def _open(prepared: Prepared, command: list[str], lifeline: Lifeline | None, stack: ExitStack) -> _Opened:
    plan = prepared.plan
    guardians = (lifeline.guardian,) if lifeline is not None else ()
    journal, state = _open_journal(plan)
    stack.callback(journal.close, state)
    # From here on a Ctrl-C is an event of the run, not an exception in the middle of something.
    signals = stack.enter_context(SignalInbox())
    if is_elsewhere(state, prepared.options.backend):
        settle_elsewhere(state, journal, plan.paths)
    history = load_history(plan.paths.train_dir)
    events = _opening_events(prepared, state, history.durations_s, command, guardians)
    told = [note for note in (journal.mended, journal.torn) if note is not None]
    notes = [*told, *_write(journal, state, events)]
    return _Opened(journal=journal, state=state, signals=signals, history=history, notes=notes)


def _run_loop(prepared: Prepared, opened: _Opened, lifeline: Lifeline | None, claim: Claim) -> Outcome:
    plan, state, choice = prepared.plan, opened.state, prepared.slots
    context = BackendContext(options=prepared.options, plan=plan, state=state, lifeline=lifeline)
    backend = prepared.kind.make(context)
    notifier = _make_notifier(prepared, state, lifeline)
    slots = SlotManager(choice.setup, choice.probe, choice.snapshot, backend.sessions, opened.history.peaks)
    backend.open()
    loop = RunLoop(
        jobs=plan.by_id(),
        state=state,
        journal=opened.journal,
        backend=backend,
        slots=slots,
        requests=prepared.kind.slot_requests(plan),
        launches=LaunchBuilder(plan.paths),
        policy=policy_of(prepared),
        screen=_make_screen(prepared, lifeline),
        signals=opened.signals,
        lifeline=lifeline,
        notifier=notifier,
        leave_when_submitted=prepared.options.detach,
        is_lost=lambda: claim.lost,
    )
    end: LoopEnd | None = None
    failure = ""
    try:
        slots.restore(state.active)
        adopted = backend.adopt(known_attempts(state, plan.paths))
        gc.freeze()  # the plan stays to the end: no collection has to look through it
        gc.enable()
        end = loop.run(adopted, news=opened.notes)
    except SfRunnerError:
        raise
    except Exception:
        failure = traceback.format_exc()
    finally:
        loop.stop_screen()
        backend.close(detach=end is None or end.ending == "detached")
    if end is None:
        _print_failure(failure)
        return Outcome(exit_code=1, state=state, backend=backend, notifier=notifier)
    save_history(plan.paths.history, state, slots.peaks)
    left = prepared.options.detach and end.ending == "detached"
    code = 0 if left else exit_code(state, end.interrupted_by)
    _write(opened.journal, state, [ev.RunClosed(t=SYSTEM_CLOCK.wall(), exit_code=code)])
    if not opened.journal.given_up:
        answer_all(plan.paths.requests_dir, "nothing is done any more: the run has ended")
    return Outcome(exit_code=code, ending=end.ending, state=state, backend=backend, notifier=notifier)


def _make_notifier(prepared: Prepared, state: RunState, lifeline: Lifeline | None) -> Notifier | None:
    options = prepared.options
    if not options.notify_command:
        return None
    restarted = lifeline is not None and lifeline.restarted
    told = restarted and state.count("Failed") > 0
    return Notifier(options.notify_command, options.notify_on, prepared.plan.paths, failure_told=told)


def _make_screen(prepared: Prepared, lifeline: Lifeline | None) -> Screen:
    options = prepared.options
    leader = lifeline.guardian if lifeline is not None else os.getpid()
    return make_screen(options.ui, prepared.plan.paths, every_s=options.progress_every, leader_pid=leader)


def policy_of(prepared: Prepared) -> Policy:
    """What the scheduler needs to know of the flags and of the backend."""
    options = prepared.options
    return Policy(
        queueing=prepared.kind.hands_over_all,
        pause_between_s=0.0 if prepared.kind.hands_over_all else prepared.pause_between_s,
        max_retries=options.max_retries,
        retry_delay_s=options.retry_delay,
        max_failures=options.max_failures,
        timeout_s=options.timeout,
        stall_timeout_s=options.stall_timeout,
        grace_s=options.grace,
    )


def _open_journal(plan: Plan) -> tuple[Journal, RunState]:
    try:
        return Journal.open(plan.paths.journal, plan.run_name)
    except OSError as exc:
        raise StorageError(f"cannot write {plan.paths.journal}: {exc.strerror}; choose another --train_dir") from exc


def _opening_events(
    prepared: Prepared,
    state: RunState,
    expected_s: dict[str, float],
    command: list[str],
    guardians: Sequence[int],
) -> Iterator[ev.Event]:
    SYSTEM_CLOCK.look()
    options, clocks = prepared.options, SYSTEM_CLOCK.now()
    now = clocks.wall
    opened = ev.RunOpened(
        t=now,
        pid=os.getpid(),
        up=started_up_s(os.getpid()) or 0.0,
        host=socket.gethostname(),
        backend=options.backend,
        boot_id=boot_id(),
        command=command,
        max_parallel=prepared.slots.max_parallel,
        max_retries=options.max_retries,
        queues=prepared.kind.queues,
        local=prepared.kind.local,
        records=prepared.kind.records,
        guardians=[handle_of(pid) for pid in guardians],
        clocks=clocks.unset,
        thresholds=tuple(prepared.plan.thresholds.items()),
    )
    changes = plan_changes(prepared, state, expected_s, now)
    notes = [ev.Note(t=now, text=text, level="warning") for text in prepared.warnings]
    notes += [ev.Note(t=now, text=text, level="info") for text in prepared.slots.setup.notes]
    for warning in prepared.slots.snapshot.warnings:
        # A machine without GPUs is nothing to worry about; a GPU that cannot be read is.
        level: Literal["info", "warning"] = "info" if warning.kind in ("library", "driver") else "warning"
        notes.append(ev.Note(t=now, text=warning.message, level=level))
    return chain([opened], changes, notes)


def plan_changes(prepared: Prepared, state: RunState, expected_s: Mapping[str, float], now: float) -> list[ev.Event]:
    """What this start changes in the run: jobs that are new, gone, changed or to be repeated. `expected_s`: how long
    configurations took in earlier runs."""
    options = prepared.options
    return reconcile(
        prepared.plan,
        state,
        ranks_by_job=ranks(prepared.plan, options.order, expected_s),
        changed=options.changed,
        retry=options.retry,
        now=now,
    )


def _write(journal: Journal, state: RunState, events: Iterable[ev.Event]) -> list[ev.Event]:
    """Write and fold them; the notes among them, for people."""
    notes: list[ev.Event] = []
    for event in events:
        if isinstance(event, ev.JobsPlanned | ev.JobsChanged):
            located = journal.located(event)
            journal.append((located,))
            state.apply(located)
            journal.flush()  # megabytes of them must not pile up
            continue
        journal.append((event,))
        state.apply(event)
        if isinstance(event, ev.Note):
            notes.append(event)
    if not journal.flush():
        raise StorageError(f"cannot write {journal.path}: {journal.trouble}; free some space and start again")
    return notes


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        try:
            print(line, flush=True)
        except OSError:  # the terminal is gone
            sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
            return
