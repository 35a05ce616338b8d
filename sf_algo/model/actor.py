"""Acting: forward pass and sampling for inference, evaluation and serial mode, with little overhead.

Shape letters: N agents acting now, S numbers of recurrent state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sf_algo.envs.spec import ACTION_MASK, Box
from sf_algo.model.actor_critic import ActorCritic
from sf_algo.model.perceptron import PerceptronPolicy
from sf_algo.model.types import ActedStep


class Actor:
    """Acts with a model in `torch.inference_mode`; owns the generator that actions are drawn from.

    `generator_state()` and `set_generator_state()` make a resumed serial run equal an uninterrupted one.
    """

    def __init__(
        self,
        model: ActorCritic,
        *,
        seed: int,
        deterministic: bool = False,
        sample_continuous: bool = True,
    ) -> None:
        """`deterministic` takes the most likely action instead of sampling; without `sample_continuous` only
        the numbers of Boxes are not sampled. Acts on the device that the model is on now."""
        self._model = model
        self._family = model.family
        self._perceptron = PerceptronPolicy.of(model)
        self._generator = torch.Generator(model.device)
        self._generator.manual_seed(seed)
        self._deterministic = deterministic
        spec = model.family.spec
        boxes = [c for c, kind in zip(spec.slices, spec.components, strict=True) if isinstance(kind, Box)]
        self._means = [] if sample_continuous else boxes

    def step(self, obs: Mapping[str, Tensor], rnn_states: Tensor) -> ActedStep:
        """obs: name -> [N, ...] on the model's device, including `action_mask` where the spec has one;
        rnn_states [N, S]. The result's tensors belong to the caller (without a core, its `rnn_states` is the
        argument)."""
        with torch.inference_mode():
            if self._perceptron is not None and self._perceptron.applies:
                params, values = self._perceptron.act(obs)
            else:
                params, values, rnn_states = self._model.act(obs, rnn_states)
            distribution = self._family.bind(params, obs.get(ACTION_MASK))
            if self._deterministic:
                actions = distribution.argmax()
            else:
                actions = distribution.sample(self._generator)
                for where in self._means:
                    actions[..., where] = distribution.argmax()[..., where]
            return ActedStep(actions, distribution.log_prob(actions), values, rnn_states)

    @property
    def generator(self) -> torch.Generator:
        """What actions are drawn from."""
        return self._generator

    def generator_state(self) -> dict[str, Any]:
        """The kind of device that draws, and the uint8 state of its generator: to be saved with a checkpoint."""
        return {"device": self._generator.device.type, "state": self._generator.get_state()}

    def set_generator_state(self, saved: Mapping[str, Any] | Tensor) -> None:
        """Goes on drawing where `generator_state` was taken. What a device of another kind drew with says nothing here:
        then this generator stays as it was made. A tensor is what older checkpoints hold, of either kind."""
        state = saved if isinstance(saved, Tensor) else saved["state"]
        same_kind = isinstance(saved, Tensor) or saved["device"] == self._generator.device.type
        if same_kind and state.numel() == self._generator.get_state().numel():
            self._generator.set_state(state.cpu())
