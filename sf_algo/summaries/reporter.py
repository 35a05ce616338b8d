"""Everything a training tells, from one place: call it often, it writes what is due."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sf_algo.config.extras import WandbConfig
from sf_algo.config.run import RunConfig
from sf_algo.paths import ExperimentPaths
from sf_algo.summaries.episodes import EpisodeWindow
from sf_algo.summaries.points import PointSchedule
from sf_algo.summaries.progress import ProgressFile, write_results
from sf_algo.summaries.sinks import SummarySink, TensorboardSink, WandbSink
from sf_algo.summaries.status_line import Snapshot, Speedometer, status_line

log = logging.getLogger(__name__)

TABLE_INTERVAL_S = 600.0
"""Tables among the summaries come at most this often, and at the end."""
SHORT_WINDOW_S = 10.0
LONG_WINDOW_S = 60.0

MoreSummaries = Callable[[int, Mapping[str, float]], Mapping[str, float]]
Outcome = Literal["finished", "stopped", "failed"]
"""The limit was reached; a signal or the user ended it; something broke."""


@dataclass(frozen=True, kw_only=True)
class ReporterClocks:
    """The clocks, for tests to replace."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


class Reporter:
    """Averages of episodes, summaries, status lines, the progress file and the result file of one
    training."""

    def __init__(
        self,
        *,
        run: RunConfig,
        sinks: Sequence[SummarySink],
        windows: Sequence[EpisodeWindow],
        progress: ProgressFile,
        clocks: ReporterClocks | None = None,
        more_summaries: MoreSummaries | None = None,
        more_results: Callable[[int], Mapping[str, Any]] = lambda policy: {},
    ) -> None:
        """`windows` has one window per policy, filled from the checkpoint on resume. `more_summaries`: tags and numbers
        of the user's own for a policy with these averages; `more_results`: further parts of a policy's results."""
        self._more_summaries = more_summaries
        self._more_results = more_results
        self._run = run
        self._sinks = sinks
        self.windows = windows
        self._progress = progress
        self._clocks = clocks or ReporterClocks()
        self._short, self._long = Speedometer(SHORT_WINDOW_S), Speedometer(LONG_WINDOW_S)
        self._started = self._last_status = self._last_table = self._clocks.monotonic()
        self._points = PointSchedule(run, now=self._started)

    def episode(self, policy_id: int, *, reward: float, num_frames: int, stats: Mapping[str, float]) -> None:
        """A finished episode of one agent that followed `policy_id`."""
        self.windows[policy_id].add(reward=reward, num_frames=num_frames, stats=stats)

    @property
    def frames_between_points(self) -> float | None:
        """Environment frames after which the curves have another point; None where only seconds say."""
        return self._points.frames_between

    def status_due(self, *, env_steps: int, train_seconds: float) -> bool:
        """Whether `update` would write anything now: snapshots need not be made before."""
        now = self._clocks.monotonic()
        return self._status_line_due(now) or self._points.due(now, env_steps=env_steps, train_seconds=train_seconds)

    def _status_line_due(self, now: float) -> bool:
        return now - self._last_status >= self._run.status_interval

    def update(self, snapshot: Snapshot, *, phase: str = "train", force: bool = False) -> None:
        """Writes the status line, the progress file and the summaries as far as they are due, or all of
        them. With every point of the summaries, the progress file has the same numbers."""
        now = self._clocks.monotonic()
        env_steps, seconds = snapshot.env_steps, snapshot.train_seconds
        point = force or self._points.due(now, env_steps=env_steps, train_seconds=seconds)
        line = force or self._status_line_due(now)
        if line or point:
            self._short.update(now, snapshot.frames_for_speed)
            self._long.update(now, snapshot.frames_for_speed)
            self.announce(phase, snapshot)
        if line:
            self._last_status = now
            log.info("%s", self._status(snapshot))
        if point:
            self._points.wrote(now, env_steps=env_steps, train_seconds=seconds)
            self._write_summaries(snapshot)
        if force or now - self._last_table >= TABLE_INTERVAL_S:
            self._last_table = now
            self._write_tables(snapshot)

    def announce(self, phase: str, snapshot: Snapshot) -> None:
        """Replaces the progress file. The first call is where the measurement of speed begins."""
        if self._long.is_empty:
            now = self._clocks.monotonic()
            self._short.update(now, snapshot.frames_for_speed)
            self._long.update(now, snapshot.frames_for_speed)
            self._points.wrote(now, env_steps=snapshot.env_steps, train_seconds=snapshot.train_seconds)
        self._progress.write(
            phase=phase,
            step=snapshot.env_steps,
            total=self._run.env_steps_limit,
            fps=self._long.fps,
            metrics=self.metrics(),
            eta_s=self._eta_s(snapshot),
        )

    def metrics(self) -> dict[str, float]:
        """Averages over the newest episodes; with several policies, those of the best one by reward."""
        all_means = [window.means() for window in self.windows]
        return max(all_means, key=lambda means: means.get("reward", -math.inf), default={})

    def _status(self, snapshot: Snapshot) -> str:
        return status_line(
            snapshot,
            [window.means() for window in self.windows],
            fps=self._short.fps,
            limit=self._run.env_steps_limit,
            eta_s=self._eta_s(snapshot),
        )

    def _eta_s(self, snapshot: Snapshot) -> float | None:
        """Time until the first of the limits is reached (s); None without a limit or before the speed is
        known."""
        left = []
        if self._run.seconds_limit is not None:
            left.append(max(0.0, self._run.seconds_limit - snapshot.train_seconds))
        if self._run.env_steps_limit is not None and self._long.fps:
            left.append(max(0, self._run.env_steps_limit - snapshot.env_steps) / self._long.fps)
        return min(left, default=None)

    def _write_summaries(self, snapshot: Snapshot) -> None:
        shared = {f"stats/{name}": value for name, value in snapshot.stats.items()}
        shared |= {f"perf/{name}": value for name, value in snapshot.perf.items()}
        if self._long.fps is not None:
            shared["perf/fps"] = self._long.fps
        wall_time = self._clocks.wall()
        for policy_id, (policy, window) in enumerate(zip(snapshot.policies, self.windows, strict=True)):
            values = {f"train/{name}": value for name, value in policy.train.items()}
            values |= {f"policy_stats/avg_{name}": value for name, value in window.means().items()}
            extremes = window.extremes("reward")
            if extremes is not None:
                values["policy_stats/min_reward"], values["policy_stats/max_reward"] = extremes
            if self._more_summaries is not None:
                values |= self._more_summaries(policy_id, window.means())
            values["stats/total_episodes"] = window.total_episodes
            values["stats/policy_version"] = policy.policy_version
            values = {tag: value for tag, value in (values | shared).items() if math.isfinite(value)}
            for sink in self._sinks:
                sink.write(policy_id, values, env_steps=policy.env_steps, wall_time=wall_time)

    def _write_tables(self, snapshot: Snapshot) -> None:
        for policy_id, (policy, window) in enumerate(zip(snapshot.policies, self.windows, strict=True)):
            table = window.table()
            for sink in self._sinks if table is not None else ():
                sink.write_table(policy_id, table or {}, env_steps=policy.env_steps, wall_time=self._clocks.wall())

    def finish(
        self,
        snapshot: Snapshot,
        paths: ExperimentPaths,
        *,
        outcome: Outcome,
        reason: str,
        best: Sequence[float | None],
    ) -> None:
        """Writes the last summaries, ``results.json`` and the last progress. `best` holds the best value of
        ``--save_best_metric`` of every policy.

        Raises:
            StorageError: the results cannot be written.
        """
        self.update(snapshot, phase=outcome, force=True)
        wall_seconds = self._clocks.monotonic() - self._started
        if not self._run.benchmark:
            results = self._results(snapshot, best)
            results |= {"outcome": outcome, "reason": reason, "wall_seconds": wall_seconds}
            write_results(paths.results, results)

    def _results(self, snapshot: Snapshot, best: Sequence[float | None]) -> dict[str, Any]:
        policies = [
            {
                "policy": policy_id,
                "env_steps": policy.env_steps,
                "policy_version": policy.policy_version,
                "episodes": window.total_episodes,
                "metrics": window.means(),
                f"best_{self._run.save_best_metric}": best[policy_id],
                **({} if (table := window.table()) is None else {"tables": [table]}),
                **self._more_results(policy_id),
            }
            for policy_id, (policy, window) in enumerate(zip(snapshot.policies, self.windows, strict=True))
        ]
        return {
            "experiment": self._run.experiment,
            "env": self._run.env,
            "seed": self._run.seed,
            "env_steps": snapshot.env_steps,
            "train_seconds": snapshot.train_seconds,
            "fps": snapshot.env_steps / snapshot.train_seconds if snapshot.train_seconds > 0 else None,
            "metrics": self.metrics(),
            "policies": policies,
        }

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()


def make_sinks(
    *,
    run: RunConfig,
    wandb: WandbConfig,
    paths: ExperimentPaths,
    num_policies: int,
    flags: Mapping[str, Any],
    resume_env_steps: Sequence[int] | None,
) -> list[SummarySink]:
    """The sinks that the flags ask for; none in a benchmark.

    Raises:
        StorageError: tensorboard's files cannot be made.
        SummaryError: Weights & Biases cannot start.
    """
    if run.benchmark:
        return []
    tensorboard = TensorboardSink(
        paths, num_policies=num_policies, wall_time=time.time(), resume_env_steps=resume_env_steps
    )
    sinks: list[SummarySink] = [tensorboard]
    if wandb.with_wandb:
        sinks.append(WandbSink(wandb, run, paths, num_policies=num_policies, flags=flags))
    return sinks
