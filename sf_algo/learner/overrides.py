"""Hyperparameters of one policy that differ from the flags: mutated by population-based training, or set per policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sf_algo.config.per_policy import ALIKE
from sf_algo.errors import ConfigError

if TYPE_CHECKING:
    from sf_algo.config import LearnerConfig


class Overrides:
    """Flag name -> value, over the values of the flags."""

    def __init__(self, flags: LearnerConfig) -> None:
        self._flags = flags
        self.values: dict[str, Any] = {}

    @property
    def config(self) -> LearnerConfig:
        """The flags with the overrides over them."""
        return replace(self._flags, **self.values)

    def set(self, values: Mapping[str, Any]) -> None:
        """Replaces all of them. Raises ConfigError for a name that is no flag of learning, or not one for a policy."""
        for name in values:
            if not hasattr(self._flags, name) or name in ALIKE:
                raise ConfigError(f"{name} is no hyperparameter that policies of one training can differ in")
        self.values = dict(values)

    def state(self) -> dict[str, Any]:
        """For the checkpoint: the overrides, and what the flags said where they are overridden."""
        return {
            "overrides": dict(self.values),
            "flag_values": {name: getattr(self._flags, name) for name in self.values},
        }

    def restore(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Takes over the overrides of a checkpoint, apart from those whose flag has another value than when the
        checkpoint was written: a flag that the user has changed since then wins. Returns those that were left out.

        A checkpoint without any leaves what is there."""
        saved, flag_values = state.get("overrides"), state.get("flag_values", {})
        if saved is None:
            return {}
        kept = {n: v for n, v in saved.items() if hasattr(self._flags, n) and getattr(self._flags, n) == flag_values[n]}
        self.values = kept
        return {name: value for name, value in saved.items() if name not in kept}
