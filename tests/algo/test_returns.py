"""Returns and advantages against plain loops in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sf_algo.learner.returns import Returns, Transitions, generalized_advantages, reverse_scan, vtrace

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
    played: NDArray[np.bool_]

    def transitions(self, value_bootstrap: bool = True) -> Transitions:
        return Transitions.of(
            terminated=torch.from_numpy(self.terminated),
            truncated=torch.from_numpy(self.truncated),
            reset_after=torch.from_numpy(self.reset_after),
            played=torch.from_numpy(self.played),
            value_bootstrap=value_bootstrap,
        )


def random_trajectories(seed: int = 0, *, pauses: bool = False) -> Trajectories:
    """Terminations, truncations followed by filler rows, environments that broke and, with `pauses`, agents that are
    out of the game for some steps, in which their environment may end, too."""
    rng = np.random.default_rng(seed)
    terminated, truncated, reset_after = (np.zeros((T, B), bool) for _ in range(3))
    played = np.ones((T, B), bool)
    for b in range(B):
        filler = out = False
        for t in range(T):
            if filler:
                reset_after[t, b], played[t, b], filler = True, False, False
                continue
            out = pauses and rng.random() < (0.6 if out else 0.2)
            played[t, b] = not out
            kind = rng.choice(["go on", "terminated", "truncated", "broken"], p=[0.6, 0.2, 0.15, 0.05])
            terminated[t, b] = kind == "terminated"
            truncated[t, b] = filler = kind == "truncated"
            reset_after[t, b] = kind in ("terminated", "broken")
            out = out and kind == "go on"
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
        played=played,
    )


def without_pauses(data: Trajectories, b: int) -> tuple[list[int], Trajectories]:
    """Trajectory b as if the rows in which its agent was out of the game were not there, and the rows that are left. An
    end that the agent did not live to see is the end of its last action."""
    terminated, truncated = data.terminated[:, b].copy(), data.truncated[:, b].copy()
    kept: list[int] = []
    for t in range(T):
        abandoned = data.reset_after[t, b] and not data.terminated[t, b] and not data.truncated[t, b]
        final_observation = t > 0 and data.truncated[t - 1, b]
        if data.played[t, b] or abandoned or final_observation:
            kept.append(t)
        elif kept and data.played[kept[-1], b] and not (terminated | truncated | data.reset_after[:, b])[kept[-1]]:
            terminated[kept[-1]], truncated[kept[-1]] = terminated[t], truncated[t]
    rows = np.array(kept, int)
    left = Trajectories(
        rewards=data.rewards[rows][:, [b]],
        values=data.values[rows][:, [b]],
        behind=data.behind[[b]],
        ratios=data.ratios[rows][:, [b]],
        terminated=terminated[rows, None],
        truncated=truncated[rows, None],
        reset_after=data.reset_after[rows][:, [b]],
        played=data.played[rows][:, [b]],
    )
    return kept, left


def tensors(data: Trajectories) -> dict[str, torch.Tensor]:
    return {
        "rewards": torch.from_numpy(data.rewards),
        "values": torch.from_numpy(data.values),
        "bootstrap_values": torch.from_numpy(data.behind),
    }


def next_value(data: Trajectories, t: int, b: int, value_bootstrap: bool) -> float:
    if data.terminated[t, b] or (data.truncated[t, b] and not value_bootstrap):
        return 0.0
    return float(data.values[t + 1, b] if t + 1 < len(data.values) else data.behind[b])


def kind_of_step(data: Trajectories, t: int, b: int) -> str:
    if data.terminated[t, b] or data.truncated[t, b]:
        return "ended"
    return "abandoned" if data.reset_after[t, b] else "goes on"


def gae_reference(data: Trajectories, value_bootstrap: bool) -> Array:
    advantages = np.zeros_like(data.rewards)
    steps, trajectories = advantages.shape
    for b in range(trajectories):
        following = 0.0
        for t in reversed(range(steps)):
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
    targets, advantages = np.zeros_like(data.rewards), np.zeros_like(data.rewards)
    steps, trajectories = targets.shape
    for b in range(trajectories):
        for s in range(steps):
            total, weight = data.values[s, b], 1.0
            for t in range(s, steps):
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
        for s in range(steps):
            kind = kind_of_step(data, s, b)
            if kind == "abandoned":
                continue
            following = next_value(data, s, b, True)
            if kind == "goes on" and s + 1 < steps:
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


def test_advantages_without_the_weight_of_v_trace() -> None:
    """For an objective that weighs them by the ratio itself: the targets stay, and rho times them are the others."""
    data = random_trajectories(5)
    ratios = torch.from_numpy(data.ratios)

    def returns(weigh: bool) -> Returns:
        return vtrace(
            **tensors(data),
            ratios=ratios,
            transitions=data.transitions(),
            gamma=GAMMA,
            rho_clip=1.0,
            c_clip=1.0,
            trace_lambda=0.95,
            weigh_advantages=weigh,
        )

    weighed, bare = returns(True), returns(False)
    assert torch.equal(bare.targets, weighed.targets)
    torch.testing.assert_close(ratios.clamp(max=1.0) * bare.advantages, weighed.advantages)


@pytest.mark.parametrize("value_bootstrap", [True, False])
def test_rows_of_an_agent_that_is_out_of_the_game_are_as_if_they_were_not_there(value_bootstrap: bool) -> None:
    data = random_trajectories(4, pauses=True)
    gae = generalized_advantages(
        **tensors(data), transitions=data.transitions(value_bootstrap), gamma=GAMMA, gae_lambda=LAMBDA
    )
    traced = vtrace(
        **tensors(data),
        ratios=torch.from_numpy(data.ratios),
        transitions=data.transitions(),
        gamma=GAMMA,
        rho_clip=1.3,
        c_clip=0.9,
        trace_lambda=0.8,
    )
    compared = 0
    for b in range(B):
        kept, left = without_pauses(data, b)
        played = left.played[:, 0]
        rows = np.array(kept)[played]
        compared += len(rows)
        np.testing.assert_allclose(
            gae.advantages[rows, b], gae_reference(left, value_bootstrap)[played, 0], rtol=1e-6, atol=1e-7
        )
        targets, advantages = vtrace_reference(left, 1.3, 0.9, 0.8)
        np.testing.assert_allclose(traced.targets[rows, b], targets[played, 0], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(traced.advantages[rows, b], advantages[played, 0], rtol=1e-6, atol=1e-7)
    assert T * B / 2 < compared < T * B


def test_neither_values_nor_rewards_of_skipped_rows_reach_their_neighbours() -> None:
    """Rows 1 and 2 are spent waiting for the respawn; their value was never trained."""
    never = torch.zeros(4, 1, dtype=torch.bool)
    played = torch.tensor([[True], [False], [False], [True]])
    out = generalized_advantages(
        rewards=torch.tensor([[1.0], [50.0], [50.0], [2.0]]),
        values=torch.tensor([[0.0], [100.0], [100.0], [4.0]]),
        bootstrap_values=torch.tensor([8.0]),
        transitions=Transitions.of(
            terminated=never, truncated=never, reset_after=never, played=played, value_bootstrap=True
        ),
        gamma=0.5,
        gae_lambda=1.0,
    )
    assert out.targets[[0, 3], 0].tolist() == [1.0 + 0.5 * (2.0 + 0.5 * 8.0), 2.0 + 0.5 * 8.0]


def test_an_agent_that_is_truncated_alone_bootstraps_from_its_final_observation() -> None:
    """Row 1 is its last action, row 2 holds its final observation; the others play on until row 3."""
    flags = torch.zeros(5, 1, dtype=torch.bool)
    truncated, reset_after, played = flags.clone(), flags.clone(), ~flags
    truncated[1] = reset_after[3] = True
    played[2:4] = False
    out = generalized_advantages(
        rewards=torch.ones(5, 1),
        values=torch.tensor([[0.0], [0.0], [8.0], [100.0], [1000.0]]),
        bootstrap_values=torch.tensor([1000.0]),
        transitions=Transitions.of(
            terminated=flags, truncated=truncated, reset_after=reset_after, played=played, value_bootstrap=True
        ),
        gamma=0.5,
        gae_lambda=1.0,
    )
    assert out.targets[:2, 0].tolist() == [1.0 + 0.5 * (1.0 + 0.5 * 8.0), 1.0 + 0.5 * 8.0]


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
    transitions = Transitions.of(
        terminated=flags, truncated=flags, reset_after=flags, played=~flags, value_bootstrap=True
    )
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
                played=~reset_after,
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
