"""Acting without modules says exactly what the modules say."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sf_algo.envs.spec import ActionSpec
from sf_algo.model.actor import Actor
from sf_algo.model.perceptron import PerceptronPolicy
from tests.algo.model_cases import (
    CONTINUOUS,
    DICTIONARY,
    DISCRETE,
    IMAGE,
    MIXED,
    VECTOR,
    env_spec,
    learner_config,
    make_learner,
    make_model,
    model_config,
    random_batch,
    random_obs,
)

MODELS: list[dict[str, Any]] = [
    {},
    {"nonlinearity": "relu", "encoder_mlp_layers": (32, 8)},
    {"nonlinearity": "tanh", "decoder_mlp_layers": (12,)},
    {"adaptive_stddev": False, "encoder_mlp_layers": (512, 512)},
]
NORMALIZERS: list[dict[str, Any]] = [
    {},
    {"obs_subtract_mean": 0.5, "obs_scale": 2.0},
    {"normalize_input": True, "normalize_returns": True},
]


@pytest.mark.parametrize("normalizers", NORMALIZERS)
@pytest.mark.parametrize("actions", [DISCRETE, CONTINUOUS, MIXED])
@pytest.mark.parametrize("changes", MODELS)
def test_says_what_the_model_says(changes: dict[str, Any], actions: ActionSpec, normalizers: dict[str, Any]) -> None:
    spec = env_spec(VECTOR, actions, mask=actions.num_choices > 0)
    model = make_model(spec, model_config(**changes), **normalizers)
    policy = PerceptronPolicy.of(model)
    assert policy is not None
    learner = make_learner(spec, learner_config(), model)
    for agents in (1, 20):  # before and after the weights and statistics have changed
        obs = random_obs(spec, agents)
        with torch.inference_mode():
            expected = model.act(obs, torch.zeros(agents, 0))
            params, values = policy.act(obs)
        assert torch.equal(params, expected.action_params)
        assert torch.equal(values, expected.values)
        learner.train(random_batch(spec, model))


@pytest.mark.parametrize(
    ("obs", "changes"),
    [
        (IMAGE, {}),
        (DICTIONARY, {}),
        (VECTOR, {"use_rnn": True}),
        (VECTOR, {"use_spectral_norm": True}),
        (VECTOR, {"actor_critic_share_weights": False}),
    ],
)
def test_leaves_every_other_model_alone(obs: Any, changes: dict[str, Any]) -> None:
    assert PerceptronPolicy.of(make_model(env_spec(obs), model_config(**changes))) is None


def test_does_not_apply_in_another_precision() -> None:
    model = make_model(env_spec())
    policy = PerceptronPolicy.of(model)
    assert policy is not None
    assert policy.applies
    model.use_bf16(True)
    assert not policy.applies


def test_the_actor_uses_it() -> None:
    spec = env_spec()
    model = make_model(spec)
    obs, states = random_obs(spec, 5), torch.zeros(5, 0)
    quick = Actor(model, seed=2).step(obs, states)
    slow = Actor(model, seed=2)
    slow._perceptron = None
    expected = slow.step(obs, states)
    assert torch.equal(quick.actions, expected.actions)
    assert torch.equal(quick.log_probs, expected.log_probs)
    assert torch.equal(quick.values, expected.values)
