"""One process of the dummy sampler: `python -m sf_algo.speed.dummy_sampler.worker <descriptor of its settings>`."""

from __future__ import annotations

import os
import resource
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from sf_algo.buffers.shared import SharedBlock
from sf_algo.config.store import config_from_dict
from sf_algo.envs.factory import remove_own_leftovers
from sf_algo.envs.spec import ACTION_MASK, Env, ObsTarget
from sf_algo.errors import EnvCrashedError, SfAlgoError
from sf_algo.ipc.messages import MessageWriter
from sf_algo.own.additions import Additions, additions_at
from sf_algo.processes.child_setup import dying_with_parent, leave_stopping_to_parent, let_wakers_finish
from sf_algo.rollout.env_maker import EnvMaker
from sf_algo.rollout.episodes import mix_seed
from sf_algo.rollout.settings import read_all
from sf_algo.speed.dummy_sampler.settings import (
    COUNTERS,
    CPU_MS,
    EPISODES,
    FRAMES,
    NUM_COUNTERS,
    STOP,
    DummyWorkerSettings,
    counter_specs,
)

_DRAWN_ACTIONS = 1024
_MAX_CRASHES = 3


class DummyWorker:
    """Steps E environments in turn with actions drawn beforehand, so that nothing but environments takes
    time.
    """

    def __init__(self, settings: DummyWorkerSettings, additions: Additions) -> None:
        self._settings = settings
        config = config_from_dict(settings.config, additions.facts(settings.config))
        self._maker = EnvMaker(config, settings.worker_index, additions)
        block = SharedBlock(settings.counters_fd, counter_specs(settings.num_workers))
        self._stop = block.counters(STOP)
        start = settings.worker_index * NUM_COUNTERS
        self._counters = block.counters(COUNTERS)[start : start + NUM_COUNTERS]
        self._envs: list[Env] = []
        self._seen: list[ObsTarget] = []
        self._playing: list[NDArray[np.bool_]] = []
        self._crashes = 0

    def open(self) -> None:
        for e in range(self._settings.num_envs):
            env = self._make(e)
            self._envs.append(env)
            spec = env.spec
            self._seen.append(spec.targets({name: obs.zeros(spec.num_agents) for name, obs in spec.obs.items()}))
            self._playing.append(np.ones(spec.num_agents, np.bool_))
            env.reset(self._seen[e], seed=self._seed(e))

    def _make(self, e: int) -> Env:
        return self._maker.make(self._settings.worker_index * self._settings.num_envs + e)

    def _seed(self, e: int) -> int:
        return mix_seed(self._settings.seed, self._settings.worker_index, e, self._crashes)

    def run(self) -> None:
        """Steps until told to stop, or until this worker's share of frames is done."""
        spec = self._envs[0].spec
        rng = np.random.default_rng(mix_seed(self._settings.seed, self._settings.worker_index))
        drawn = spec.actions.sample(rng, _DRAWN_ACTIONS * spec.num_agents)
        actions = list(drawn.reshape(_DRAWN_ACTIONS, spec.num_agents, spec.actions.width))
        masked = ACTION_MASK in spec.obs
        frames_per_step = spec.frameskip * spec.num_agents
        limit = self._settings.max_frames or sys.maxsize
        counters, stop = self._counters, self._stop
        steps = 0
        while not stop[0] and counters[FRAMES] < limit:
            for e in range(len(self._envs)):
                steps += 1
                action = actions[steps % _DRAWN_ACTIONS]
                if masked:
                    action = spec.sample_actions(rng, self._seen[e])
                try:
                    result = self._envs[e].step(action, self._seen[e])
                    ended = result.terminated | result.truncated
                    if ended.any():
                        self._end(e, ended)
                except EnvCrashedError as error:
                    self._replace(e, error)
            counters[FRAMES] = steps * frames_per_step

    def _end(self, e: int, ended: NDArray[np.bool_]) -> None:
        """Agents of environment e ended; after the last one it is reset, unless it does that itself."""
        playing = self._playing[e]
        if self._envs[e].spec.autoreset:
            self._counters[EPISODES] += int(ended.sum())
            return
        playing &= ~ended
        if not playing.any():
            playing[:] = True
            self._counters[EPISODES] += 1
            self._envs[e].reset(self._seen[e])

    def _replace(self, e: int, error: EnvCrashedError) -> None:
        self._crashes += 1
        if self._crashes > _MAX_CRASHES:
            raise error
        self._envs[e].close()
        self._envs[e] = self._make(e)
        self._envs[e].reset(self._seen[e], seed=self._seed(e))

    def close(self) -> None:
        """Ends the environments; from then on the counter of processor time includes their processes."""
        for env in self._envs:
            with suppress(Exception):
                env.close()
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        self._counters[CPU_MS] = int(1e3 * sum(usage.ru_utime + usage.ru_stime for usage in used))


def main(argv: list[str] | None = None) -> int:
    """Body of the child process. Its only argument is the descriptor of a file with the settings as JSON."""
    words = sys.argv[1:] if argv is None else argv
    return _live(DummyWorkerSettings.from_json(read_all(int(words[0]))), None)


def run_forked(text: str, fds: Mapping[int, int], additions: Additions) -> int:
    """The same in a forked copy of the main process, which has the user's program already."""
    return _live(DummyWorkerSettings.from_json(text).renumbered(fds), additions)


def _live(settings: DummyWorkerSettings, additions: Additions | None) -> int:
    leave_stopping_to_parent()
    with dying_with_parent(settings.lifeline_fd, remove_own_leftovers):
        return _work(settings, additions)


def _work(settings: DummyWorkerSettings, additions: Additions | None) -> int:
    with suppress(OSError):
        os.nice(settings.niceness)
        if settings.cores:
            os.sched_setaffinity(0, settings.cores)
    let_wakers_finish()
    messages = MessageWriter(settings.message_fd)
    worker: DummyWorker | None = None
    try:
        worker = DummyWorker(settings, additions or additions_at(settings.app))
        worker.open()
        messages.send({"kind": "ready"})
        os.read(settings.go_fd, 1)
        worker.run()
    except BaseException as error:
        known = isinstance(error, SfAlgoError)
        messages.send(
            {
                "kind": "error",
                "message": str(error) if known else f"{type(error).__name__}: {error}",
                "traceback": "" if known else traceback.format_exc(),
                "exit_code": error.exit_code if isinstance(error, SfAlgoError) else 1,
            }
        )
        return 1
    finally:
        if worker is not None:
            worker.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
