"""Hyperparameters of one policy over the flags, and taking over what another policy has learned."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch

from sf_algo.errors import ConfigError
from sf_algo.learner.learner import Learner
from tests.algo.model_cases import (
    MIXED,
    VECTOR,
    assert_same,
    env_spec,
    learner_config,
    make_learner,
    make_model,
    model_config,
    random_batch,
    weights_of,
)

MUTATED = {"learning_rate": 3e-4, "ppo_clip_ratio": 0.17, "exploration_loss_coeff": 0.011, "max_grad_norm": 2.5}


def learner_of(seed: int = 0, **changes: Any) -> Learner:
    spec = env_spec(VECTOR, MIXED)
    return make_learner(spec, learner_config(**changes), make_model(spec, model_config()), seed=seed)


def train(learner: Learner, times: int = 2) -> None:
    spec = env_spec(VECTOR, MIXED)
    for k in range(times):
        learner.train(random_batch(spec, learner.model, seed=k))


def stored(learner: Learner) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(learner.state_dict(), buffer)
    buffer.seek(0)
    state: dict[str, Any] = torch.load(buffer, weights_only=True)
    return state


def shown(learner: Learner) -> dict[str, float]:
    return {name: getattr(learner.config, name) for name in MUTATED}


def test_overrides_reach_optimizer_and_loss() -> None:
    learner = learner_of(learning_rate=1e-3)
    learner.set_overrides({**MUTATED, "learning_rate": 0.0})
    before = weights_of(learner)
    spec = env_spec(VECTOR, MIXED)
    stats = learner.train(random_batch(spec, learner.model, seed=1))
    assert_same(before, weights_of(learner))  # a rate of 0 moves nothing
    assert stats.summaries["lr"] == 0.0


def test_the_gradient_is_clipped_by_the_override() -> None:
    learner = learner_of(max_grad_norm=4.0)
    learner.set_overrides({"max_grad_norm": 0.25})
    assert learner._optimizer._max_grad_norm == 0.25


def test_a_resumed_learner_has_the_mutated_values() -> None:
    learner = learner_of()
    learner.set_overrides(MUTATED)
    train(learner)
    resumed = learner_of()
    resumed.load_state_dict(stored(learner))
    assert shown(resumed) == MUTATED
    assert resumed.learning_rate == MUTATED["learning_rate"]
    assert stored(resumed)["overrides"] == MUTATED


def test_a_flag_that_was_changed_since_wins() -> None:
    learner = learner_of(learning_rate=1e-3)
    learner.set_overrides(MUTATED)
    resumed = learner_of(learning_rate=5e-3)
    resumed.load_state_dict(stored(learner))
    assert resumed.learning_rate == 5e-3
    assert shown(resumed) == {**MUTATED, "learning_rate": 5e-3}


def test_old_states_without_overrides_load() -> None:
    state = stored(learner_of())
    del state["overrides"], state["flag_values"]
    resumed = learner_of(learning_rate=7e-4)
    resumed.load_state_dict(state)
    assert resumed.learning_rate == 7e-4


def test_adopting_takes_what_was_learned_and_nothing_else() -> None:
    donor, receiver = learner_of(seed=1), learner_of(seed=2)
    train(donor, 3)
    receiver.set_overrides(MUTATED)
    generator = receiver.state_dict()["generator"].clone()
    receiver.adopt(stored(donor))
    assert_same(weights_of(donor), weights_of(receiver))
    mine, theirs = stored(receiver), stored(donor)
    assert_same(dict(enumerate(mine["optimizer"]["means"])), dict(enumerate(theirs["optimizer"]["means"])))
    assert torch.equal(mine["optimizer"]["steps"], theirs["optimizer"]["steps"])
    assert receiver.policy_version == 0 != donor.policy_version
    assert torch.equal(mine["generator"], generator)
    assert shown(receiver) == MUTATED


def test_an_adapted_rate_is_taken_over() -> None:
    donor = learner_of(lr_schedule="kl_adaptive_minibatch", learning_rate=1e-3)
    train(donor, 3)
    assert donor.learning_rate != 1e-3
    receiver = learner_of(lr_schedule="kl_adaptive_minibatch", learning_rate=1e-3)
    receiver.adopt(stored(donor))
    assert receiver.learning_rate == donor.learning_rate


@pytest.mark.parametrize("name", ["rollout", "learning_rat"])
def test_what_policies_cannot_differ_in_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        learner_of().set_overrides({name: 1})
