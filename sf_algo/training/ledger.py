"""What has been collected and trained so far, by policy: one writer per entry, read by the status line."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sf_algo.learning.learners import TrainedBatch
from sf_algo.summaries.status_line import PolicySnapshot, Snapshot


@dataclass(kw_only=True)
class PolicyAccount:
    """One policy's counters. Frames include the frame skip and what was done before a resume."""

    collected_frames: int = 0
    trained_frames: int = 0
    policy_version: int = 0
    summaries: Mapping[str, float] = field(default_factory=dict)
    """Of the newest training iteration."""


class Ledger:
    """Counts for the whole run."""

    def __init__(self, *, num_policies: int, frameskip: int, began: float) -> None:
        """Training time counts from `began` on the monotonic clock."""
        self.policies = [PolicyAccount() for _ in range(num_policies)]
        self._frameskip = frameskip
        self.seconds_before = 0.0
        """Training time before a resume."""
        self._began = began
        self.training_s = 0.0

    def resume(self, policy_id: int, *, env_steps: int, policy_version: int, train_seconds: float) -> None:
        """Goes on from a checkpoint's counters."""
        account = self.policies[policy_id]
        account.collected_frames = account.trained_frames = env_steps
        account.policy_version = policy_version
        self.seconds_before = max(self.seconds_before, train_seconds)

    def collected(self, policy_id: int, steps: int) -> None:
        """Valid steps of a policy reached its batcher."""
        self.policies[policy_id].collected_frames += steps * self._frameskip

    def trained(self, batch: TrainedBatch) -> None:
        """A policy was trained on a batch."""
        account = self.policies[batch.policy_id]
        account.trained_frames += batch.valid_steps * self._frameskip
        account.policy_version = batch.stats.policy_version
        account.summaries = batch.stats.summaries
        self.training_s += batch.seconds

    @property
    def trained_frames(self) -> int:
        return sum(account.trained_frames for account in self.policies)

    @property
    def train_seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self._began

    def snapshot(
        self, *, bottleneck: str, stats: Mapping[str, float], perf: Mapping[str, float], final: bool = False
    ) -> Snapshot:
        """The run at this moment; a final one counts only what was trained on."""
        return Snapshot(
            policies=[_policy_snapshot(account, final) for account in self.policies],
            train_seconds=self.train_seconds,
            lag_mean=_mean_of(self.policies, "policy_lag_mean"),
            lag_max=_max_of(self.policies, "policy_lag_max"),
            bottleneck=bottleneck,
            stats=stats,
            perf=perf,
        )


def _policy_snapshot(account: PolicyAccount, final: bool) -> PolicySnapshot:
    return PolicySnapshot(
        env_steps=account.trained_frames if final else account.collected_frames,
        policy_version=account.policy_version,
        train=account.summaries,
    )


def _mean_of(accounts: Sequence[PolicyAccount], name: str) -> float | None:
    found = [account.summaries[name] for account in accounts if name in account.summaries]
    return sum(found) / len(found) if found else None


def _max_of(accounts: Sequence[PolicyAccount], name: str) -> float | None:
    return max((account.summaries[name] for account in accounts if name in account.summaries), default=None)
