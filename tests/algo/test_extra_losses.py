"""Losses of users beside those of PPO."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sf_algo.errors import ModelError
from sf_algo.learner.extra_losses import ExtraLosses, Output
from tests.algo.model_cases import env_spec, learner_config, make_learner, make_model, random_batch

SPEC = env_spec()


def push(model: Any, batch: Any, output: Output, strength: Any) -> dict[str, Tensor]:
    """Wants the values to be large."""
    return {"push": -strength * output.mean(output.values), "zero": torch.zeros(1)}


def large_value_after(strength: float | None) -> tuple[float, dict[str, float]]:
    """Mean value of the network after 20 updates."""
    paths = () if strength is None else (f"{__name__}:push",)
    model = make_model(SPEC)
    learner = make_learner(
        SPEC,
        learner_config(learning_rate=1e-2),
        model,
        extra_losses=ExtraLosses(paths, {"strength": strength, "unused": 3}),
    )
    batch = random_batch(SPEC, model)
    for _ in range(20):
        stats = learner.train(batch)
    obs = {name: x.flatten(0, 1) for name, x in batch.obs.items()}
    return model.act(obs, torch.zeros(len(obs["obs"]), model.rnn_state_size)).values.mean().item(), dict(
        stats.summaries
    )


def test_their_gradients_count_and_their_values_are_shown() -> None:
    plain, before = large_value_after(None)
    pushed, after = large_value_after(5.0)
    assert pushed > plain + 0.5
    assert after.keys() - before.keys() == {"loss_push", "loss_zero"}
    assert after["loss_push"] < 0
    parts = ("policy_loss", "value_loss", "exploration_loss", "kl_loss", "loss_push", "loss_zero")
    assert after["loss"] == pytest.approx(sum(after[name] for name in parts), rel=1e-4)


def test_none_is_as_it_was() -> None:
    assert large_value_after(None) == large_value_after(None)
    assert large_value_after(0.0)[0] == large_value_after(None)[0]


def test_what_is_no_loss() -> None:
    with pytest.raises(ModelError, match="--extra_losses=nowhere:loss: cannot be imported"):
        ExtraLosses(["nowhere:loss"], {})
    with pytest.raises(ModelError, match="is a int, nothing that can be called"):
        ExtraLosses(["sys:maxsize"], {})
