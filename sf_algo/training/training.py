"""The loop of a training: work, tell, save, until there is a reason to stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from sf_algo.learning.learners import Learners
from sf_algo.own.observers import Episode
from sf_algo.processes.stopping import StopCondition, StopReason
from sf_algo.rollout.episodes import EpisodeReport
from sf_algo.sampling.samplers import Sampler
from sf_algo.summaries.reporter import Reporter
from sf_algo.summaries.status_line import Snapshot
from sf_algo.timing import Profiler, Stage
from sf_algo.training.ledger import Ledger
from sf_algo.training.observing import Observers
from sf_algo.training.rules import Rules
from sf_algo.training.saving import Saver

log = logging.getLogger(__name__)

_TICK_S = 0.25
_SHORTEST_TICK_S = 0.01


class StageMeter:
    """Which stage limits the speed: the one that was busy for the largest share of the time."""

    def __init__(self) -> None:
        self._before: Mapping[str, float] = {}
        self._at = time.monotonic()

    def shares(self, seconds: Mapping[str, float]) -> dict[str, float]:
        """Share of the time since the last call (0 to 1) that each stage has been busy."""
        now = time.monotonic()
        span = max(1e-6, now - self._at)
        shares = {name: (total - self._before.get(name, 0.0)) / span for name, total in seconds.items()}
        self._before, self._at = dict(seconds), now
        return shares


def bottleneck(shares: Mapping[str, float]) -> str:
    """For example `learner 93 %`."""
    name = max(shares, key=lambda stage: shares[stage])
    return f"{name} {min(1.0, shares[name]):.0%}"


class TrainingLoop:
    """Drives a sampler. `run` returns why it ended; what goes wrong comes through as an exception."""

    def __init__(
        self,
        *,
        stop: StopCondition,
        ledger: Ledger,
        reporter: Reporter,
        frameskip: int,
        observers: Observers,
        rules: Rules,
        rules_in_turn: bool,
        began: float,
        profile: bool = False,
        work: Callable[[], Mapping[Stage, float]] = dict,
    ) -> None:
        """`rules_in_turn`: the sampler asks the rules, between two iterations. `began`: when the command did
        (monotonic clock). `profile`: measure where the time goes once the first iteration has been trained.
        `work` says then what a frame costs at least (see `Profiler`)."""
        self._work = work
        self._stop = stop
        self._ledger = ledger
        self._reporter = reporter
        self._frameskip = frameskip
        self._observers = observers
        self._rules = rules
        self._rules_in_turn = rules_in_turn
        self._began = began
        self._wants_profile = profile
        self._profiler: Profiler | None = None
        self._meter = StageMeter()
        self._shares: Mapping[str, float] = {}

    def on_episodes(self, episodes: list[EpisodeReport]) -> None:
        for episode in episodes:
            if episode.match is not None:
                self._rules.note_match(episode.match)
            if episode.policy_id not in self._rules.control.trained:
                continue  # of an opponent
            self._reporter.episode(
                episode.policy_id,
                reward=episode.reward,
                num_frames=episode.num_steps * self._frameskip,
                stats=episode.stats,
            )
            if self._observers:
                self._observers.note_episode(episode.policy_id, self._told(episode))

    def _told(self, episode: EpisodeReport) -> Episode:
        return Episode(
            reward=episode.reward,
            num_frames=episode.num_steps * self._frameskip,
            stats=episode.stats,
            extras=episode.extras,
        )

    def run(self, sampler: Sampler, learners: Learners, saver: Saver | None) -> StopReason:
        """`saver` is None where nothing is saved."""
        if self._wants_profile:
            self._profiler = Profiler([sampler, learners], lambda: self._ledger.trained_frames, work=self._work())
        self._reporter.announce("train", self.snapshot())
        tick_s = _TICK_S
        while (reason := self._stop.reason) is None:
            frames = self._ledger.collected_frames
            sampler.work(min(time.monotonic() + tick_s, self._stop.deadline))
            tick_s = self._next_tick_s(tick_s, self._ledger.collected_frames - frames)
            if not self._ledger.clock_runs and sampler.has_begun:
                self._start_clocks()
            self._observers.tell()
            if not self._rules_in_turn:
                self._rules.step()
            if self._reporter.status_due(
                env_steps=self._ledger.trained_frames, train_seconds=self._ledger.train_seconds
            ):
                seconds = {**sampler.stage_seconds(), "learner": learners.training_s}
                self._shares = self._meter.shares(seconds)
                self._reporter.update(self.snapshot())
            if self._profiler is not None and not self._profiler.has_begun and self._ledger.training_s > 0:
                self._profiler.begin()
            self._ledger.check_learning()
            if saver is not None:
                saver.save_due()
        if self._profiler is not None:
            log.info("%s", self._profiler.report())
        return reason

    def _next_tick_s(self, tick_s: float, frames: int) -> float:
        """A tick in which no more frames pass than lie between two points of the curves: a small task takes three
        seconds to learn. `frames`: in the last tick, of `tick_s`."""
        between = self._reporter.frames_between_points
        if between is None or not frames:
            return _TICK_S
        return min(_TICK_S, max(_SHORTEST_TICK_S, tick_s * between / frames))

    def _start_clocks(self) -> None:
        """Time limits count from the first frame: what starts slowly is not trained less for it."""
        self._stop.start_clock()
        self._ledger.start_clock()
        start_up_s = time.monotonic() - self._began
        log.info("first frame %.1f s after the start of the command; time counts from here", start_up_s)

    def snapshot(self) -> Snapshot:
        shares = self._shares
        perf = {f"busy_{name}": share for name, share in shares.items()}
        limiting = bottleneck(shares) if shares else ""
        return self._ledger.snapshot(bottleneck=limiting, stats={}, perf=perf, rating=self._rules.rating)
