"""What one call of `Learner.train` reports, gathered on the device and read once at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sf_algo.learner.losses import masked_mean
from sf_algo.model.distributions import ActionDistribution


@dataclass(frozen=True, kw_only=True)
class TrainStats:
    """Figures of one call. `summaries` are ready for tensorboard under `train/<name>`."""

    policy_version: int
    """Optimizer steps done so far, after this call."""
    num_samples: int
    """Rows of the batch: T * B, epochs not counted twice."""
    num_valid_samples: int
    """Of these, rows that entered the loss (not filler, inactive, foreign or stale)."""
    num_updates: int
    """Optimizer steps of this call; 0 where every trajectory was dropped."""
    num_skipped_updates: int
    """Of these, steps that changed nothing because the gradient was not finite."""
    num_damaged_trajectories: int
    """Trajectories left out because a number in them is not finite."""
    summaries: Mapping[str, float]

    @property
    def learned_nothing(self) -> bool:
        """Numbers that are not finite took every update of this call."""
        spoiled = self.num_skipped_updates > 0 or self.num_damaged_trajectories > 0
        return spoiled and self.num_skipped_updates == self.num_updates


_PER_UPDATE = (
    "loss",
    "policy_loss",
    "value_loss",
    "exploration_loss",
    "kl_loss",
    "kl_divergence",
    "grad_norm",
)
KL_DIVERGENCE = _PER_UPDATE.index("kl_divergence")
"""Its place among `Losses.figures`."""


class UpdateLog:
    """Collects what every update says as tensors on its device: nothing waits for a GPU until `read`."""

    def __init__(self) -> None:
        self._updates: list[Tensor] = []
        self._extra: list[str] = []

    def add(self, figures: Tensor, extra: Iterable[str], grad_norm: Tensor) -> None:
        """`Losses.figures`, the names of the user's own losses among them, and the norm of the gradient."""
        self._extra = list(extra)
        self._updates.append(torch.cat([figures, grad_norm.unsqueeze(0)]))

    def __len__(self) -> int:
        return len(self._updates)

    def read(self) -> tuple[dict[str, float], int]:
        """Means over the updates whose gradient was finite, and the number of the others."""
        table = torch.stack(self._updates).to("cpu", torch.float64)
        sound = table[torch.isfinite(table[:, -1])]
        means = (sound if len(sound) else table).mean(0).tolist()
        *ours, norm = _PER_UPDATE
        names = [*ours, *(f"loss_{name}" for name in self._extra), norm]
        return dict(zip(names, means, strict=True)), len(table) - len(sound)


_DETAILS = (
    "value",
    "value_target",
    "entropy",
    "ratio_mean",
    "ratio_min",
    "ratio_max",
    "clip_fraction",
    "value_clip_fraction",
    "advantage_mean",
    "advantage_std",
    "advantage_min",
    "advantage_max",
)


@torch.no_grad()
def details(
    *,
    distribution: ActionDistribution,
    ratios: Tensor,
    advantages: Tensor,
    values: Tensor,
    old_values: Tensor,
    targets: Tensor,
    valid: Tensor,
    clip_ratio: float,
    clip_value: float,
) -> Tensor:
    """Figures of one minibatch, as one tensor that `read_details` names. All [T, B]; advantages raw, in units
    of reward; values, old_values and targets in the network's units; valid is float."""

    def mean(x: Tensor) -> Tensor:
        return masked_mean(x, valid)

    def lowest(x: Tensor) -> Tensor:
        return torch.where(valid > 0, x, torch.inf).min()

    def highest(x: Tensor) -> Tensor:
        return torch.where(valid > 0, x, -torch.inf).max()

    clipped = (ratios > 1.0 + clip_ratio) | (ratios < 1.0 / (1.0 + clip_ratio))
    far = (values - old_values).abs() > clip_value
    average = mean(advantages)
    figures = (
        mean(values),
        mean(targets),
        mean(distribution.entropy()),
        mean(ratios),
        lowest(ratios),
        highest(ratios),
        mean(clipped.float()),
        mean(far.float()),
        average,
        mean((advantages - average).square()).sqrt(),
        lowest(advantages),
        highest(advantages),
    )
    return torch.stack(figures)


def read_details(figures: Tensor) -> dict[str, float]:
    """Waits for the device."""
    return dict(zip(_DETAILS, figures.tolist(), strict=True))
