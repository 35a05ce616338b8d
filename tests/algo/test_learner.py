"""The learner as a whole: determinism, resuming, masking, schedules, and one update against a reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sf_algo.learner.batch import TrajectoryBatch
from sf_algo.model.actor_critic import ActorCritic
from tests.algo.model_cases import (
    CONTINUOUS,
    DISCRETE,
    IMAGE,
    VECTOR,
    B,
    T,
    assert_same,
    env_spec,
    learner_config,
    make_learner,
    make_model,
    model_config,
    random_batch,
    weights_of,
)

RECURRENT = model_config(use_rnn=True, rnn_type="gru")


def scramble(batch: TrajectoryBatch, columns: Tensor) -> None:
    """Nonsense in trajectories that must not matter."""
    for x in (batch.rewards, batch.values, batch.log_probs, batch.rnn_states, *batch.obs.values()):
        x[:, columns] = torch.randn(x[:, columns].shape, generator=torch.Generator().manual_seed(9)) * 50


@pytest.mark.parametrize("with_vtrace", [True, False])
def test_dropped_trajectories_do_not_matter(with_vtrace: bool) -> None:
    results = []
    for scrambled in (False, True):
        spec = env_spec()
        model = make_model(spec, RECURRENT, normalize_input=True, normalize_returns=True)
        cfg = learner_config(with_vtrace=with_vtrace, normalize_returns=True)
        learner = make_learner(spec, cfg, model, max_policy_lag=10)
        learner.policy_version = 20
        batch = random_batch(spec, model)
        batch.policy_version.fill_(19)
        batch.policy_version[:, 2] = 10  # too old
        batch.policy_id[:, 5] = 1  # somebody else's
        if scrambled:
            scramble(batch, torch.tensor([2, 5]))
        stats = learner.train(batch)
        assert stats.summaries["dropped_trajectories"] == 2.0
        results.append(weights_of(learner))
    assert_same(results[0], results[1])


def test_invalid_rows_do_not_matter_for_those_before_the_cut() -> None:
    """Filler rows enter the loss only through the value that bootstraps the truncated step."""
    spec = env_spec()
    grads = []
    for noise in (0.0, 5.0):
        model = make_model(spec)
        learner = make_learner(spec, learner_config(max_grad_norm=0.0, recurrence=1), model)
        batch = random_batch(spec, model)
        assert bool(batch.truncated[2, 0])
        batch.rewards[3, 0] += noise
        batch.actions[3, 0] = 1.0
        batch.log_probs[3, 0] += noise
        learner.train(batch)
        grads.append(weights_of(learner))
    assert_same(grads[0], grads[1])


def test_nothing_valid_is_no_update() -> None:
    spec = env_spec()
    learner = make_learner(spec, learner_config(), make_model(spec))
    batch = random_batch(spec, learner.model)
    batch.policy_id.fill_(7)
    before = weights_of(learner)
    stats = learner.train(batch)
    assert (stats.num_updates, stats.num_valid_samples, stats.policy_version) == (0, 0, 0)
    assert stats.summaries["valid_fraction"] == 0.0
    assert_same(before, weights_of(learner))


@pytest.mark.parametrize("where", ["rewards", "values", "log_probs", "actions", "obs", "rnn_states"])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_trajectory_with_a_number_that_is_none_is_left_out(where: str, number: float) -> None:
    """The others teach exactly what they teach without it."""
    spec = env_spec()
    models = [make_model(spec, RECURRENT, normalize_input=True, normalize_returns=True) for _ in range(3)]
    damaged, without = [make_learner(spec, learner_config(), model) for model in models[:2]]
    model = models[2]
    batch = random_batch(spec, model)
    tensor = batch.obs["obs"] if where == "obs" else getattr(batch, where)
    tensor[0, 2] = number
    stats = damaged.train(batch)
    assert (stats.num_damaged_trajectories, stats.num_skipped_updates, stats.learned_nothing) == (1, 0, False)
    assert stats.summaries["damaged_trajectories"] == 1
    same = random_batch(spec, model)
    same.valid[:, 2] = False
    without.train(same)
    assert_same(weights_of(damaged), weights_of(without))


def test_a_batch_of_nothing_else_is_told() -> None:
    spec = env_spec()
    learner = make_learner(spec, learner_config(), make_model(spec))
    batch = random_batch(spec, learner.model)
    batch.rewards[0] = math.nan
    stats = learner.train(batch)
    assert (stats.num_updates, stats.num_damaged_trajectories, stats.learned_nothing) == (0, B, True)


def test_an_update_that_overflows_changes_nothing() -> None:
    spec = env_spec()
    learner = make_learner(spec, learner_config(), make_model(spec))
    learner.train(random_batch(spec, learner.model))
    before, moments = weights_of(learner), learner.state_dict()["optimizer"]["means"][0].clone()
    batch = random_batch(spec, learner.model)
    batch.obs["obs"][0, 0] = 3e38
    stats = learner.train(batch)
    assert stats.num_skipped_updates == 1
    assert stats.learned_nothing
    assert stats.summaries["skipped_updates"] == 1
    assert_same(before, weights_of(learner))
    assert torch.equal(moments, learner.state_dict()["optimizer"]["means"][0])
    assert learner.state_dict()["optimizer"]["steps"].item() == 1
    assert learner.train(random_batch(spec, learner.model)).num_skipped_updates == 0


def test_recurrence_of_one_uses_the_stored_states() -> None:
    """Without a reset and with unchanged weights both ways see the same states: same values, other
    gradients."""
    spec = env_spec()
    losses, weights = [], []
    for recurrence in (T, T // 2, 1):
        model = make_model(spec, RECURRENT)
        learner = make_learner(spec, learner_config(recurrence=recurrence, max_grad_norm=0.0), model)
        stats = learner.train(random_batch(spec, model))
        losses.append(stats.summaries["loss"])
        weights.append(weights_of(learner)["towers.0.core.rnn.weight_hh_l0"])
    assert losses[1:] == pytest.approx(losses[:1] * 2, rel=1e-4)
    assert not torch.allclose(weights[0], weights[2], atol=1e-7)
    assert not torch.allclose(weights[0], weights[1], atol=1e-7)


def reference_loss(model: ActorCritic, batch: TrajectoryBatch, clip: float) -> Tensor:
    """One update's loss for a feed-forward policy with GAE, in plain torch without any of the learner's
    code."""
    params, values, _ = model.act({"obs": batch.obs["obs"][:T].flatten(0, 1)}, torch.zeros(T * B, 0))
    behind = model.act({"obs": batch.obs["obs"][T]}, torch.zeros(B, 0)).values.detach()
    log_probs = torch.log_softmax(params, -1).gather(1, batch.actions.view(-1, 1).long()).view(T, B)
    values = values.view(T, B)
    advantages = torch.zeros(T, B)
    for b in range(B):
        following, nxt = 0.0, float(behind[b])
        for t in reversed(range(T)):
            if batch.terminated[t, b]:
                following = nxt = 0.0
            elif batch.truncated[t, b]:
                following = 0.0
            open_end = bool(batch.reset_after[t, b]) and not bool(batch.terminated[t, b])
            if not (batch.valid[t, b] or open_end):
                continue  # the agent is out of the game: as if the row were not there
            delta = float(batch.rewards[t, b] + 0.99 * nxt - batch.values[t, b])
            following = 0.0 if open_end else delta + 0.99 * 0.95 * following
            advantages[t, b] = following
            nxt = float(batch.values[t, b])
    chosen = batch.valid
    ratio = (log_probs - batch.log_probs).exp()[chosen]
    adv = advantages[chosen]
    targets = (advantages + batch.values)[chosen]
    adv = (adv - adv.mean()) / adv.std()
    policy = -torch.min(ratio * adv, ratio.clamp(1 / (1 + clip), 1 + clip) * adv).mean()
    old = batch.values[chosen]
    moved = old + (values[chosen] - old).clamp(-1.0, 1.0)
    value = 0.5 * torch.max((values[chosen] - targets) ** 2, (moved - targets) ** 2).mean()
    probs = torch.softmax(params, -1).view(T, B, -1)
    entropy = -(probs * probs.log()).sum(-1)[chosen].mean()
    return policy + value - 0.003 * entropy


def test_one_update_against_a_reference() -> None:
    spec = env_spec(VECTOR, DISCRETE)
    model = make_model(spec)
    cfg = learner_config(with_vtrace=False, recurrence=1, max_grad_norm=0.5)
    learner = make_learner(spec, cfg, model)
    batch = random_batch(spec, model)
    copy = make_model(spec)
    optimizer = torch.optim.Adam(copy.parameters(), lr=1e-3, eps=1e-6)
    expected = reference_loss(copy, batch, cfg.ppo_clip_ratio)
    torch.autograd.backward(expected)
    norm = torch.nn.utils.clip_grad_norm_(copy.parameters(), 0.5)
    assert norm > 0.5
    optimizer.step()
    stats = learner.train(batch)
    assert stats.summaries["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert stats.summaries["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)
    for name, value in copy.state_dict().items():
        torch.testing.assert_close(learner.model.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_chunks_give_the_same_update() -> None:
    spec = env_spec(IMAGE)
    results = []
    for rows in (None, 7):
        model = make_model(spec, model_config(use_rnn=True, encoder_subtype="convnet_impala"), obs_scale=255.0)
        batch = random_batch(spec, model)
        model.chunk_rows = rows
        stats = make_learner(spec, learner_config(), model).train(batch)
        results.append((stats.summaries["loss"], stats.summaries["grad_norm"]))
    assert results[0] == pytest.approx(results[1], rel=1e-4)


def test_kl_adaptive_rate_falls_after_large_steps() -> None:
    spec = env_spec(VECTOR, CONTINUOUS)
    model = make_model(spec)
    cfg = learner_config(
        lr_schedule="kl_adaptive_minibatch", learning_rate=0.05, lr_schedule_kl_threshold=1e-4, ppo_epochs=8
    )
    learner = make_learner(spec, cfg, model)
    learner.train(random_batch(spec, model))
    assert learner.learning_rate < 0.05 / 1.5**4


def test_linear_decay_reaches_the_optimizer() -> None:
    spec = env_spec()
    learner = make_learner(spec, learner_config(lr_schedule="linear_decay"), make_model(spec), train_for_env_steps=100)
    learner.train(random_batch(spec, learner.model), env_steps=100)
    assert learner.learning_rate == 0.0
    before = weights_of(learner)
    learner.train(random_batch(spec, learner.model), env_steps=100)
    assert_same(before, weights_of(learner))


def test_versions_and_minibatches_are_counted() -> None:
    spec = env_spec()
    cfg = learner_config(batch_size=T * 2, ppo_epochs=3)
    learner = make_learner(spec, cfg, make_model(spec))
    stats = learner.train(random_batch(spec, learner.model))
    assert stats.num_updates == stats.policy_version == learner.policy_version == 3 * (B // 2)
    assert stats.num_samples == T * B
    assert stats.num_valid_samples == T * B - 2


def test_summaries_describe_the_batch() -> None:
    spec = env_spec()
    model = make_model(spec)
    head = model.heads[0]
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight *= 0.01  # so that the entropy is known
    learner = make_learner(spec, learner_config(), model)
    batch = random_batch(spec, learner.model)
    learner.policy_version = 6
    batch.policy_version.copy_(torch.arange(T).unsqueeze(1).expand(T, B))
    summaries = learner.train(batch).summaries
    assert summaries["policy_lag_min"] == 1.0
    assert summaries["policy_lag_max"] == 6.0
    assert summaries["valid_fraction"] == pytest.approx(1 - 2 / (T * B))
    assert summaries["ratio_mean"] == pytest.approx(1.0, abs=1e-4)
    assert summaries["kl_divergence"] == pytest.approx(0.0, abs=1e-6)
    assert summaries["clip_fraction"] == 0.0
    assert summaries["entropy"] == pytest.approx(math.log(3), rel=0.01)
    assert summaries["lr"] == 1e-3
    assert summaries["advantage_min"] < summaries["advantage_mean"] < summaries["advantage_max"]


def test_new_hyperparameters_take_effect() -> None:
    spec = env_spec()
    learner = make_learner(spec, learner_config(), make_model(spec))
    learner.set_config(learner_config(learning_rate=0.0))
    before = weights_of(learner)
    learner.train(random_batch(spec, learner.model))
    assert_same(before, weights_of(learner))


def test_normalizers_learn_from_a_batch_once() -> None:
    spec = env_spec()
    model = make_model(spec, normalize_input=True, normalize_returns=True)
    learner = make_learner(spec, learner_config(ppo_epochs=3, normalize_returns=True), model)
    batch = random_batch(spec, model)
    learner.train(batch)
    state = model.state_dict()
    valid = batch.valid.numpy()
    assert state["obs_normalizer.running.0.count"].item() == 1 + valid.sum()
    assert state["returns_normalizer.count"].item() == 1 + valid.sum()
    seen = batch.obs["obs"][:T].numpy()[valid].astype(np.float64)
    np.testing.assert_allclose(state["obs_normalizer.running.0.mean"], seen.sum(0) / (len(seen) + 1), rtol=1e-9)


def test_the_batch_is_not_changed() -> None:
    spec = env_spec()
    learner = make_learner(spec, learner_config(reward_scale=0.1), make_model(spec))
    batch = random_batch(spec, learner.model)
    before = {name: value.clone() for name, value in vars(batch).items() if isinstance(value, Tensor)}
    learner.train(batch)
    assert_same(before, {name: getattr(batch, name) for name in before})
