"""Runs the dummy sampler: starts its workers, watches them, counts frames, ends everything."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from sf_algo.buffers.shared import SharedBlock
from sf_algo.config import Config
from sf_algo.config.store import config_to_dict
from sf_algo.errors import WorkerError
from sf_algo.ipc.messages import Message, MessageReader
from sf_algo.processes.child_setup import single_thread_environment
from sf_algo.processes.copies import ForkedCopy
from sf_algo.rollout.cores import worker_cores
from sf_algo.speed.dummy_sampler.settings import (
    COUNTERS,
    CPU_MS,
    EPISODES,
    FRAMES,
    NUM_COUNTERS,
    STOP,
    DummyPlan,
    DummyWorkerSettings,
    counter_specs,
)

_STOP_GRACE_S = 10.0
_POLL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What has been done so far; `seconds` counts from when all workers were ready."""

    seconds: float
    frames: tuple[int, ...]
    """Of each worker."""
    episodes: int
    cpu_s: float
    """Processor time of workers and engines, start included; 0 until they have ended."""

    @property
    def total_frames(self) -> int:
        return sum(self.frames)


class _Worker:
    """One process and the pipe it speaks through."""

    def __init__(self, settings: DummyWorkerSettings, forked_copy: ForkedCopy | None) -> None:
        """`forked_copy` becomes the process where there is one."""
        read_fd, write_fd = os.pipe()
        self.messages = MessageReader(read_fd)
        self.index = settings.worker_index
        told = replace(settings, message_fd=write_fd)
        self.process: subprocess.Popen[bytes] | ForkedCopy
        try:
            if forked_copy is not None:
                forked_copy.become(told)
                self.process = forked_copy
            else:
                self.process = _spawn(told)
        finally:
            os.close(write_fd)

    def fault(self) -> str | None:
        """How the process died, if it did so without a word."""
        code = self.process.poll()
        if code is None or code == 0:
            return None
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"sampling worker {self.index} {how}"

    def kill(self) -> None:
        if self.process.poll() is None or not Path(f"/proc/{self.process.pid}").exists():  # else another one's number
            with suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _spawn(settings: DummyWorkerSettings) -> subprocess.Popen[bytes]:
    settings_read, settings_write = os.pipe()
    path = os.pathsep.join(entry or str(os.getcwd()) for entry in sys.path)  # noqa: PTH109
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "sf_algo.speed.dummy_sampler.worker", str(settings_read)],
            pass_fds=(settings_read, *settings.inherited_fds()),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, **single_thread_environment(), "PYTHONPATH": path},
        )
        with os.fdopen(settings_write, "w") as file:
            file.write(settings.to_json())
    finally:
        os.close(settings_read)
    return process


class DummySampler:
    """Use as a context: entering starts the workers, leaving ends them and whatever they started."""

    def __init__(
        self,
        config: Config,
        plan: DummyPlan,
        *,
        seed: int,
        clean_up: Callable[[], None],
        forked_copies: Sequence[ForkedCopy] = (),
    ) -> None:
        """`clean_up` is called after workers had to be killed. `forked_copies` become the workers where there are
        any."""
        self._forked_copies = forked_copies
        self._config = config
        self._plan = plan
        self._seed = seed
        self._clean_up = clean_up
        self._workers: list[_Worker] = []
        self._block = SharedBlock.create("sf_algo_dummy_sampler", counter_specs(plan.num_workers))
        self._stop = self._block.counters(STOP)
        self._counters = self._block.counters(COUNTERS)
        self._go_read, self._go_write = os.pipe()
        self._lifeline_read, self._lifeline_write = os.pipe()
        self._began: float | None = None
        self._ended: float | None = None

    def __enter__(self) -> DummySampler:
        try:
            for index in range(self._plan.num_workers):
                self._workers.append(self._start(index))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, index: int) -> _Worker:
        sampling = self._config.sampling
        settings = DummyWorkerSettings(
            worker_index=index,
            num_workers=self._plan.num_workers,
            num_envs=self._plan.envs_per_worker,
            seed=self._seed,
            max_frames=self._plan.max_frames_per_worker,
            config=config_to_dict(self._config),
            app=self._config.app,
            cores=worker_cores(index, self._plan.num_workers) if sampling.set_workers_cpu_affinity else (),
            niceness=sampling.default_niceness,
            counters_fd=self._block.fd,
            message_fd=-1,
            go_fd=self._go_read,
            lifeline_fd=self._lifeline_read,
        )
        return _Worker(settings, self._forked_copies[index] if self._forked_copies else None)

    def wait_until_ready(self, keep_waiting: Callable[[], bool]) -> bool:
        """Waits until every worker has its environments; False when `keep_waiting` said no before that.

        Raises WorkerError for a worker that failed or took longer than --reset_timeout_seconds.
        """
        limit_s = self._config.sampling.reset_timeout_seconds
        deadline = time.monotonic() + limit_s
        waiting = {worker.index for worker in self._workers}
        while waiting and keep_waiting():
            for index, message in self._listen():
                if message["kind"] == "ready":
                    waiting.discard(index)
            if time.monotonic() > deadline:
                raise WorkerError(
                    f"sampling workers {sorted(waiting)} did not start their environments within "
                    f"{limit_s:g} s (--reset_timeout_seconds)"
                )
        return not waiting

    def begin(self) -> None:
        """Lets the workers go."""
        os.close(self._go_write)
        self._go_write = -1
        self._began = time.monotonic()

    def watch(self) -> Measured:
        """Waits a moment and says how far the workers are. Raises WorkerError for one that failed."""
        self._listen()
        return self.measure()

    @property
    def finished(self) -> bool:
        """Whether every worker has done its share and ended."""
        return all(worker.process.poll() == 0 for worker in self._workers)

    def measure(self) -> Measured:
        rows = [self._counters[i : i + NUM_COUNTERS] for i in range(0, len(self._counters), NUM_COUNTERS)]
        until = self._ended if self._ended is not None else time.monotonic()
        return Measured(
            seconds=until - self._began if self._began is not None else 0.0,
            frames=tuple(row[FRAMES] for row in rows),
            episodes=sum(row[EPISODES] for row in rows),
            cpu_s=sum(row[CPU_MS] for row in rows) / 1e3,
        )

    def _listen(self) -> list[tuple[int, Message]]:
        """Messages of the next moment. Raises WorkerError for a worker that reported an error or died."""
        readers = {w.messages.fd: w for w in self._workers if not w.messages.closed}
        if readers:
            select.select(list(readers), [], [], _POLL_S)
        else:
            time.sleep(_POLL_S)
        heard = [(w.index, message) for w in self._workers for message in w.messages.read()]
        for index, message in heard:
            if message["kind"] == "error":
                sys.stderr.write(message["traceback"])
                error = WorkerError(f"sampling worker {index}: {message['message']}")
                error.exit_code = message["exit_code"]
                raise error
        faults = [fault for worker in self._workers if (fault := worker.fault())]
        if faults:
            raise WorkerError(faults[0])
        return heard

    def stop(self) -> None:
        """Asks the workers to end and waits for them, so that the counters are final."""
        self._ended = self._ended or time.monotonic()
        self._stop[0] = 1
        deadline = time.monotonic() + _STOP_GRACE_S
        for worker in self._workers:
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """Ends what is left, by force after a grace period; may be called twice."""
        self._stop[0] = 1
        if self._go_write >= 0:
            os.close(self._go_write)
            self._go_write = -1
        self.stop()
        stubborn = [worker for worker in self._workers if worker.process.poll() is None]
        crashed = stubborn or [worker for worker in self._workers if worker.fault()]
        for worker in self._workers:
            worker.kill()
            worker.messages.close()
        if crashed:
            self._clean_up()
        self._workers.clear()
        for name in ("_go_read", "_lifeline_read", "_lifeline_write"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)
        self._block.close_fd()
