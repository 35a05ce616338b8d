"""The line that says every few seconds how a training fares."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sf_algo.summaries.episodes import LENGTH, REWARD, TRUE_REWARD


@dataclass(frozen=True, kw_only=True)
class PolicySnapshot:
    """One policy at one moment."""

    env_steps: int
    """Environment frames it has been trained on since the training began, before resumes included."""
    policy_version: int
    rating: float | None = None
    """From its matches, where there are any."""
    train: Mapping[str, float] = field(default_factory=dict)
    """Figures of the newest training iteration, written as ``train/<name>``."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The whole training at one moment."""

    policies: Sequence[PolicySnapshot]
    train_seconds: float
    """Time spent training, before resumes included."""
    collected_frames: int | None = None
    """Environment frames that have reached the policies' batches, which is where speed shows at once. None: as many as
    they have been trained on."""
    lag_mean: float | None = None
    """Mean age of the samples last trained on, in policy versions."""
    lag_max: float | None = None
    bottleneck: str = ""
    """Which stage limits the speed, in a few words."""
    skipped_updates: int = 0
    """Updates since the start that changed nothing because their gradient was not finite."""
    late_trajectories: int = 0
    """Trajectories since the start that were dropped, because their policy was late."""
    damaged_trajectories: int = 0
    """Trajectories since the start that were left out because a number in them was not finite."""
    stats: Mapping[str, float] = field(default_factory=dict)
    """Written as ``stats/<name>``."""
    perf: Mapping[str, float] = field(default_factory=dict)
    """Written as ``perf/<name>``."""

    @property
    def env_steps(self) -> int:
        """What the limit counts, and what a resumed training begins with."""
        return sum(policy.env_steps for policy in self.policies)

    @property
    def frames_for_speed(self) -> int:
        return self.env_steps if self.collected_frames is None else self.collected_frames


class Speedometer:
    """Frames per second over the last seconds."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._points: deque[tuple[float, int]] = deque()

    def update(self, now: float, env_steps: int) -> None:
        self._points.append((now, env_steps))
        while len(self._points) > 2 and now - self._points[1][0] >= self._window_s:
            self._points.popleft()

    @property
    def is_empty(self) -> bool:
        return not self._points

    @property
    def fps(self) -> float | None:
        """None before there are two points."""
        if len(self._points) < 2:
            return None
        (begin, first), (end, last) = self._points[0], self._points[-1]
        return (last - first) / (end - begin) if end > begin else None


def format_count(number: float) -> str:
    """1234567 -> 1.23M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= limit:
            return f"{number / limit:.2f}{unit}"
    return f"{number:.0f}"


def format_duration(seconds: float) -> str:
    """3723 -> 1:02:03; days where there are any."""
    total = max(0, round(seconds))
    days, rest = divmod(total, 86400)
    clock = f"{rest // 3600}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}d {clock}" if days else clock


def status_line(
    snapshot: Snapshot,
    means: Sequence[Mapping[str, float]],
    *,
    fps: float | None,
    limit: int | None,
    eta_s: float | None,
) -> str:
    """`means` are every policy's episode averages; `limit` is the number of frames to train for, if any."""
    steps = snapshot.env_steps
    parts = [f"{format_count(steps)} frames" + (f" ({min(1.0, steps / limit):.1%})" if limit else "")]
    parts.append("fps -" if fps is None else f"fps {fps:,.0f}")
    parts.append("reward " + ", ".join(_reward(policy_means) for policy_means in means))
    ratings = [f"{policy.rating:.0f}" for policy in snapshot.policies if policy.rating is not None]
    if ratings:
        parts.append("rating " + ", ".join(ratings))
    lengths = [policy_means[LENGTH] for policy_means in means if LENGTH in policy_means]
    if lengths:
        parts.append(f"episode {sum(lengths) / len(lengths):.0f} frames")
    if snapshot.lag_mean is not None and snapshot.lag_max is not None:
        parts.append(f"lag {snapshot.lag_mean:.1f} (max {snapshot.lag_max:.0f})")
    if snapshot.skipped_updates:
        parts.append(f"{snapshot.skipped_updates} updates skipped (gradient not finite)")
    if snapshot.damaged_trajectories:
        parts.append(f"{snapshot.damaged_trajectories} trajectories left out (not finite)")
    if snapshot.late_trajectories:
        parts.append(f"{snapshot.late_trajectories} trajectories dropped (their policy is late)")
    if snapshot.bottleneck:
        parts.append(f"bottleneck: {snapshot.bottleneck}")
    if eta_s is not None:
        parts.append(f"left {format_duration(eta_s)}")
    return " | ".join(parts)


def _reward(means: Mapping[str, float]) -> str:
    if REWARD not in means:
        return "-"
    text = f"{means[REWARD]:.3f}"
    true_reward = means.get(TRUE_REWARD, means[REWARD])
    return text if true_reward == means[REWARD] else f"{text} (true {true_reward:.3f})"
