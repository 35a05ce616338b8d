"""The rollout worker process: a copy of the main process made at its start, where that can be, else
`python -m sf_algo.rollout.worker <descriptor of its settings>`.

It steps its splits in turn: while one waits for actions the other steps. It imports no torch, speaks to the
others through shared memory and doorbells, and ends with the process that started it.
"""

from __future__ import annotations

import base64
import os
import pickle
import random
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from sf_algo.buffers.layout import make_layout
from sf_algo.buffers.shared import SharedBlock, slot_views, trajectory_specs
from sf_algo.config.store import config_from_dict
from sf_algo.envs.factory import remove_own_leftovers
from sf_algo.envs.spec import EnvSpec
from sf_algo.errors import SfAlgoError
from sf_algo.ipc.control import ControlBlock, WorkerPhase
from sf_algo.ipc.doorbell import Doorbell
from sf_algo.ipc.messages import MessageWriter
from sf_algo.ipc.training_board import TrainingBoard
from sf_algo.own.additions import NOTHING_ADDED, Additions, additions_at
from sf_algo.processes.child_setup import dying_with_parent, let_wakers_finish, name_process, prepare_process
from sf_algo.rollout.env_maker import EnvMaker
from sf_algo.rollout.env_set import EnvFault, EnvSet
from sf_algo.rollout.episodes import mix_seed
from sf_algo.rollout.policy_draw import PolicyDraw
from sf_algo.rollout.settings import WorkerSettings, read_all
from sf_algo.rollout.split import EnvSplit
from sf_algo.rollout.split_state import WarmUp

PROCESS_NAME = "sf_worker"
"""In `top` and `ps -o comm`; its command line may be the main process's."""
MAX_WARM_UP_STEPS = 256
_LONGEST_SLEEP_S = 1.0
"""Whoever waits for actions or slots is not watched: should a wake-up ever be lost, it looks for itself."""


class StopOrdered(BaseException):
    """Unwinds the start of environments when the run is to end."""


class StatusWatch:
    """Keeps the worker's sign of life up to date, and looks for the order to stop before slow things."""

    def __init__(self, control: ControlBlock, worker: int) -> None:
        status = control.status(worker)
        self._control = control
        self._status = status
        self.closing = False
        self._worker = status.worker
        self._since = status.since
        self._env_indices = status.env_indices
        self._phases = status.phases

    def resetting(self, env_index: int) -> None:
        if self._control.stopping and not self.closing:
            raise StopOrdered
        self._status.set_phase(WorkerPhase.RESETTING, env_index)

    def stepping(self, env_index: int) -> None:
        self._env_indices[self._worker] = env_index
        self._since[self._worker] = time.monotonic_ns()
        self._phases[self._worker] = WorkerPhase.STEPPING


class SplitRunner:
    """Carries one split from request to request."""

    def __init__(self, split: EnvSplit, control: ControlBlock, worker: int, index: int) -> None:
        self._split = split
        self._ring = control.ring(worker, index)
        self._mailbox = control.mailbox(worker, index)
        self._needs_slot = False
        self._stepping_ns = 0

    def take_stepping_ns(self) -> int:
        """Time spent stepping the environments since the last call."""
        spent, self._stepping_ns = self._stepping_ns, 0
        return spent

    def open(self, warm_up: WarmUp) -> None:
        while self._mailbox.pending:  # a predecessor's request; inference answers it within moments
            time.sleep(0.001)
        self._split.open(self._ring.fill_position, warm_up)
        self._mailbox.request(0)

    def advance(self) -> bool:
        """Does what can be done without waiting. True when actions were asked for."""
        if self._needs_slot:
            if not self._ring.has_free:
                return False
            self._begin_slot()
            return True
        if self._mailbox.pending:
            return False
        began = time.monotonic_ns()
        full = self._split.step()
        self._stepping_ns += time.monotonic_ns() - began
        if not full:
            self._mailbox.request(self._split.row)
            return True
        self._ring.publish()
        self._needs_slot = True
        if self._ring.has_free:
            self._begin_slot()
        return True

    def _begin_slot(self) -> None:
        self._split.begin_slot(self._ring.fill_position)
        self._needs_slot = False
        self._mailbox.request(0)


class RolloutWorker:
    """All splits of one worker and its ways to the outside."""

    def __init__(self, settings: WorkerSettings, additions: Additions | None) -> None:
        self._settings = settings
        self._additions = additions
        self._messages = MessageWriter(settings.message_fd)
        self._inbox = Doorbell(*settings.inbox_fds)
        self._hub = Doorbell(*settings.hub_fds)
        self._control = ControlBlock.attach(
            settings.control_fd,
            num_workers=settings.num_workers,
            num_splits=settings.num_splits,
            num_slots=settings.slots_per_split,
        )
        self._status = self._control.status(settings.worker_index)
        self._watch = StatusWatch(self._control, settings.worker_index)
        self._splits: list[EnvSplit] = []

    def run(self) -> int:
        """Works until told to stop. Returns the exit code; what went wrong has been reported by then."""
        try:
            runners = self._open()
            self._messages.send({"kind": "ready"})
            self._loop(runners)
        except StopOrdered:
            return 0
        except BaseException as error:
            self._report(error)
            return 1
        finally:
            self._close()
        return 0

    def _open(self) -> list[SplitRunner]:
        settings = self._settings
        self._status.set_phase(WorkerPhase.RESETTING)
        additions = self._additions or additions_at(settings.app)
        config = config_from_dict(settings.config, additions.facts(settings.config))
        spec: EnvSpec = pickle.loads(base64.b64decode(settings.pickled_spec))
        board = TrainingBoard.attach(
            settings.training_fd,
            num_acting=settings.num_acting,
            shaping=list(spec.shaping),
            num_roles=spec.num_roles,
        )
        maker = EnvMaker(config, settings.worker_index, additions).with_training(board.info)
        layout = make_layout(
            obs=spec.obs,
            actions=spec.actions,
            rollout=settings.rollout,
            rnn_state_width=settings.rnn_state_size,
            step_fields=spec.step_fields,
        )
        columns = settings.envs_per_split * spec.num_agents
        specs = trajectory_specs(layout, slots=settings.num_splits * settings.slots_per_split, trajectories=columns)
        slots = slot_views(SharedBlock(settings.trajectories_fd, specs).arrays)
        policies = PolicyDraw(
            num_policies=settings.num_policies,
            mix=settings.mix_policies,
            seed=settings.seed,
            roles=spec.roles,
            roster=board.roster,
        )
        warm_up = self._warm_up()
        runners = []
        for index in range(settings.num_splits):
            envs = EnvSet(
                make_env=maker.make,
                env_indices=settings.env_indices(index),
                spec=spec,
                seed=settings.seed,
                seed_every_episode=False,
                watch=self._watch,
                on_fault=self._report_fault,
            )
            first = index * settings.slots_per_split
            own = slots[first : first + settings.slots_per_split]
            self._splits.append(EnvSplit(envs, own, policies=policies, shaping=board.shaping))
            runners.append(SplitRunner(self._splits[-1], self._control, settings.worker_index, index))
        for runner in runners:
            runner.open(warm_up)
            self._hub.ring()
        return runners

    def _warm_up(self) -> WarmUp:
        settings = self._settings
        deadline = time.monotonic() + settings.warm_up_s
        return WarmUp(
            rng=np.random.default_rng(mix_seed(settings.seed, settings.worker_index)),
            max_steps=MAX_WARM_UP_STEPS if settings.warm_up_s > 0 else 0,
            each=settings.warm_up_each,
            expired=lambda: self._control.stopping or time.monotonic() > deadline,
        )

    def _loop(self, runners: list[SplitRunner]) -> None:
        clock = time.monotonic_ns
        began = clock()
        while not self._control.stopping:
            advanced = False
            for runner, split in zip(runners, self._splits, strict=True):
                if runner.advance():
                    advanced = True
                    self._hub.ring()
                if split.finished:
                    self._report_episodes(split)
            waiting_ns = 0
            if not advanced:
                self._status.set_phase(WorkerPhase.WAITING)
                paused = clock()
                self._inbox.wait(_LONGEST_SLEEP_S)
                waiting_ns = clock() - paused
            now = clock()
            stepping_ns = sum(runner.take_stepping_ns() for runner in runners)
            self._status.add_times(stepping_ns=stepping_ns, waiting_ns=waiting_ns, loop_ns=now - began)
            began = now

    def _report_episodes(self, split: EnvSplit) -> None:
        message = {"kind": "episodes", "items": [report.to_message() for report in split.finished]}
        split.finished.clear()
        self._messages.send(message)

    def _report_fault(self, fault: EnvFault) -> None:
        self._messages.send({"kind": "fault", "fault": asdict(fault)})

    def _report(self, error: BaseException) -> None:
        known = isinstance(error, SfAlgoError)
        self._messages.send(
            {
                "kind": "error",
                "message": str(error) if known else f"{type(error).__name__}: {error}",
                "traceback": "" if known else traceback.format_exc(),
                "env_index": self._status.env_index,
                "exit_code": error.exit_code if isinstance(error, SfAlgoError) else 1,
            }
        )

    def _close(self) -> None:
        self._watch.closing = True
        for split in self._splits:
            split.close()
        self._status.set_phase(WorkerPhase.DONE)


def main(argv: list[str] | None = None) -> int:
    """Body of the child process. Its only argument is the descriptor of a file with the settings as JSON."""
    words = sys.argv[1:] if argv is None else argv
    return work(WorkerSettings.from_json(read_all(int(words[0]))))


def run_forked(text: str, fds: Mapping[int, int], additions: Additions = NOTHING_ADDED) -> int:
    """The same in a forked copy of the main process, which has the user's program already."""
    return work(WorkerSettings.from_json(text).renumbered(fds), additions)


def work(settings: WorkerSettings, additions: Additions | None = None) -> int:
    """Everything that this process does from now on. Returns the exit code. Without `additions`, the user's program is
    found by its import path."""
    name_process(PROCESS_NAME)
    with dying_with_parent(settings.lifeline_fd, remove_own_leftovers):
        prepare_process(
            inherited_fds=settings.inherited_fds(),
            trace_fd=settings.trace_fd,
            niceness=settings.niceness,
            cores=settings.cores,
        )
        let_wakers_finish()
        seed_global_generators(mix_seed(settings.seed, settings.worker_index, os.getpid()))
        return RolloutWorker(settings, additions).run()


def seed_global_generators(seed: int) -> None:
    """Processes that were forked from one begin with the same state of these, and so would their environments."""
    random.seed(seed)
    np.random.seed(seed)


if __name__ == "__main__":
    sys.exit(main())
