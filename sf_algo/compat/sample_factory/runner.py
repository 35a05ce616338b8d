"""A training that a project starts by hand, and what follows it: `make_runner` and observers.

Left out: signals, components and processes of the other program, which its observers could also reach.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace

from sf_algo.compat.sample_factory.algo.utils.misc import ExperimentStatus
from sf_algo.compat.sample_factory.cfg.arguments import ProjectConfig
from sf_algo.own.observers import Episode, Observer, Training


class AlgoObserver:
    """Base of observers; none of its methods does anything."""

    def on_init(self, runner: Runner) -> None:
        """Before the training begins."""

    def on_connect_components(self, runner: Runner) -> None:
        """Called after `on_init`; there is nothing to connect here."""

    def on_start(self, runner: Runner) -> None:
        """The training begins or goes on."""

    def on_training_step(self, runner: Runner, training_iteration_since_resume: int) -> None:
        """A policy has been trained on a batch."""

    def extra_summaries(self, runner: Runner, policy_id: int, env_steps: int, summary_writer: SummaryWriter) -> None:
        """Summaries are written: `summary_writer.add_scalar(tag, value, env_steps)` adds to them."""

    def on_stop(self, runner: Runner) -> None:
        """The training ends."""


class SummaryWriter:
    """Collects the numbers that observers add."""

    def __init__(self) -> None:
        self.added: dict[str, float] = {}

    def add_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        self.added[tag] = float(scalar_value)


class Runner:
    """One training. `policy_avg_stats`: statistic -> for each policy its values in the newest episodes;
    `env_steps`: policy -> frames of the whole training so far."""

    def __init__(self, cfg: ProjectConfig) -> None:
        self.cfg = cfg
        self.observers: list[AlgoObserver] = []
        self.policy_avg_stats: dict[str, list[deque[float]]] = {}
        self.env_steps: dict[int, int] = {}
        self._handlers: list[Callable[..., None]] = []

    def register_observer(self, observer: AlgoObserver) -> None:
        """Have it follow the training."""
        self.observers.append(observer)

    def register_episodic_stats_handler(self, handler: Callable[..., None]) -> None:
        """`handler(runner, {"episodic": statistics}, policy_id)` is called for every episode."""
        self._handlers.append(handler)

    def init(self) -> int:
        """Nothing is started yet; always a success."""
        return ExperimentStatus.SUCCESS

    def run(self) -> int:
        """Trains; returns the exit code."""
        app = replace(self.cfg.app, observers=(lambda: _Bridge(self, self._handlers),))
        return app.main(["train", *self.cfg.words()])

    def note_episode(self, policy: int, episode: Episode) -> None:
        """Keep an episode's statistics for `policy_avg_stats`."""
        numbers = {"reward": episode.reward, "len": float(episode.num_frames), **episode.stats}
        for name, value in numbers.items():
            kept = self.policy_avg_stats.setdefault(
                name, [deque(maxlen=self.cfg.stats_avg) for _ in range(self.cfg.num_policies)]
            )
            kept[policy].append(value)


def make_runner(cfg: ProjectConfig) -> tuple[ProjectConfig, Runner]:
    """A training that can be observed: `init()`, then `run()`."""
    return cfg, Runner(cfg)


class _Bridge(Observer):
    """All of a runner's observers as one of the trainer's."""

    def __init__(self, runner: Runner, handlers: list[Callable[..., None]]) -> None:
        self._runner = runner
        self._handlers = handlers
        self._training: Training | None = None
        self._iterations = 0

    def on_start(self, training: Training) -> None:
        self._training = training
        for call in ("on_init", "on_connect_components", "on_start"):
            for observer in self._runner.observers:
                getattr(observer, call)(self._runner)

    def on_episode(self, policy: int, episode: Episode) -> None:
        self._runner.note_episode(policy, episode)
        for handle in self._handlers:
            stats = {"reward": episode.reward, "len": episode.num_frames, "episode_extra_stats": dict(episode.stats)}
            handle(self._runner, {"episodic": stats}, policy)

    def on_iteration(self, policy: int, stats: Mapping[str, float]) -> None:
        self._iterations += 1
        self._count_steps()
        for observer in self._runner.observers:
            observer.on_training_step(self._runner, self._iterations)

    def summaries(self, policy: int, averages: Mapping[str, float]) -> Mapping[str, float]:
        writer = SummaryWriter()
        steps = self._count_steps()
        for observer in self._runner.observers:
            observer.extra_summaries(self._runner, policy, steps, writer)
        return writer.added

    def on_end(self) -> None:
        for observer in self._runner.observers:
            observer.on_stop(self._runner)

    def _count_steps(self) -> int:
        steps = self._training.env_steps if self._training is not None else 0
        self._runner.env_steps = dict.fromkeys(range(self._runner.cfg.num_policies), steps)
        return steps
