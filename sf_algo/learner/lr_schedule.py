"""How the learning rate changes while training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from sf_algo.config import LearnerConfig

KL_FACTOR = 1.5
"""What the adaptive schedules multiply or divide by."""


def adapted(lr: float, kl: float, *, threshold: float, lowest: float, highest: float) -> float:
    """Smaller where the policy moved too far (KL above twice the threshold), larger where it hardly moved
    (below half of it)."""
    if kl > 2.0 * threshold:
        return max(lr / KL_FACTOR, lowest)
    if kl < 0.5 * threshold:
        return min(lr * KL_FACTOR, highest)
    return lr


def decayed(initial: float, env_steps: int, total_env_steps: int) -> float:
    """Linear from `initial` to 0 over the environment frames of the run."""
    return initial * max(0.0, 1.0 - env_steps / max(1, total_env_steps))


class LearningRate:
    """The current learning rate; the learner reports what the schedule depends on."""

    def __init__(self, cfg: LearnerConfig, train_for_env_steps: int | None) -> None:
        """`train_for_env_steps`: where the linear decay reaches 0; None: it does not decay."""
        self._cfg = cfg
        self._total = train_for_env_steps
        self.value = cfg.learning_rate

    def set_config(self, cfg: LearnerConfig) -> None:
        """New hyperparameters. The current rate is kept where `learning_rate` did not change."""
        if cfg.learning_rate != self._cfg.learning_rate:
            self.value = cfg.learning_rate
        self._cfg = cfg

    def state(self) -> dict[str, float]:
        """For the checkpoint."""
        return {"learning_rate": self.value, "initial_learning_rate": self._cfg.learning_rate}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Goes on where an adaptive schedule has brought the rate, unless the flags name another one than before. The
        constant one and the linear decay follow the flags."""
        begun_with = state.get("initial_learning_rate", self._cfg.learning_rate)
        if self._is_adaptive and begun_with == self._cfg.learning_rate:
            self.value = float(state["learning_rate"])

    def adopt(self, state: Mapping[str, Any]) -> None:
        """Takes over another policy's rate where a schedule adapts it; elsewhere the hyperparameters say it."""
        if self._is_adaptive:
            self.value = float(state["learning_rate"])

    @property
    def _is_adaptive(self) -> bool:
        return self._cfg.lr_schedule.startswith("kl_adaptive")

    def begin(self, env_steps: int) -> None:
        """Before an iteration, `env_steps` frames into the run."""
        if self._cfg.lr_schedule == "linear_decay" and self._total is not None:
            self.value = decayed(self._cfg.learning_rate, env_steps, self._total)

    def after_minibatch(self, kl: Tensor) -> None:
        """`kl`: divergence of the minibatch's samples, a scalar; read only where the schedule needs it."""
        if self._cfg.lr_schedule == "kl_adaptive_minibatch":
            self._adapt(float(kl))

    def after_epoch(self, kls: list[Tensor]) -> None:
        """`kls`: those of the epoch's minibatches."""
        if self._cfg.lr_schedule == "kl_adaptive_epoch" and kls:
            self._adapt(sum(float(kl) for kl in kls) / len(kls))

    def _adapt(self, kl: float) -> None:
        cfg = self._cfg
        self.value = adapted(
            self.value,
            kl,
            threshold=cfg.lr_schedule_kl_threshold,
            lowest=cfg.lr_adaptive_min,
            highest=cfg.lr_adaptive_max,
        )
