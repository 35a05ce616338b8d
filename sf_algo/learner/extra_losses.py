"""Losses of the user's own that are added to those of PPO (--extra_losses).

Shape letters: T steps, B trajectories, P action parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sf_algo.errors import ModelError
from sf_algo.learner.losses import masked_mean
from sf_algo.learner.samples import Samples
from sf_algo.model.distributions import ActionDistribution
from sf_algo.model.own import arguments_for, load_own


@dataclass(frozen=True, kw_only=True)
class Output:
    """What the network says about a minibatch, with gradients."""

    action_params: Tensor
    """[T, B, P]."""
    values: Tensor
    """[T, B], in the network's own units (normalized where returns are)."""
    distribution: ActionDistribution
    """Of the actions, with masks: `log_prob`, `entropy`, `kl`, ..."""
    ratios: Tensor
    """[T, B]: probability of the action now over that while acting."""
    advantages: Tensor
    """[T, B], standardized, without gradient."""
    targets: Tensor
    """[T, B]: what values are trained on, in the network's own units, without gradient."""
    valid: Tensor
    """[T, B] float: 1 where a sample is trained on."""
    count: Tensor | None = None
    """Where the minibatch is shared out to several learners: how many samples each trains on, on average. `mean` then
    weighs every sample alike, whatever its share is."""

    def mean(self, x: Tensor) -> Tensor:
        """Mean of x [T, B] over the samples that are trained on."""
        return masked_mean(x, self.valid, self.count)


class ExtraLosses:
    """The functions that import paths name. One is called as `loss(model, batch, output)`, and with those sections of
    the user's program that it declares by name; it returns name -> scalar, already weighted, or one scalar."""

    def __init__(self, paths: Sequence[str], own: Mapping[str, Any]) -> None:
        """Imports them. Raises ModelError."""
        self._functions: list[tuple[str, Callable[..., Any]]] = [(p, load_own("extra_losses", p)) for p in paths]
        self._own = dict(own)

    def __bool__(self) -> bool:
        return bool(self._functions)

    def compute(self, model: nn.Module, batch: Samples, output: Output) -> dict[str, Tensor]:
        """Every loss by its name. `batch` is the minibatch: observations (with row T), actions, rewards,
        `step_fields`.

        Raises:
            ModelError: one of them returns something else.
        """
        losses: dict[str, Tensor] = {}
        for path, function in self._functions:
            by_name = {**self._own, "model": model, "batch": batch, "output": output}
            arguments, keywords = arguments_for(function, [model, batch, output], by_name)
            given = function(*arguments, **keywords)
            named = given if isinstance(given, Mapping) else {path.partition(":")[2]: given}
            for name, loss in named.items():
                if not isinstance(loss, Tensor) or loss.numel() != 1:
                    what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
                    raise ModelError(f"--extra_losses={path}: its loss {name!r} is {what}; return scalars (see mean)")
                losses[str(name)] = loss.reshape(())
        return losses


NO_LOSSES = ExtraLosses((), {})
