"""Determinism, resuming, and the optimizer's state."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import pytest
import torch

from sf_algo.errors import CheckpointMismatchError
from sf_algo.learner.learner import Learner
from sf_algo.learner.optimizer import GuardedAdam
from tests.algo.model_cases import (
    MIXED,
    VECTOR,
    T,
    assert_same,
    env_spec,
    learner_config,
    make_learner,
    make_model,
    model_config,
    random_batch,
    random_obs,
    weights_of,
)

RECURRENT = model_config(use_rnn=True, rnn_type="gru")


VARIANTS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "gru, v-trace": (RECURRENT, {}, {}),
    "lstm, several epochs and minibatches": (
        model_config(use_rnn=True, rnn_type="lstm"),
        {"ppo_epochs": 2, "batch_size": T * 3},
        {},
    ),
    "mlp, gae, normalizers, adaptive rate": (
        model_config(),
        {
            "with_vtrace": False,
            "lr_schedule": "kl_adaptive_minibatch",
            "batch_size": T * 4,
            "recurrence": 1,
            "normalize_returns": True,
        },
        {"normalize_input": True, "normalize_returns": True},
    ),
    "spectral norm": (
        model_config(use_spectral_norm=True),
        {"ppo_epochs": 2, "normalize_returns": True},
        {"normalize_returns": True},
    ),
}


def build(variant: str, seed: int = 0) -> tuple[Learner, Any]:
    model_cfg, changes, options = VARIANTS[variant]
    spec = env_spec(VECTOR, MIXED)
    model = make_model(spec, model_cfg, **options)
    return make_learner(spec, learner_config(**changes), model, seed=seed), spec


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_runs_are_bit_identical(variant: str) -> None:
    results = []
    for _ in range(2):
        learner, spec = build(variant)
        losses = [learner.train(random_batch(spec, learner.model, seed=k)).summaries for k in range(3)]
        results.append((losses, weights_of(learner)))
    assert results[0][0] == results[1][0]
    assert_same(results[0][1], results[1][1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_resumed_training_equals_an_uninterrupted_one(variant: str) -> None:
    learner, spec = build(variant)
    learner.train(random_batch(spec, learner.model, seed=1))
    file = io.BytesIO()
    torch.save(learner.state_dict(), file)
    file.seek(0)
    resumed, _ = build(variant, seed=99)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert resumed.policy_version == learner.policy_version > 0
    for k in (2, 3):
        batch = random_batch(spec, learner.model, seed=k)
        assert learner.train(batch).summaries == resumed.train(batch).summaries
    assert_same(weights_of(learner), weights_of(resumed))
    assert learner.learning_rate == resumed.learning_rate


def test_training_goes_on_from_moments_in_another_memory_order() -> None:
    learner, spec = build("gru, v-trace")
    learner.train(random_batch(spec, learner.model, seed=1))
    state = learner.state_dict()
    moments = state["optimizer"]
    assert not all(mean.is_contiguous() for mean in moments["means"])
    for name in ("means", "squares"):
        moments[name] = [moment.contiguous() for moment in moments[name]]
    resumed, _ = build("gru, v-trace")
    resumed.load_state_dict(state)
    batch = random_batch(spec, learner.model, seed=2)
    learner.train(batch)
    resumed.train(batch)
    assert_same(weights_of(learner), weights_of(resumed))


def test_loading_copies() -> None:
    learner, spec = build("gru, v-trace")
    learner.train(random_batch(spec, learner.model, seed=1))
    other, _ = build("gru, v-trace")
    other.load_state_dict(learner.state_dict())
    before = [mean.clone() for mean in learner.state_dict()["optimizer"]["means"]]
    other.train(random_batch(spec, other.model, seed=2))
    after = learner.state_dict()["optimizer"]["means"]
    assert all(torch.equal(mean, old) for mean, old in zip(after, before, strict=True))


def test_checkpoint_of_another_network_is_refused_by_name() -> None:
    spec = env_spec()
    learner = make_learner(spec, learner_config(), make_model(spec))
    other = make_learner(spec, learner_config(), make_model(spec, model_config(hidden_size=8)))
    with pytest.raises(CheckpointMismatchError, match=r"layers\.0\.weight is \(8, 4\) instead of \(16, 4\)"):
        learner.load_state_dict(other.state_dict())
    recurrent = make_learner(spec, learner_config(), make_model(spec, RECURRENT))
    with pytest.raises(CheckpointMismatchError, match=r"core\.rnn\.weight_ih_l0 is unknown"):
        learner.load_state_dict(recurrent.state_dict())


def test_adam_equals_torch() -> None:
    spec = env_spec()
    own, theirs = make_model(spec), make_model(spec)
    cfg = learner_config(learning_rate=1e-2, adam_beta1=0.8, adam_beta2=0.95, adam_eps=1e-3, max_grad_norm=0.1)
    guarded = GuardedAdam(own, cfg)
    adam = torch.optim.Adam(theirs.parameters(), lr=1e-2, betas=(0.8, 0.95), eps=1e-3)
    for k in range(5):
        obs, states = random_obs(spec, 9, seed=k), torch.zeros(9, 0)
        losses = [model.act(obs, states).values.square().mean() for model in (own, theirs)]
        guarded.backward_and_step(losses[0], 1e-2)
        adam.zero_grad()
        torch.autograd.backward(losses[1])
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.1)
        adam.step()
    for mine, other in zip(own.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_training_does_not_import_the_compiler() -> None:
    """It would cost every start a second and 100 MB."""
    program = (
        "import sys; from tests.algo.model_cases import *; spec = env_spec(); model = make_model(spec);"
        "make_learner(spec, learner_config(), model).train(random_batch(spec, model));"
        "print(sorted(m for m in sys.modules if m in ('torch._dynamo', 'sympy', 'torch.distributed.tensor')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
