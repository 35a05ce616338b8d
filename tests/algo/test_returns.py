"""Returns and advantages against plain loops in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sf_algo.learner.returns import Transitions, generalized_advantages, reverse_scan, vtrace

Array = NDArray[np.float64]
T, B = 12, 40
GAMMA, LAMBDA = 0.97, 0.9


@dataclass(frozen=True)
class Trajectories:
    rewards: Array
    values: Array
    behind: Array
    ratios: Array
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    reset_after: NDArray[np.bool_]

    def transitions(self, value_bootstrap: bool = True) -> Transitions:
        return Transitions.of(
            terminated=torch.from_numpy(self.terminated),
            truncated=torch.from_numpy(self.truncated),
            reset_after=torch.from_numpy(self.reset_after),
            value_bootstrap=value_bootstrap,
        )


def random_trajectories(seed: int = 0) -> Trajectories:
    """Terminations, truncations followed by filler rows, and environments that broke."""
    rng = np.random.default_rng(seed)
    terminated, truncated, reset_after = (np.zeros((T, B), bool) for _ in range(3))
    for b in range(B):
        filler = False
        for t in range(T):
            if filler:
                reset_after[t, b], filler = True, False
                continue
            kind = rng.choice(["go on", "terminated", "truncated", "broken"], p=[0.6, 0.2, 0.15, 0.05])
            terminated[t, b] = kind == "terminated"
            truncated[t, b] = filler = kind == "truncated"
            reset_after[t, b] = kind in ("terminated", "broken")
    assert terminated.any()
    assert truncated.any()
    assert truncated[T - 1].any()
    normal = rng.standard_normal
    return Trajectories(
        rewards=normal((T, B)),
        values=normal((T, B)),
        behind=normal(B),
        ratios=np.exp(normal((T, B))),
        terminated=terminated,
        truncated=truncated,
        reset_after=reset_after,
    )


def tensors(data: Trajectories) -> dict[str, torch.Tensor]:
    return {
        "rewards": torch.from_numpy(data.rewards),
        "values": torch.from_numpy(data.values),
        "bootstrap_values": torch.from_numpy(data.behind),
    }


def next_value(data: Trajectories, t: int, b: int, value_bootstrap: bool) -> float:
    if data.terminated[t, b] or (data.truncated[t, b] and not value_bootstrap):
        return 0.0
    return float(data.values[t + 1, b] if t + 1 < T else data.behind[b])


def kind_of_step(data: Trajectories, t: int, b: int) -> str:
    if data.terminated[t, b] or data.truncated[t, b]:
        return "ended"
    return "abandoned" if data.reset_after[t, b] else "goes on"


def gae_reference(data: Trajectories, value_bootstrap: bool) -> Array:
    advantages = np.zeros((T, B))
    for b in range(B):
        following = 0.0
        for t in reversed(range(T)):
            delta = data.rewards[t, b] + GAMMA * next_value(data, t, b, value_bootstrap) - data.values[t, b]
            kind = kind_of_step(data, t, b)
            if kind == "abandoned":
                following = 0.0
            elif kind == "ended":
                following = delta
            else:
                following = delta + GAMMA * LAMBDA * following
            advantages[t, b] = following
    return advantages


def vtrace_reference(data: Trajectories, rho_clip: float, c_clip: float, lam: float) -> tuple[Array, Array]:
    """v_s written as the sum of eq. 1 of the paper, without any recurrence."""
    targets, advantages = np.zeros((T, B)), np.zeros((T, B))
    for b in range(B):
        for s in range(T):
            total, weight = data.values[s, b], 1.0
            for t in range(s, T):
                kind = kind_of_step(data, t, b)
                if kind == "abandoned":
                    break
                rho = min(rho_clip, data.ratios[t, b])
                delta = data.rewards[t, b] + GAMMA * next_value(data, t, b, True) - data.values[t, b]
                total += weight * rho * delta
                if kind == "ended":
                    break
                weight *= GAMMA * lam * min(c_clip, data.ratios[t, b])
            targets[s, b] = total
        for s in range(T):
            kind = kind_of_step(data, s, b)
            if kind == "abandoned":
                continue
            following = next_value(data, s, b, True)
            if kind == "goes on" and s + 1 < T:
                following = lam * targets[s + 1, b] + (1.0 - lam) * data.values[s + 1, b]
            rho = min(rho_clip, data.ratios[s, b])
            advantages[s, b] = rho * (data.rewards[s, b] + GAMMA * following - data.values[s, b])
    return targets, advantages


@pytest.mark.parametrize("value_bootstrap", [True, False])
def test_gae_against_reference(value_bootstrap: bool) -> None:
    data = random_trajectories()
    out = generalized_advantages(
        **tensors(data), transitions=data.transitions(value_bootstrap), gamma=GAMMA, gae_lambda=LAMBDA
    )
    expected = gae_reference(data, value_bootstrap)
    np.testing.assert_allclose(out.advantages, expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(out.targets, expected + data.values, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("rho_clip", "c_clip", "lam"), [(1.0, 1.0, 1.0), (2.0, 0.7, 1.0), (1.0, 1.5, 0.8)])
def test_vtrace_against_the_sum_of_the_paper(rho_clip: float, c_clip: float, lam: float) -> None:
    data = random_trajectories(1)
    out = vtrace(
        **tensors(data),
        ratios=torch.from_numpy(data.ratios),
        transitions=data.transitions(),
        gamma=GAMMA,
        rho_clip=rho_clip,
        c_clip=c_clip,
        trace_lambda=lam,
    )
    targets, advantages = vtrace_reference(data, rho_clip, c_clip, lam)
    np.testing.assert_allclose(out.targets, targets, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(out.advantages, advantages, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("lam", [0.0, LAMBDA, 1.0])
def test_on_policy_vtrace_is_generalized_advantage_estimation(lam: float) -> None:
    data = random_trajectories(2)
    transitions = data.transitions()
    out = vtrace(
        **tensors(data),
        ratios=torch.ones_like(torch.from_numpy(data.ratios)),
        transitions=transitions,
        gamma=GAMMA,
        rho_clip=1.0,
        c_clip=1.0,
        trace_lambda=lam,
    )
    expected = generalized_advantages(**tensors(data), transitions=transitions, gamma=GAMMA, gae_lambda=lam)
    np.testing.assert_allclose(out.advantages, expected.advantages, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(out.targets, expected.targets, rtol=1e-6, atol=1e-7)


def test_on_policy_vtrace_is_the_discounted_return() -> None:
    rewards = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64)
    flags = torch.zeros(3, 1, dtype=torch.bool)
    transitions = Transitions.of(terminated=flags, truncated=flags, reset_after=flags, value_bootstrap=True)
    out = vtrace(
        rewards=rewards,
        values=torch.tensor([[7.0], [-3.0], [0.5]], dtype=torch.float64),
        bootstrap_values=torch.tensor([10.0], dtype=torch.float64),
        ratios=torch.ones(3, 1, dtype=torch.float64),
        transitions=transitions,
        gamma=0.5,
        rho_clip=1.0,
        c_clip=1.0,
    )
    last = 4.0 + 0.5 * 10.0
    expected = [1.0 + 0.5 * (2.0 + 0.5 * last), 2.0 + 0.5 * last, last]
    np.testing.assert_allclose(out.targets.flatten(), expected)
    # The last advantage sees the real value behind the rollout: it is no constant.
    np.testing.assert_allclose(out.advantages.flatten(), np.array(expected) - [7.0, -3.0, 0.5])


def test_time_limit_bootstraps_from_the_final_observation_only() -> None:
    """Row 1 is truncated, row 2 holds the final observation, row 3 begins another episode."""
    truncated = torch.tensor([[False], [True], [False], [False]])
    reset_after = torch.tensor([[False], [False], [True], [False]])
    never = torch.zeros(4, 1, dtype=torch.bool)
    values = torch.tensor([[0.0], [0.0], [8.0], [1000.0]])

    def advantage(value_bootstrap: bool) -> float:
        out = generalized_advantages(
            rewards=torch.ones(4, 1),
            values=values,
            bootstrap_values=torch.tensor([1000.0]),
            transitions=Transitions.of(
                terminated=never,
                truncated=truncated,
                reset_after=reset_after,
                value_bootstrap=value_bootstrap,
            ),
            gamma=0.5,
            gae_lambda=1.0,
        )
        return float(out.advantages[1, 0])

    assert advantage(True) == 1.0 + 0.5 * 8.0
    assert advantage(False) == 1.0


def test_reverse_scan_by_hand() -> None:
    out = reverse_scan(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[0.5], [0.0], [9.0]]))
    assert out.flatten().tolist() == [2.0, 2.0, 3.0]
