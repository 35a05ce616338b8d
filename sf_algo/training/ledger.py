"""What has been collected and trained so far, by policy: one writer per entry, read by the status line."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sf_algo.errors import DivergedError
from sf_algo.learning.learners import TrainedBatch
from sf_algo.summaries.status_line import PolicySnapshot, Snapshot

JUDGED_ITERATIONS = 100
FEWEST_JUDGED = 20
KEPT_VERSIONS = 100
MAX_FRUITLESS_SHARE = 0.5
"""A training goes on while at most this share of its newest iterations learned nothing."""


@dataclass(kw_only=True)
class PolicyAccount:
    """One policy's counters. Frames include the frame skip and what was done before a resume."""

    collected_frames: int = 0
    trained_frames: int = 0
    policy_version: int = 0
    summaries: Mapping[str, float] = field(default_factory=dict)
    """Of the newest training iteration."""
    skipped_updates: int = 0
    """Updates of this start that changed nothing because their gradient was not finite."""
    damaged_trajectories: int = 0
    """Trajectories of this start left out because a number in them was not finite."""
    iteration_s: float = 0.0
    """Time that the newest iteration took."""
    late_trajectories: int = 0
    """Trajectories of this start that were dropped, because the policy had no room for them while others waited."""
    versions: deque[tuple[int, int]] = field(default_factory=lambda: deque([(0, 0)], maxlen=KEPT_VERSIONS))
    """The newest versions, and the frames trained on until each."""
    fruitless: deque[bool] = field(default_factory=lambda: deque(maxlen=JUDGED_ITERATIONS))
    """Of the newest iterations, which ones such numbers kept from learning anything."""


class Ledger:
    """Counts for the whole run."""

    def __init__(self, *, num_policies: int, frameskip: int) -> None:
        """Training time counts from `start_clock`."""
        self.policies = [PolicyAccount() for _ in range(num_policies)]
        self._frameskip = frameskip
        self.seconds_before = 0.0
        """Training time before a resume."""
        self._first_frame_at: float | None = None
        self.training_s = 0.0

    def start_clock(self) -> None:
        """The first frame of this start is there."""
        self._first_frame_at = time.monotonic()

    @property
    def clock_runs(self) -> bool:
        return self._first_frame_at is not None

    def resume(self, policy_id: int, *, env_steps: int, policy_version: int, train_seconds: float) -> None:
        """Goes on from a checkpoint's counters."""
        account = self.policies[policy_id]
        account.collected_frames = account.trained_frames = env_steps
        account.policy_version = policy_version
        account.versions.append((policy_version, env_steps))
        self.seconds_before = max(self.seconds_before, train_seconds)

    def collected(self, policy_id: int, steps: int) -> None:
        """Valid steps of a policy reached its batcher."""
        self.policies[policy_id].collected_frames += steps * self._frameskip

    def dropped(self, policy_id: int, trajectories: int) -> None:
        """A late policy could not take what it did."""
        self.policies[policy_id].late_trajectories += trajectories

    def changed(self, policy_id: int, policy_version: int) -> None:
        """A policy was changed from outside, which counts as a version."""
        account = self.policies[policy_id]
        if policy_version <= account.policy_version:
            return  # a later iteration has been told already
        account.policy_version = policy_version
        account.versions.append((policy_version, account.trained_frames))

    def frames_at(self, policy_id: int, policy_version: int) -> int:
        """Frames that a policy had been trained on when it had that version, one of the newest."""
        account = self.policies[policy_id]
        known = [frames for version, frames in list(account.versions) if version <= policy_version]
        return known[-1] if known else account.trained_frames

    def trained(self, batch: TrainedBatch) -> None:
        """A policy was trained on a batch."""
        account = self.policies[batch.policy_id]
        account.trained_frames += batch.valid_steps * self._frameskip
        account.policy_version = batch.stats.policy_version
        account.versions.append((account.policy_version, account.trained_frames))
        account.iteration_s = batch.seconds
        account.summaries = batch.stats.summaries
        account.skipped_updates += batch.stats.num_skipped_updates
        account.damaged_trajectories += batch.stats.num_damaged_trajectories
        account.fruitless.append(batch.stats.learned_nothing)
        self.training_s += batch.seconds

    def check_learning(self) -> None:
        """Raises DivergedError where numbers that are not finite keep a policy from learning."""
        for policy_id, account in enumerate(self.policies):
            judged = list(account.fruitless)  # a copy: the learner's thread may append
            lost = sum(judged)
            if len(judged) >= FEWEST_JUDGED and lost > MAX_FRUITLESS_SHARE * len(judged):
                raise DivergedError(
                    f"policy {policy_id} learned nothing in {lost} of the last {len(judged)} iterations: the gradient "
                    f"was not finite ({account.skipped_updates} updates skipped, {account.damaged_trajectories} "
                    "trajectories left out); look for very large observations and rewards (--reward_scale, "
                    "--reward_clip, --obs_scale, --normalize_input), or lower --learning_rate and --max_grad_norm; "
                    "its weights are those of the last sound update"
                )

    @property
    def trained_frames(self) -> int:
        return sum(account.trained_frames for account in self.policies)

    @property
    def collected_frames(self) -> int:
        return sum(account.collected_frames for account in self.policies)

    @property
    def train_seconds(self) -> float:
        """From the first frame of each start to its end, all of them together."""
        this_time = 0.0 if self._first_frame_at is None else time.monotonic() - self._first_frame_at
        return self.seconds_before + this_time

    def snapshot(
        self,
        *,
        bottleneck: str,
        stats: Mapping[str, float],
        perf: Mapping[str, float],
        rating: Callable[[int], float | None] = lambda policy: None,
    ) -> Snapshot:
        """The run at this moment; `rating` is that of a policy."""
        return Snapshot(
            policies=[_policy_snapshot(account, rating(policy)) for policy, account in enumerate(self.policies)],
            collected_frames=self.collected_frames,
            train_seconds=self.train_seconds,
            lag_mean=_mean_of(self.policies, "policy_lag_mean"),
            lag_max=_max_of(self.policies, "policy_lag_max"),
            bottleneck=bottleneck,
            skipped_updates=sum(account.skipped_updates for account in self.policies),
            late_trajectories=sum(account.late_trajectories for account in self.policies),
            damaged_trajectories=sum(account.damaged_trajectories for account in self.policies),
            stats=stats,
            perf=perf,
        )


def _policy_snapshot(account: PolicyAccount, rating: float | None) -> PolicySnapshot:
    return PolicySnapshot(
        env_steps=account.trained_frames,
        policy_version=account.policy_version,
        rating=rating,
        train={**account.summaries, "late_trajectories": float(account.late_trajectories)},
    )


def _mean_of(accounts: Sequence[PolicyAccount], name: str) -> float | None:
    found = [account.summaries[name] for account in accounts if name in account.summaries]
    return sum(found) / len(found) if found else None


def _max_of(accounts: Sequence[PolicyAccount], name: str) -> float | None:
    return max((account.summaries[name] for account in accounts if name in account.summaries), default=None)
