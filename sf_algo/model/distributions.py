"""Distributions over actions: one Discrete, one Box, or any tuple of both.

A row of action parameters [..., P] holds, in the order of the components, the logits of a Discrete or the
means of a Box, and behind them the log standard deviations of all Boxes. Actions are rows [..., W] as
`ActionSpec` defines. The components of a tuple are independent: log-probabilities, entropies and divergences
add up.

Units of a Box. Where both bounds of a number are finite, its mean and standard deviation are expressed in
half ranges around the middle: 0 is the middle and 1 the upper bound. Else they are in the environment's
units. Actions are always in the environment's units, are never cut by the distribution, and log-probabilities
belong to the uncut action; the environment clips what lies outside its bounds.

Shape letters: N rows of any number of leading dimensions, P parameters, W width of an action, M choices of
all Discrete components together.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from sf_algo.envs.spec import ActionSpec, Box, Discrete
from sf_algo.model.uploading import uploaded

SYMMETRIC_KL_CAP = 30.0
"""Largest symmetric divergence reported: beyond it the policy is as good as deterministic, and the gradient
of the divergence explodes."""

LOG_STD_MIN, LOG_STD_MAX = math.log(1e-4), math.log(1e4)
_FORBIDDEN_LOGIT = -1e9
_WIDEST_BOX = 1e6
_LOG_2PI = math.log(2.0 * math.pi)


class ActionDistribution(ABC):
    """Distribution of the actions of N rows."""

    @abstractmethod
    def sample(self, generator: Generator | None) -> Tensor:
        """Actions [N, W] float32, drawn with `generator` (on the parameters' device)."""

    @abstractmethod
    def argmax(self) -> Tensor:
        """The most probable actions [N, W]: greedy choices and means."""

    @property
    @abstractmethod
    def noise_size(self) -> int:
        """K: a number for every choice of a Discrete and for every number of a Box."""

    @abstractmethod
    def with_noise(self, noise: Tensor) -> Tensor:
        """Actions [N, W] as a function of noise [N, K], in the order of the components. With standard Gumbel numbers
        for choices and standard normal ones for Boxes they are drawn from the distribution (the trick of Gumbel 1954
        for choices); with zeros they are the most probable ones."""

    @abstractmethod
    def log_prob(self, actions: Tensor) -> Tensor:
        """[N] for actions [N, W]: log-probability (Discrete) or log-density (Box)."""

    @abstractmethod
    def entropy(self) -> Tensor:
        """[N], in nats; differential entropy for a Box, in the units of its standard deviation."""

    @abstractmethod
    def kl(self, other: ActionDistribution) -> Tensor:
        """KL(self || other) [N]; `other` comes from the same family."""

    @abstractmethod
    def uncapped_symmetric_kl(self) -> Tensor:
        """(KL(self || u) + KL(u || self)) / 2 [N], where u is uniform over the allowed choices, or, for a
        Box, the normal distribution with the mean and variance of the uniform one over its bounds (a standard
        normal where it has no bounds): the divergence from a true uniform density would be infinite."""

    def symmetric_kl_to_uniform(self) -> Tensor:
        """`uncapped_symmetric_kl`, at most `SYMMETRIC_KL_CAP`, and 0 where it is not finite."""
        divergence = self.uncapped_symmetric_kl()
        finite = torch.isfinite(divergence)
        return torch.where(finite, divergence, torch.zeros_like(divergence)).clamp(max=SYMMETRIC_KL_CAP)


class Categorical(ActionDistribution):
    """One Discrete component. Keeps log-probabilities, from which everything else follows."""

    __slots__ = ("_mask", "log_probs")

    def __init__(self, logits: Tensor, mask: Tensor | None = None) -> None:
        """logits [N, n]; mask [N, n], 0 forbids a choice. With every choice forbidden all are equally
        likely."""
        self._mask = None if mask is None else mask.bool()
        if self._mask is not None:
            logits = logits.masked_fill(~self._mask, _FORBIDDEN_LOGIT)
        self.log_probs = torch.log_softmax(logits, -1)

    def sample(self, generator: Generator | None) -> Tensor:
        """Races exponential clocks: the one with rate p_i rings first with probability p_i."""
        clocks = torch.empty_like(self.log_probs).exponential_(generator=generator)
        if self._mask is not None:
            clocks.clamp_(min=1e-20)
        return self.log_probs.exp().div_(clocks).argmax(-1, keepdim=True).to(self.log_probs.dtype)

    def argmax(self) -> Tensor:
        return self.log_probs.argmax(-1, keepdim=True).to(self.log_probs.dtype)

    @property
    def noise_size(self) -> int:
        return self.log_probs.shape[-1]

    def with_noise(self, noise: Tensor) -> Tensor:
        return (self.log_probs + noise).argmax(-1, keepdim=True).to(self.log_probs.dtype)

    def log_prob(self, actions: Tensor) -> Tensor:
        return self.log_probs.gather(-1, actions.long()).squeeze(-1)

    def entropy(self) -> Tensor:
        return -(self.log_probs.exp() * self.log_probs).sum(-1)

    def kl(self, other: ActionDistribution) -> Tensor:
        assert isinstance(other, Categorical)
        return (self.log_probs.exp() * (self.log_probs - other.log_probs)).sum(-1)

    def uncapped_symmetric_kl(self) -> Tensor:
        log_probs = self.log_probs
        if self._mask is None:
            from_uniform = -log_probs.mean(-1)
        else:
            allowed = self._mask.sum(-1).clamp(min=1)
            from_uniform = -log_probs.masked_fill(~self._mask, 0.0).sum(-1) / allowed
        # The log n of one direction cancels that of the other.
        return 0.5 * (from_uniform - self.entropy())


class Gaussian(ActionDistribution):
    """One Box component with independent numbers."""

    __slots__ = ("_log_std", "_mean", "_units")

    def __init__(self, mean: Tensor, log_std: Tensor, units: BoxUnits) -> None:
        """mean and log_std [N, k] in the units of the distribution; log_std is held in [ln 1e-4, ln 1e4]."""
        self._mean = mean
        self._log_std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        self._units = units

    def sample(self, generator: Generator | None) -> Tensor:
        noise = torch.empty_like(self._mean).normal_(generator=generator)
        middle, half_range = self._units.middle, self._units.half_range
        return torch.addcmul(self._mean, noise, self._log_std.exp()) * half_range + middle

    def argmax(self) -> Tensor:
        return self._mean * self._units.half_range + self._units.middle

    @property
    def noise_size(self) -> int:
        return self._mean.shape[-1]

    def with_noise(self, noise: Tensor) -> Tensor:
        units = self._units
        return torch.addcmul(self._mean, noise, self._log_std.exp()) * units.half_range + units.middle

    def log_prob(self, actions: Tensor) -> Tensor:
        units = self._units
        scaled = ((actions - units.middle) / units.half_range - self._mean) * torch.exp(-self._log_std)
        constant = 0.5 * _LOG_2PI + units.half_range.log()
        return -(0.5 * scaled.square() + self._log_std + constant).sum(-1)

    def entropy(self) -> Tensor:
        return (self._log_std + 0.5 * (1.0 + _LOG_2PI)).sum(-1)

    def kl(self, other: ActionDistribution) -> Tensor:
        assert isinstance(other, Gaussian)
        return _normal_kl(self._mean, self._log_std, other._mean, other._log_std).sum(-1)

    def uncapped_symmetric_kl(self) -> Tensor:
        zero, uniform = torch.zeros_like(self._mean), self._units.uniform_log_std.expand_as(self._log_std)
        there = _normal_kl(self._mean, self._log_std, zero, uniform)
        back = _normal_kl(zero, uniform, self._mean, self._log_std)
        return 0.5 * (there + back).sum(-1)


class Joint(ActionDistribution):
    """A tuple of independent components."""

    __slots__ = ("_parts", "_slices")

    def __init__(self, parts: Sequence[ActionDistribution], slices: Sequence[slice]) -> None:
        """`slices`: where each part's numbers lie in a row of actions."""
        self._parts = tuple(parts)
        self._slices = tuple(slices)

    def sample(self, generator: Generator | None) -> Tensor:
        return torch.cat([part.sample(generator) for part in self._parts], -1)

    def argmax(self) -> Tensor:
        return torch.cat([part.argmax() for part in self._parts], -1)

    @property
    def noise_size(self) -> int:
        return sum(part.noise_size for part in self._parts)

    def with_noise(self, noise: Tensor) -> Tensor:
        own = torch.split(noise, [part.noise_size for part in self._parts], -1)
        return torch.cat([part.with_noise(block) for part, block in zip(self._parts, own, strict=True)], -1)

    def log_prob(self, actions: Tensor) -> Tensor:
        own = zip(self._parts, self._slices, strict=True)
        return _total([part.log_prob(actions[..., where]) for part, where in own])

    def entropy(self) -> Tensor:
        return _total([part.entropy() for part in self._parts])

    def kl(self, other: ActionDistribution) -> Tensor:
        assert isinstance(other, Joint)
        return _total([mine.kl(theirs) for mine, theirs in zip(self._parts, other._parts, strict=True)])

    def uncapped_symmetric_kl(self) -> Tensor:
        return _total([part.uncapped_symmetric_kl() for part in self._parts])


class BoxUnits:
    """What turns the distribution's units into the environment's, per number of one Box."""

    __slots__ = ("half_range", "middle", "uniform_log_std")

    def __init__(self, middle: Tensor, half_range: Tensor, uniform_log_std: Tensor) -> None:
        self.middle = middle
        self.half_range = half_range
        self.uniform_log_std = uniform_log_std

    @staticmethod
    def of(box: Box) -> BoxUnits:
        low, high = torch.tensor(box.low, dtype=torch.float64), torch.tensor(box.high, dtype=torch.float64)
        bounded = (low.abs() < _WIDEST_BOX) & (high.abs() < _WIDEST_BOX) & (high > low)
        middle = torch.where(bounded, (low + high) / 2, torch.zeros_like(low))
        half_range = torch.where(bounded, (high - low) / 2, torch.ones_like(low))
        # A uniform density over [-1, 1] has variance 1/3.
        uniform_log_std = torch.where(bounded, torch.full_like(low, -0.5 * math.log(3.0)), torch.zeros_like(low))
        return BoxUnits(middle, half_range, uniform_log_std)

    def suits(self, like: Tensor) -> bool:
        return like.device == self.middle.device and like.dtype == self.middle.dtype

    def to(self, like: Tensor) -> BoxUnits:
        """The same on the device and in the precision of `like`."""
        parts = (self.middle, self.half_range, self.uniform_log_std)
        return BoxUnits(*(uploaded(part.to(like.dtype), like.device) for part in parts))


BOX_GAIN = 0.01
"""Factor on the initial weights of the policy's last layer where they are for a Box: the first actions are then about
the middle of the box whatever is seen, which helps continuous control (Andrychowicz et al. 2021, "What matters for
on-policy deep actor-critic methods?", section 3.2). Not for choices: with weights so small a policy hardly shapes the
layers below, and learning sets in late (docs/performance.md, "What a frame teaches")."""


class ActionFamily:
    """Reads rows of action parameters for one `ActionSpec`."""

    def __init__(self, spec: ActionSpec, *, tanh_scale: float = 0.0) -> None:
        """Where `tanh_scale` s is above 0, the mean of a Box is s * tanh(parameter / s)."""
        self.spec = spec
        self.width = spec.width
        sizes = [c.n if isinstance(c, Discrete) else c.width for c in spec.components]
        self.num_stddevs = sum(c.width for c in spec.components if isinstance(c, Box))
        self.num_params = sum(sizes) + self.num_stddevs
        """P."""
        self._tanh_scale = tanh_scale
        self._exact_units = [BoxUnits.of(c) if isinstance(c, Box) else None for c in spec.components]
        self._units = list(self._exact_units)
        """Those above on the device and in the precision asked for last."""
        self._slices = spec.slices
        self._plain = len(spec.components) == 1 and self.num_stddevs == 0
        self._split_sizes = [*sizes, self.num_stddevs]
        self._mask_sizes = [c.n for c in spec.components if isinstance(c, Discrete)]

    @property
    def initial_gains(self) -> Tensor:
        """Factors [P] on the initial weights of the layer that computes the parameters."""
        gains = [
            gain
            for c in self.spec.components
            for gain in ([1.0] * c.n if isinstance(c, Discrete) else [BOX_GAIN] * c.width)
        ]
        return torch.tensor([*gains, *[BOX_GAIN] * self.num_stddevs])

    def bind(self, params: Tensor, action_mask: Tensor | None = None) -> ActionDistribution:
        """The distribution with parameters [N, P]; action_mask [N, M], 0 forbids a choice."""
        if self._plain:
            return Categorical(params, action_mask)
        *blocks, log_stds = torch.split(params, self._split_sizes, -1)
        masks = iter(() if action_mask is None else torch.split(action_mask, self._mask_sizes, -1))
        parts: list[ActionDistribution] = []
        stop = 0
        for index, block in enumerate(blocks):
            units = self._units_for(index, block)
            if units is None:
                parts.append(Categorical(block, next(masks, None)))
                continue
            start, stop = stop, stop + block.shape[-1]
            scale = self._tanh_scale
            mean = scale * torch.tanh(block / scale) if scale > 0 else block
            parts.append(Gaussian(mean, log_stds[..., start:stop], units))
        return parts[0] if len(parts) == 1 else Joint(parts, self._slices)

    def _units_for(self, index: int, block: Tensor) -> BoxUnits | None:
        exact, units = self._exact_units[index], self._units[index]
        if exact is not None and units is not None and not units.suits(block):
            units = self._units[index] = exact.to(block)
        return units


def _normal_kl(mean_p: Tensor, log_std_p: Tensor, mean_q: Tensor, log_std_q: Tensor) -> Tensor:
    """KL(p || q) of independent normal distributions, per number."""
    variance_ratio = torch.exp(2.0 * (log_std_p - log_std_q))
    distance = ((mean_p - mean_q) * torch.exp(-log_std_q)).square()
    return 0.5 * (variance_ratio + distance - 1.0) - (log_std_p - log_std_q)


def _total(terms: Sequence[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
