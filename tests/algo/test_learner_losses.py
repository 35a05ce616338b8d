"""Losses against NumPy references in float64 and finite differences; schedules; which samples count."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sf_algo.envs.spec import ActionSpec, Box, Discrete
from sf_algo.learner.batch import TrajectoryBatch
from sf_algo.learner.losses import (
    MAX_RATIO,
    MIN_RATIO,
    Losses,
    LossWeights,
    Ratios,
    kl_estimate,
    ppo_losses,
    standardized,
)
from sf_algo.learner.lr_schedule import LearningRate, adapted
from sf_algo.learner.samples import minibatches, scaled_rewards, validity
from sf_algo.model.distributions import ActionFamily
from tests.algo.model_cases import env_spec, learner_config

Array = NDArray[np.float64]
T, B = 5, 4
SPEC = ActionSpec((Discrete(3), Box((-1.0,), (1.0,))))
FAMILY = ActionFamily(SPEC)


def weights(**changes: object) -> LossWeights:
    values: dict[str, object] = {
        "ppo_clip_ratio": 0.1,
        "ppo_clip_value": 0.2,
        "value_loss_coeff": 0.5,
        "exploration_loss": "entropy",
        "exploration_loss_coeff": 0.01,
        "kl_loss_coeff": 0.3,
    }
    return LossWeights(**{**values, **changes})  # type: ignore[arg-type]


class Case:
    """Random inputs of the losses."""

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.params = normal(T, B, FAMILY.num_params)
        old = FAMILY.bind(self.params + 0.1 * normal(*self.params.shape))
        self.actions = old.sample(generator)
        self.old_log_probs = old.log_prob(self.actions)
        self.values, self.targets, self.advantages = normal(T, B), normal(T, B), normal(T, B)
        self.old_values = self.values + 0.3 * normal(T, B)
        self.valid = torch.rand(T, B, generator=generator) < 0.7
        self.valid[0, 0], self.valid[1, 1] = True, False

    def losses(self, params: Tensor, values: Tensor, loss_weights: LossWeights) -> Losses:
        distribution = FAMILY.bind(params)
        everything = torch.ones(T, B, dtype=torch.bool)
        return ppo_losses(
            distribution=distribution,
            ratios=Ratios.of(distribution.log_prob(self.actions), self.old_log_probs, everything),
            advantages=self.advantages,
            values=values,
            old_values=self.old_values,
            targets=self.targets,
            valid=self.valid.double(),
            weights=loss_weights,
        )


def test_losses_against_reference() -> None:
    case = Case()
    out = case.losses(case.params, case.values, weights())
    valid = case.valid.numpy()
    distribution = FAMILY.bind(case.params)
    ratio = np.exp((distribution.log_prob(case.actions) - case.old_log_probs).numpy())[valid]
    advantages = case.advantages.numpy()[valid]
    clipped = np.clip(ratio, 1 / 1.1, 1.1)
    policy = -np.minimum(ratio * advantages, clipped * advantages).mean()
    value, old, target = (x.numpy()[valid] for x in (case.values, case.old_values, case.targets))
    moved = old + np.clip(value - old, -0.2, 0.2)
    value_loss = 0.5 * np.maximum((value - target) ** 2, (moved - target) ** 2).mean()
    entropy = -0.01 * distribution.entropy().numpy()[valid].mean()
    divergence = (ratio - 1 - np.log(ratio)).mean()
    for own, expected in (
        (out.policy, policy),
        (out.value, value_loss),
        (out.exploration, entropy),
        (out.kl, 0.3 * divergence),
        (out.kl_divergence, divergence),
        (out.total, policy + value_loss + entropy + 0.3 * divergence),
    ):
        assert own.item() == pytest.approx(expected, rel=1e-10)
    assert (clipped != ratio).any()
    assert (moved != value).any()


def test_symmetric_kl_as_exploration_loss() -> None:
    case = Case()
    chosen = weights(exploration_loss="symmetric_kl", exploration_loss_coeff=0.5)
    out = case.losses(case.params, case.values, chosen)
    divergence = FAMILY.bind(case.params).symmetric_kl_to_uniform()[case.valid].mean()
    assert out.exploration.item() == pytest.approx(0.5 * divergence.item(), rel=1e-10)


@pytest.mark.parametrize("kind", ["entropy", "symmetric_kl"])
def test_gradients_are_finite_differences(kind: str) -> None:
    case = Case(2)

    def total(params: Tensor, values: Tensor) -> Tensor:
        return case.losses(params, values, weights(exploration_loss=kind)).total

    inputs = (case.params.requires_grad_(), case.values.requires_grad_())
    assert torch.autograd.gradcheck(total, inputs)


def test_invalid_samples_have_no_gradient_and_no_influence() -> None:
    case = Case()
    params, values = case.params.clone().requires_grad_(), case.values.clone().requires_grad_()
    loss = case.losses(params, values, weights()).total
    gradients = torch.autograd.grad(loss, [params, values])
    assert all((gradient[~case.valid] == 0).all() for gradient in gradients)
    assert all((gradient[case.valid] != 0).any() for gradient in gradients)
    for x in (case.params, case.values, case.targets, case.old_values, case.old_log_probs, case.advantages):
        x[~case.valid] += 3.0
    assert case.losses(case.params, case.values, weights()).total.item() == pytest.approx(loss.item())


def test_ratios_are_cut_and_the_gradient_stays_finite() -> None:
    log_probs = torch.tensor([500.0, -500.0, 0.1, 7.0], requires_grad=True)
    played = torch.tensor([True, True, True, False])
    ratios = Ratios.of(log_probs, torch.zeros(4), played)
    assert ratios.ratios.tolist() == pytest.approx([MAX_RATIO, MIN_RATIO, math.exp(0.1), 1.0])
    (gradient,) = torch.autograd.grad(ratios.ratios.sum(), log_probs)
    assert gradient.tolist() == pytest.approx([0.0, 0.0, math.exp(0.1), 0.0])


@pytest.mark.parametrize("difference", [-40.0, -5.0, -2.9, 0.0, 2.9, 3.5, 40.0])
def test_the_divergence_draws_back_however_far_away_a_policy_is(difference: float) -> None:
    log_probs = torch.full((1, 1), difference, requires_grad=True)
    estimate = kl_estimate(Ratios.of(log_probs, torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool)))
    torch.autograd.backward(estimate.sum())
    assert log_probs.grad is not None
    # (r - 1) - log r has the gradient r - 1, up to where ratios are cut: from there on it stays what it is.
    expected = math.exp(min(difference, math.log(20.0))) - 1.0
    assert log_probs.grad.item() == pytest.approx(expected, abs=1e-5)
    if difference < math.log(20.0):
        assert estimate.item() == pytest.approx(math.exp(difference) - 1.0 - difference, rel=1e-5, abs=1e-6)


def test_the_divergence_of_forbidden_actions_is_finite() -> None:
    far = torch.tensor([[-1e9, 1e9]])
    estimate = kl_estimate(Ratios.of(far, torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool)))
    assert torch.isfinite(estimate).all()


def test_kl_estimate_converges_to_the_divergence() -> None:
    family = ActionFamily(ActionSpec((Discrete(4),)))
    draws = 100_000
    old = family.bind(torch.tensor([0.3, -0.2, 0.5, 0.0]).expand(draws, -1))
    new = family.bind(torch.tensor([0.1, 0.1, 0.2, -0.4]).expand(draws, -1))
    actions = old.sample(torch.Generator().manual_seed(0))
    played = torch.ones(draws, dtype=torch.bool)
    estimate = kl_estimate(Ratios.of(new.log_prob(actions), old.log_prob(actions), played))
    assert (estimate >= -1e-6).all()
    assert estimate.mean().item() == pytest.approx(old.kl(new)[0].item(), rel=0.02)


def test_standardized_over_the_valid_samples() -> None:
    case = Case()
    out = standardized(case.advantages, case.valid.double()).numpy()
    chosen = case.advantages.numpy()[case.valid.numpy()]
    expected = (chosen - chosen.mean()) / chosen.std(ddof=1)
    np.testing.assert_allclose(out[case.valid.numpy()], expected, rtol=1e-10)
    alone = torch.zeros(T, B)
    alone[2, 2] = 1.0
    assert torch.isfinite(standardized(case.advantages.float(), alone)).all()


class TestLearningRate:
    def test_adaptive_steps_and_bounds(self) -> None:
        def after(kl: float, lr: float = 1e-3) -> float:
            return adapted(lr, kl, threshold=0.01, lowest=1e-5, highest=2e-3)

        assert after(0.021) == pytest.approx(1e-3 / 1.5)
        assert after(0.02) == 1e-3
        assert after(0.005) == 1e-3
        assert after(0.0049) == pytest.approx(1.5e-3)
        assert after(1.0, 1.2e-5) == 1e-5
        assert after(0.0, 1.9e-3) == 2e-3

    def test_each_schedule_listens_to_its_own_signal(self) -> None:
        large = torch.tensor(1.0)
        for schedule, expected in (
            ("constant", (1e-3, 1e-3)),
            ("kl_adaptive_minibatch", (1e-3 / 1.5, 1e-3 / 1.5)),
            ("kl_adaptive_epoch", (1e-3, 1e-3 / 1.5)),
            ("linear_decay", (1e-3, 1e-3)),
        ):
            rate = LearningRate(learner_config(lr_schedule=schedule), 100)
            rate.after_minibatch(large)
            first = rate.value
            rate.after_epoch([large, torch.tensor(0.0)])
            assert (first, rate.value) == pytest.approx(expected), schedule

    def test_linear_decay_follows_the_frames(self) -> None:
        rate = LearningRate(learner_config(lr_schedule="linear_decay"), 1000)
        values = []
        for env_steps in (0, 250, 1000, 1200):
            rate.begin(env_steps)
            values.append(rate.value)
        assert values == pytest.approx([1e-3, 0.75e-3, 0.0, 0.0])

    def test_new_hyperparameters_keep_an_adapted_rate_unless_they_change_it(self) -> None:
        cfg = learner_config(lr_schedule="kl_adaptive_minibatch")
        rate = LearningRate(cfg, None)
        rate.after_minibatch(torch.tensor(1.0))
        rate.set_config(learner_config(lr_schedule="kl_adaptive_minibatch", gamma=0.5))
        assert rate.value == pytest.approx(1e-3 / 1.5)
        rate.set_config(learner_config(lr_schedule="kl_adaptive_minibatch", learning_rate=0.5))
        assert rate.value == 0.5


class TestValidity:
    def batch(self) -> TrajectoryBatch:
        batch = TrajectoryBatch.allocate(env_spec(), rollout=3, num_trajectories=4, rnn_state_size=0)
        batch.valid.fill_(True)
        batch.policy_version.fill_(95)
        return batch

    def judge(
        self, batch: TrajectoryBatch, *, max_policy_lag: int = 10, born_version: int = 0
    ) -> tuple[list[list[bool]], list[int], tuple[float, float, float]]:
        out = validity(batch, policy_id=0, policy_version=100, max_policy_lag=max_policy_lag, born_version=born_version)
        return out.valid.tolist(), out.kept.tolist(), out.lags

    def test_filler_foreign_and_stale_samples(self) -> None:
        batch = self.batch()
        batch.valid[1, 0] = False
        batch.policy_id[2, 1] = 3
        batch.policy_version[0, 2] = 90  # lag 10 is too old, 9 is not
        batch.policy_version[1, 2] = 91
        valid, kept, lags = self.judge(batch)
        assert valid == [[True, True, False, True], [False, True, True, True], [True, False, True, True]]
        assert kept == [0, 1, 2, 3]
        assert lags[1] == pytest.approx((8 * 5 + 10 + 9) / 10)
        assert (lags[0], lags[2]) == (5.0, 10.0)

    def test_a_trajectory_whose_newest_sample_is_too_old_is_dropped_whole(self) -> None:
        batch = self.batch()
        batch.policy_version[:, 1] = torch.tensor([88, 89, 90])
        valid, kept, _ = self.judge(batch)
        assert [row[1] for row in valid] == [False, False, False]
        assert kept == [0, 2, 3]

    def test_nothing_of_what_the_policy_was_before_it_became_another(self) -> None:
        """However large the lag may be."""
        batch = self.batch()
        batch.policy_version[:, 2] = torch.tensor([95, 96, 97])
        valid, kept, _ = self.judge(batch, max_policy_lag=9999, born_version=96)
        assert valid == [[False] * 4, [False, False, True, False], [False, False, True, False]]
        assert kept == [2]

    def test_nothing_but_the_policy_as_it_is(self) -> None:
        batch = self.batch()
        batch.policy_version[:, 1] = torch.tensor([99, 100, 101])
        valid, kept, lags = self.judge(batch, max_policy_lag=1)
        assert valid == [[False] * 4, [False, True, False, False], [False] * 4]
        assert kept == [1]
        assert (lags[0], lags[2]) == (-1.0, 5.0)

    def test_nothing_of_ours(self) -> None:
        batch = self.batch()
        batch.policy_id.fill_(1)
        _, kept, lags = self.judge(batch)
        assert kept == []
        assert lags == (0.0, 0.0, 0.0)


class TestMinibatches:
    def cut(self, kept: list[int], size: int, total: int = 10) -> list[list[int] | None]:
        parts = minibatches(torch.tensor(kept), size, torch.Generator().manual_seed(0), total=total)
        return [None if part is None else part.tolist() for part in parts]

    def test_one_minibatch_is_the_batch_itself(self) -> None:
        assert self.cut(list(range(10)), 10) == [None]
        assert self.cut([1, 4, 7], 10) == [[1, 4, 7]]
        assert self.cut([], 10) == []

    def test_several_are_shuffled_and_of_nearly_equal_size(self) -> None:
        parts = self.cut([0, 1, 2, 3, 5, 6, 7, 9], 3)
        sizes = [len(part) for part in parts if part is not None]
        together = [b for part in parts if part is not None for b in part]
        assert sizes == [3, 3, 2]
        assert sorted(together) == [0, 1, 2, 3, 5, 6, 7, 9]
        assert together != sorted(together)

    def test_of_batches_that_vary_they_are_as_near_to_the_size_as_can_be(self) -> None:
        for kept, sizes in ((1, [1]), (4, [4]), (5, [5]), (6, [3, 3]), (9, [5, 4]), (10, [4, 3, 3]), (0, [])):
            parts = minibatches(torch.arange(kept), 4, torch.Generator(), total=20, nearest=True)
            assert [len(part) for part in parts if part is not None] == sizes


def test_rewards_are_scaled_then_clipped() -> None:
    rewards = torch.tensor([[1.0, -30.0, 0.2]])
    assert scaled_rewards(rewards, 2.0, 5.0).tolist() == [[2.0, -5.0, pytest.approx(0.4)]]
    assert rewards[0, 1].item() == -30.0
