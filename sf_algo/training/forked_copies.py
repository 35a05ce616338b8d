"""Forks the child processes of a training from the main process while that is still small.

Workers are forked before torch is imported, so this module must not import it at the top.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from sf_algo.config import Config
from sf_algo.own.additions import Additions, is_importable
from sf_algo.processes.copies import Forked, ForkedCopy
from sf_algo.processes.fork_server import ForkServer


@dataclass(frozen=True, kw_only=True)
class ForkedCopies:
    """The copies that were made. Where one is missing, a new process is started in its place."""

    workers: Sequence[ForkedCopy] = ()
    learners: Sequence[ForkedCopy] = ()
    server: ForkServer | None = None
    """Forks the workers that replace others."""

    def let_go(self) -> None:
        """End the copies that no training has used, and the server."""
        if self.server is not None:
            self.server.close()
        for forked_copy in (*self.workers, *self.learners):
            forked_copy.let_go()


def copies_for_workers(config: Config, additions: Additions) -> ForkedCopies:
    """One copy for each rollout worker, and a server for those that replace them. Call it before torch is imported.
    Empty where copies cannot be made."""
    sampling = config.sampling
    if not ForkedCopy.possible() or sampling.serial_mode:
        return ForkedCopies()
    # Numerical libraries are told to use one thread before they are loaded: too late for a copy. A thread of the user's
    # module may hold a lock, which would stay locked in a copy. A new process finds what has an import path.
    if is_importable(config.run.env, additions) and (sampling.force_envs_single_thread or threading.active_count() > 1):
        return ForkedCopies()
    from sf_algo.envs.factory import import_family, remove_leftovers
    from sf_algo.rollout.worker import run_forked

    import_family(config.run.env, additions)
    body = partial(run_forked, additions=additions)
    made: list[ForkedCopy] = []
    for _ in range(sampling.num_workers):
        made.append(ForkedCopy(body, made))
    return ForkedCopies(workers=made, server=ForkServer(body, made, partial(remove_leftovers, config.run.env)))


def with_learners(copies: ForkedCopies, config: Config, additions: Additions) -> ForkedCopies:
    """The same copies, with one for every learner process where the training has such processes. Imports torch, but
    leaves CUDA asleep: what has used it once can fork no process that does."""
    sampling = config.sampling
    if not (ForkedCopy.possible() and sampling.async_rl):
        return copies
    from sf_algo.learning.learner_process import run_forked

    sockets: list[Forked] = [*copies.workers, *([copies.server] if copies.server else [])]
    learners: list[ForkedCopy] = []
    for _ in range(sampling.num_policies * sampling.num_learners):
        learners.append(ForkedCopy(partial(run_forked, additions=additions), [*sockets, *learners]))
    return replace(copies, learners=learners)
