"""A run that was started on one backend and goes on with another: what still lives there must not be started again."""

from __future__ import annotations

import socket

from sf_runner.basics.clock import steady_s
from sf_runner.basics.errors import BackendError, UsageError
from sf_runner.basics.paths import RunPaths
from sf_runner.cli.reopened import ReopenedRun
from sf_runner.engine.launching import known_attempts
from sf_runner.linux.exit_record import read_record
from sf_runner.state.events import RunOpened
from sf_runner.state.fold import RunState
from sf_runner.store.journal import Journal

_ANSWER_S = 150.0
"""Within it a backend knows what became of its experiments, unless its cluster does not answer."""


def is_elsewhere(state: RunState, backend: str) -> bool:
    """Whether experiments were left with another backend than this one."""
    return bool(state.active) and state.opened is not None and state.opened.backend != backend


def settle_elsewhere(state: RunState, journal: Journal, paths: RunPaths) -> None:
    """Write down what became of them. UsageError in one line when one of them still lives there."""
    assert state.opened is not None
    name = state.opened.backend
    _check_host(state, paths, state.opened)
    run = ReopenedRun(paths, journal, state)
    backend = run.open_backend()
    try:
        run.take(backend.adopt(known_attempts(state, paths)))
        run.take(backend.poll(steady_s()))
        deadline = steady_s() + _ANSWER_S
        while state.active and not backend.certain():
            if steady_s() > deadline:
                raise BackendError(
                    f"whether experiments left with --runner={name} still run cannot be told now; try again later"
                )
            run.look(backend)
        run.flush()
    finally:
        backend.close(detach=True)
    if state.active:
        raise UsageError(
            f"{len(state.active)} experiment(s) of run '{paths.run_name}' still wait or run with --runner={name}, e.g. "
            f"'{next(iter(state.active))}'; wait for them, or end them with: "
            f"python -m sf_runner.cancel {paths.run_name} --train_dir={paths.train_dir}"
        )


def _check_host(state: RunState, paths: RunPaths, opened: RunOpened) -> None:
    """Processes of another machine cannot be looked at from here."""
    host = opened.host
    if not opened.local or host == socket.gethostname():
        return
    known = known_attempts(state, paths)
    unknown = [item for item in known if read_record(item.exit_record, item.attempt) is None]
    if unknown:
        raise UsageError(
            f"{len(unknown)} experiment(s) of run '{paths.run_name}' were left running on {host}, e.g. "
            f"'{unknown[0].job}'; end them there with: python -m sf_runner.cancel {paths.run_name}"
        )
