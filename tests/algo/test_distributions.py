"""Distributions against NumPy references in float64, and their gradients against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sf_algo.envs.spec import ActionSpec, Box, Discrete
from sf_algo.model.distributions import SYMMETRIC_KL_CAP, ActionDistribution, ActionFamily, Joint

Array = NDArray[np.float64]
MIXED = ActionSpec((Discrete(3), Box((-2.0, 0.0), (4.0, 1.0)), Discrete(2), Box((-math.inf,), (math.inf,))))
ROWS = 7


def random_params(spec: ActionSpec, seed: int = 0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, ActionFamily(spec).num_params, generator=generator, dtype=torch.float64) * scale


def softmax_log(logits: Array) -> Array:
    shifted = logits - logits.max(-1, keepdims=True)
    out: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return out


class MixedReference:
    """The components of MIXED, written out by hand from the layout of parameters."""

    def __init__(self, params: Tensor) -> None:
        p = params.numpy()
        self.first, self.second = softmax_log(p[:, 0:3]), softmax_log(p[:, 5:7])
        middle, half = np.array([1.0, 0.5, 0.0]), np.array([3.0, 0.5, 1.0])
        self.unit_mean, self.unit_std = p[:, [3, 4, 7]], np.exp(p[:, 8:11])
        self.mean, self.std = self.unit_mean * half + middle, self.unit_std * half

    def log_prob(self, actions: Array) -> Array:
        rows = np.arange(len(actions))
        numbers = actions[:, [1, 2, 4]]
        density = -0.5 * ((numbers - self.mean) / self.std) ** 2 - np.log(self.std * math.sqrt(2 * math.pi))
        chosen = self.first[rows, actions[:, 0].astype(int)] + self.second[rows, actions[:, 3].astype(int)]
        out: Array = chosen + density.sum(-1)
        return out

    def entropy(self) -> Array:
        discrete = -sum((np.exp(lp) * lp).sum(-1) for lp in (self.first, self.second))
        out: Array = discrete + (np.log(self.unit_std) + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)
        return out

    def kl(self, other: MixedReference) -> Array:
        pairs = ((self.first, other.first), (self.second, other.second))
        discrete = sum((np.exp(p) * (p - q)).sum(-1) for p, q in pairs)
        out: Array = discrete + normal_kl(self.mean, self.std, other.mean, other.std).sum(-1)
        return out

    def symmetric_kl(self) -> Array:
        total = np.zeros(ROWS)
        for lp in (self.first, self.second):
            uniform = np.full_like(lp, 1.0 / lp.shape[-1])
            there = (np.exp(lp) * (lp - np.log(uniform))).sum(-1)
            back = (uniform * (np.log(uniform) - lp)).sum(-1)
            total += 0.5 * (there + back)
        zero, std = np.zeros(3), np.array([1 / math.sqrt(3), 1 / math.sqrt(3), 1.0])
        there = normal_kl(self.unit_mean, self.unit_std, zero, std)
        back = normal_kl(zero, std, self.unit_mean, self.unit_std)
        total += 0.5 * (there + back).sum(-1)
        return total


def normal_kl(mean_p: Array, std_p: Array, mean_q: Array, std_q: Array) -> Array:
    out: Array = np.log(std_q / std_p) + (std_p**2 + (mean_p - mean_q) ** 2) / (2 * std_q**2) - 0.5
    return out


def test_mixed_tuple_against_reference() -> None:
    params, others = random_params(MIXED), random_params(MIXED, seed=1)
    family = ActionFamily(MIXED)
    distribution, other = family.bind(params), family.bind(others)
    assert isinstance(distribution, Joint)
    reference = MixedReference(params)
    actions = distribution.sample(torch.Generator().manual_seed(2))
    assert actions.shape == (ROWS, MIXED.width)
    np.testing.assert_allclose(distribution.log_prob(actions), reference.log_prob(actions.numpy()), rtol=1e-12)
    np.testing.assert_allclose(distribution.entropy(), reference.entropy(), rtol=1e-12)
    np.testing.assert_allclose(distribution.kl(other), reference.kl(MixedReference(others)), rtol=1e-10)
    expected = np.minimum(reference.symmetric_kl(), SYMMETRIC_KL_CAP)
    np.testing.assert_allclose(distribution.symmetric_kl_to_uniform(), expected, rtol=1e-10)


def test_argmax_takes_greedy_choices_and_means() -> None:
    params = random_params(MIXED)
    reference = MixedReference(params)
    actions = ActionFamily(MIXED).bind(params).argmax().numpy()
    np.testing.assert_array_equal(actions[:, 0], reference.first.argmax(-1))
    np.testing.assert_array_equal(actions[:, 3], reference.second.argmax(-1))
    np.testing.assert_allclose(actions[:, [1, 2, 4]], reference.mean, rtol=1e-12)


@pytest.mark.parametrize("spec", [ActionSpec((Discrete(4),)), MIXED], ids=["discrete", "mixed"])
@pytest.mark.parametrize("what", ["log_prob", "entropy", "symmetric_kl_to_uniform", "kl"])
def test_gradients_are_finite_differences(spec: ActionSpec, what: str) -> None:
    family = ActionFamily(spec)
    params = (0.5 * random_params(spec)).requires_grad_()
    actions = family.bind(params.detach()).sample(torch.Generator().manual_seed(0))
    other = family.bind(random_params(spec, seed=3))

    def value(p: Tensor) -> Tensor:
        distribution = family.bind(p)
        if what == "log_prob":
            return distribution.log_prob(actions)
        out: Tensor = distribution.kl(other) if what == "kl" else getattr(distribution, what)()
        return out

    assert torch.autograd.gradcheck(value, (params,))


def test_frequencies_match_probabilities() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    draws = 40_000
    distribution = ActionFamily(ActionSpec((Discrete(4),))).bind(probabilities.log().expand(draws, -1))
    counts = torch.bincount(distribution.sample(torch.Generator().manual_seed(0)).long().flatten(), minlength=4)
    expected = probabilities * draws
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    assert chi_square < 16.3  # the 99.9th percentile with 3 degrees of freedom


def test_continuous_samples_have_the_moments_of_the_parameters() -> None:
    spec = ActionSpec((Box((-2.0,), (6.0,)),))
    params = torch.tensor([[0.5, math.log(0.25)]]).expand(40_000, -1)
    actions = ActionFamily(spec).bind(params).sample(torch.Generator().manual_seed(0))
    assert actions.mean().item() == pytest.approx(2.0 + 0.5 * 4.0, abs=0.02)
    assert actions.std().item() == pytest.approx(0.25 * 4.0, rel=0.02)


def test_sampling_depends_on_the_generator_alone() -> None:
    family = ActionFamily(MIXED)
    distribution = family.bind(random_params(MIXED).float())
    first = distribution.sample(torch.Generator().manual_seed(5))
    torch.rand(3)
    assert torch.equal(first, distribution.sample(torch.Generator().manual_seed(5)))
    assert not torch.equal(first, distribution.sample(torch.Generator().manual_seed(6)))


class TestMasks:
    spec = ActionSpec((Discrete(3), Discrete(2)))
    mask = torch.tensor([[1, 0, 1, 0, 1]], dtype=torch.int8)

    def bind(self, params: Tensor, mask: Tensor) -> ActionDistribution:
        return ActionFamily(self.spec).bind(params, mask.expand(len(params), -1))

    def test_forbidden_choices_are_never_taken(self) -> None:
        params = torch.randn(5000, 5, generator=torch.Generator().manual_seed(0)) * 5
        distribution = self.bind(params, self.mask)
        for actions in (distribution.sample(torch.Generator().manual_seed(1)), distribution.argmax()):
            assert not (actions[:, 0] == 1).any()
            assert (actions[:, 1] == 1).all()

    def test_probabilities_are_those_among_the_allowed(self) -> None:
        params = random_params(self.spec)
        distribution = self.bind(params, self.mask)
        among = softmax_log(params.numpy()[:, [0, 2]])
        first = torch.tensor([[0.0, 1.0]]).expand(ROWS, -1)
        np.testing.assert_allclose(distribution.log_prob(first), among[:, 0], rtol=1e-12)
        np.testing.assert_allclose(distribution.entropy(), -(np.exp(among) * among).sum(-1), rtol=1e-9)
        back = -among.mean(-1) - math.log(2)
        there = (np.exp(among) * among).sum(-1) + math.log(2)
        np.testing.assert_allclose(distribution.symmetric_kl_to_uniform(), 0.5 * (there + back), rtol=1e-6)

    def test_gradient_of_forbidden_logits_is_zero(self) -> None:
        params = random_params(self.spec).requires_grad_()
        distribution = self.bind(params, self.mask)
        terms = distribution.entropy() + distribution.symmetric_kl_to_uniform()
        (gradient,) = torch.autograd.grad(terms.sum(), params)
        assert torch.isfinite(gradient).all()
        assert (gradient[:, [1, 3]] == 0).all()

    def test_everything_forbidden_is_uniform_and_finite(self) -> None:
        distribution = self.bind(random_params(self.spec), torch.zeros(1, 5, dtype=torch.int8))
        actions = distribution.sample(torch.Generator().manual_seed(0))
        expected = -math.log(3) - math.log(2)
        np.testing.assert_allclose(distribution.log_prob(actions), expected, rtol=1e-9)
        assert torch.isfinite(distribution.symmetric_kl_to_uniform()).all()


def test_symmetric_kl_is_capped_and_zero_where_not_finite() -> None:
    family = ActionFamily(ActionSpec((Discrete(2),)))
    logits = torch.tensor([[0.0, 1000.0], [0.0, 0.0], [math.nan, 0.0]])
    divergence = family.bind(logits).symmetric_kl_to_uniform()
    assert divergence.tolist() == [SYMMETRIC_KL_CAP, 0.0, 0.0]


def test_wide_bounds_count_as_none_and_log_stddev_is_held() -> None:
    spec = ActionSpec((Box((-3.4e38,), (3.4e38,)),))
    family = ActionFamily(spec)
    assert family.bind(torch.tensor([[0.25, 0.0]])).argmax().item() == 0.25
    narrow = family.bind(torch.tensor([[0.0, -100.0]]))
    assert narrow.log_prob(torch.zeros(1, 1)).item() == pytest.approx(-math.log(1e-4 * math.sqrt(2 * math.pi)))


def test_tanh_scale_squashes_means() -> None:
    spec = ActionSpec((Box((-1.0,), (1.0,)),))
    params = torch.tensor([[50.0, 0.0], [0.1, 0.0]])
    means = ActionFamily(spec, tanh_scale=2.0).bind(params).argmax().flatten()
    assert means.tolist() == pytest.approx([2.0, 2.0 * math.tanh(0.05)])


def test_leading_dimensions_are_kept() -> None:
    params = random_params(MIXED).float()
    distribution = ActionFamily(MIXED).bind(params.view(1, ROWS, -1).expand(3, -1, -1))
    actions = distribution.sample(torch.Generator().manual_seed(0))
    assert actions.shape == (3, ROWS, MIXED.width)
    for values in (distribution.log_prob(actions), distribution.entropy()):
        assert values.shape == (3, ROWS)
