"""Acting: forward pass and sampling for inference, evaluation and serial mode, with little overhead.

Shape letters: N agents acting now, S numbers of recurrent state.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sf_algo.model.actor_critic import ActorCritic
from sf_algo.model.types import ActedStep


class Actor:
    """Acts with a model in `torch.inference_mode`; owns the generator that actions are drawn from.

    `generator_state()` and `set_generator_state()` make a resumed serial run equal an uninterrupted one.
    """

    def __init__(self, model: ActorCritic, *, seed: int, deterministic: bool = False) -> None:
        """`deterministic` takes the most likely action instead of sampling. The model's device is used."""
        raise NotImplementedError

    def step(self, obs: Mapping[str, Tensor], rnn_states: Tensor) -> ActedStep:
        """obs: name -> [N, ...] on the model's device, including `action_mask` where the spec has one;
        rnn_states [N, S]. The result's tensors are fresh and belong to the caller."""
        raise NotImplementedError

    def generator_state(self) -> Tensor:
        """uint8 state of the generator, to be saved with a checkpoint."""
        raise NotImplementedError

    def set_generator_state(self, state: Tensor) -> None:
        raise NotImplementedError
