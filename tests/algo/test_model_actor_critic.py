"""The network as a whole: every combination builds, acts and evaluates consistently."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sf_algo.config import ModelConfig
from sf_algo.envs.spec import ActionSpec, Box, Discrete, ObsSpec
from sf_algo.errors import ModelError
from sf_algo.model.actor import Actor
from sf_algo.model.actor_critic import ActorCritic, make_actor_critic
from tests.algo.model_cases import (
    CONTINUOUS,
    DICTIONARY,
    DISCRETE,
    FLOAT,
    IMAGE,
    MIXED,
    VECTOR,
    B,
    T,
    env_spec,
    learner_config,
    make_learner,
    make_model,
    model_config,
    random_batch,
    random_obs,
)

ENCODERS = {
    "convnet_simple": ("conv", {"obs": ObsSpec(shape=(3, 72, 64), dtype=np.dtype(np.uint8))}),
    "convnet_impala": ("conv", IMAGE),
    "convnet_atari": ("conv", {"obs": ObsSpec(shape=(4, 48, 48), dtype=np.dtype(np.uint8))}),
    "resnet_impala": ("resnet", {"obs": ObsSpec(shape=(3, 24, 20), dtype=np.dtype(np.uint8))}),
    "mlp": ("mlp", VECTOR),
    "mlp_mujoco": ("mlp", VECTOR),
}
CORES: tuple[dict[str, Any], ...] = (
    {"use_rnn": False},
    {"use_rnn": True, "rnn_type": "gru"},
    {"use_rnn": True, "rnn_type": "lstm", "rnn_num_layers": 2},
)


@pytest.mark.parametrize(
    ("subtype", "core", "actions", "shared"),
    [
        *product(["mlp"], CORES, [DISCRETE, CONTINUOUS, MIXED], [True, False]),
        *product(["convnet_impala", "resnet_impala"], CORES[:2], [DISCRETE], [True]),
        *product(["convnet_simple", "convnet_atari", "mlp_mujoco"], CORES[:1], [MIXED], [False]),
    ],
)
def test_every_combination_builds_and_trains_one_step(
    subtype: str, core: dict[str, Any], actions: ActionSpec, shared: bool
) -> None:
    kind, obs = ENCODERS[subtype]
    spec = env_spec(obs, actions, mask=actions.num_choices > 0)
    cfg = model_config(encoder_type=kind, encoder_subtype=subtype, actor_critic_share_weights=shared, **core)
    model = make_model(spec, cfg, obs_scale=255.0)
    before = [p.detach().clone() for p in model.parameters()]
    learner = make_learner(spec, learner_config(), model)
    stats = learner.train(random_batch(spec, model))
    assert stats.num_updates == 1
    assert all(math.isfinite(value) for value in stats.summaries.values())
    unchanged = [torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True)]
    assert sum(unchanged) == 0
    actor = Actor(model, seed=0)
    step = actor.step(random_obs(spec, 3), torch.zeros(3, model.rnn_state_size))
    assert step.actions.shape == (3, actions.width)
    assert step.rnn_states.shape == (3, model.rnn_state_size)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("core", CORES[1:])
def test_acting_step_by_step_equals_evaluating_the_sequence(core: dict[str, Any], shared: bool) -> None:
    spec = env_spec(DICTIONARY, MIXED)
    model = make_model(spec, model_config(actor_critic_share_weights=shared, encoder_subtype="convnet_impala", **core))
    obs = random_obs(spec, T, B)
    resets = torch.rand(T, B, generator=torch.Generator().manual_seed(3)) < 0.3
    states = torch.randn(B, model.rnn_state_size, generator=torch.Generator().manual_seed(4))
    whole = model.evaluate_sequence(obs, states, resets)
    for t in range(T):
        step = model.act({name: x[t] for name, x in obs.items()}, states)
        torch.testing.assert_close(step.action_params, whole.action_params[t], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(step.values, whole.values[t], rtol=1e-4, atol=1e-5)
        states = step.rnn_states.masked_fill(resets[t].unsqueeze(1), 0.0)
    torch.testing.assert_close(states, whole.final_states, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 5, 100])
def test_chunks_change_no_value_and_no_gradient(rows: int) -> None:
    spec = env_spec(DICTIONARY)
    model = make_model(spec, model_config(encoder_subtype="convnet_impala"), obs_scale=255.0).double()
    obs, states, resets = random_obs(spec, T, B), torch.zeros(B, 0), torch.zeros(T, B, dtype=torch.bool)
    obs["measurements"] = obs["measurements"].double()

    def run() -> list[Tensor]:
        out = model.evaluate_sequence(obs, states, resets)
        loss = out.values.square().sum() + out.action_params.square().sum()
        return [out.values, out.action_params, *torch.autograd.grad(loss, list(model.parameters()))]

    model.chunk_rows = None
    whole = run()
    model.chunk_rows = rows
    for own, reference in zip(run(), whole, strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-9, atol=1e-11)


def test_observations_are_scaled_as_the_flags_say() -> None:
    spec = env_spec(IMAGE)
    obs, states = random_obs(spec, 4), torch.zeros(4, 0)
    outputs = []
    for scale, shift in ((1.0, 0.0), (255.0, 0.0), (128.0, 128.0)):
        model = make_model(
            spec, model_config(encoder_subtype="convnet_impala"), obs_scale=scale, obs_subtract_mean=shift
        )
        outputs.append(model.act(obs, states).values)
        normalized = {"obs": (obs["obs"].float() - shift) / scale}
        plain = make_model(spec, model_config(encoder_subtype="convnet_impala"))
        torch.testing.assert_close(outputs[-1], plain.act(normalized, states).values, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(outputs[0], outputs[1])


def test_a_seed_fixes_the_weights_and_leaves_the_global_generator_alone() -> None:
    spec = env_spec()
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first, again, other = make_model(spec), make_model(spec), make_model(spec, seed=7)
    assert torch.equal(torch.rand(1), expected)
    states = [dict(model.state_dict()) for model in (first, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["heads.0.weight"], states[2]["heads.0.weight"])


@pytest.mark.parametrize("adaptive", [True, False])
def test_the_first_policy_prefers_some_choices_and_the_middle_of_a_box(adaptive: bool) -> None:
    model = make_model(env_spec(actions=MIXED), model_config(adaptive_stddev=adaptive))
    head = model.heads[0]
    assert isinstance(head, nn.Linear)
    rows = head.weight.detach().norm(dim=1)
    choices, box = [0, 1, 2, 4, 5], [3, 6] if adaptive else [3]
    assert len(rows) == len(choices) + len(box) + 1, "and the value"
    np.testing.assert_allclose(rows[choices], 1.0, rtol=1e-4)
    np.testing.assert_allclose(rows[box], 0.01, rtol=1e-4)


@pytest.mark.parametrize("adaptive", [True, False])
def test_initial_stddev(adaptive: bool) -> None:
    spec = env_spec(actions=ActionSpec((Box((-2.0,), (2.0,)), Discrete(2))))
    model = make_model(spec, model_config(adaptive_stddev=adaptive, initial_stddev=0.3))
    params = model.act(random_obs(spec, 20), torch.zeros(20, 0)).action_params
    assert params.shape == (20, 4)
    np.testing.assert_allclose(params[:, -1].detach().exp(), 0.3, rtol=0.05)
    moves = params[:, -1].detach().std().item() > 0
    assert moves == adaptive


def test_values_come_in_units_of_reward() -> None:
    spec = env_spec()
    model = make_model(spec, normalize_returns=True)
    obs, states = random_obs(spec, 3), torch.zeros(3, 0)
    before = model.act(obs, states).values
    assert model.returns_normalizer is not None
    model.returns_normalizer.update(torch.full((1000,), 50.0) + torch.randn(1000) * 10)
    after = model.act(obs, states).values
    torch.testing.assert_close(after, model.denormalize_values(model.standardize_values(after)))
    assert (after - before).mean().item() == pytest.approx(50.0, abs=5)


def test_deterministic_actor_and_mean_only_for_continuous_numbers() -> None:
    spec = env_spec(actions=MIXED)
    model = make_model(spec)
    obs, states = random_obs(spec, 64), torch.zeros(64, 0)
    best = model.distribution(model.act(obs, states).action_params).argmax()
    greedy = Actor(model, seed=0, deterministic=True).step(obs, states)
    assert torch.equal(greedy.actions, best)
    means = Actor(model, seed=0, sample_continuous=False).step(obs, states)
    assert torch.equal(means.actions[:, 1], best[:, 1])
    assert not torch.equal(means.actions[:, 0], best[:, 0])


def test_actor_goes_on_from_a_saved_generator() -> None:
    spec = env_spec(actions=MIXED)
    model = make_model(spec)
    obs, states = random_obs(spec, 5), torch.zeros(5, 0)
    actor = Actor(model, seed=3)
    actor.step(obs, states)
    saved = actor.generator_state()
    expected = actor.step(obs, states)
    other = Actor(model, seed=99)
    other.set_generator_state(saved)
    again = other.step(obs, states)
    assert torch.equal(again.actions, expected.actions)
    assert torch.equal(again.log_probs, expected.log_probs)


def test_bf16_encodes_roughly_the_same() -> None:
    spec = env_spec(IMAGE)
    model = make_model(spec, model_config(encoder_subtype="convnet_impala", use_rnn=True), obs_scale=255.0)
    obs, states = random_obs(spec, 2), torch.zeros(2, model.rnn_state_size)
    exact = model.act(obs, states)
    model.use_bf16(True)
    rough = model.act(obs, states)
    assert rough.values.dtype == torch.float32
    assert not torch.equal(rough.values, exact.values)
    torch.testing.assert_close(rough.values, exact.values, rtol=0.1, atol=0.05)


class CustomEncoder(nn.Module):
    out_size = 6
    keeps_weights = True

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        nn.init.constant_(self.layer.weight, 0.25)

    def forward(self, obs: dict[str, Tensor]) -> Tensor:
        out: Tensor = self.layer(obs["obs"].flatten(1)[:, :6])
        return out


def make_custom(cfg: ModelConfig, obs: dict[str, ObsSpec]) -> nn.Module:
    assert cfg.hidden_size == 16
    assert set(obs) == {"obs"}
    return CustomEncoder()


def make_nothing(cfg: ModelConfig, obs: dict[str, ObsSpec]) -> nn.Module:
    return nn.Identity()


def test_custom_encoder_gets_normalized_observations_and_keeps_its_weights() -> None:
    spec = env_spec(IMAGE, mask=True)
    cfg = model_config(encoder_custom="tests.algo.test_model_actor_critic:make_custom")
    model = make_model(spec, cfg, obs_scale=255.0)
    assert model.towers[0].out_size == 6
    assert (model.get_parameter("towers.0.encoder.layer.weight") == 0.25).all()
    seen: list[Tensor] = []
    encoder = model.get_submodule("towers.0.encoder")
    encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]["obs"]))
    model.act(random_obs(spec, 2), torch.zeros(2, 0))
    assert seen[0].dtype == torch.float32
    assert 0.5 < seen[0].max().item() <= 1.0


@pytest.mark.parametrize(
    ("spec", "changes", "message"),
    [
        (env_spec(VECTOR), {"encoder_type": "conv"}, "--encoder_type=conv needs an image .* obs \\(4,\\)"),
        (
            env_spec({"obs": ObsSpec(shape=(3, 8, 8), dtype=np.dtype(np.uint8))}),
            {"encoder_subtype": "convnet_simple"},
            "--encoder_subtype=convnet_simple: an image of \\(3, 8, 8\\) is too small",
        ),
        (env_spec(VECTOR), {"encoder_custom": "no_such_package:make"}, "cannot be imported"),
        (env_spec(VECTOR), {"encoder_custom": "tests.algo.model_cases:nothing"}, "cannot be imported"),
        (
            env_spec(VECTOR),
            {"encoder_custom": "tests.algo.test_model_actor_critic:make_nothing"},
            "integer attribute out_size",
        ),
    ],
)
def test_errors_name_the_flag(spec: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make_model(spec, model_config(**changes))


@pytest.mark.parametrize("shape", [(3, 7, 7), (1, 1, 1), (4, 35, 35), (3, 10, 84), (2, 3, 5)])
def test_a_small_image_gets_a_network_that_fits(shape: tuple[int, ...]) -> None:
    spec = env_spec({"obs": ObsSpec(shape=shape, dtype=np.dtype(np.uint8)), "note": VECTOR["obs"]})
    model = make_model(spec, model_config())
    assert model.act(random_obs(spec, 3), torch.zeros(3, model.rnn_state_size)).values.shape == (3,)
    first = model.get_submodule("towers.0.encoder.images.0.head.layers.0")
    assert first.weight.shape[1] <= 64 * 12 * 12  # type: ignore[union-attr,index]


def test_images_that_fit_keep_the_usual_network() -> None:
    spec = env_spec({"obs": ObsSpec(shape=(3, 36, 36), dtype=np.dtype(np.uint8))})
    assert make_model(spec, model_config()).get_parameter("towers.0.encoder.images.0.convolutions.0.weight").shape == (
        32,
        3,
        8,
        8,
    )


def test_vectors_without_an_image_share_one_perceptron() -> None:
    obs = {"b": ObsSpec(shape=(2, 3), dtype=FLOAT), "a": ObsSpec(shape=(4,), dtype=FLOAT)}
    model: ActorCritic = make_actor_critic(model_config(), env_spec(obs), seed=0)
    assert model.get_parameter("towers.0.encoder.vectors.layers.0.weight").shape == (16, 10)
    assert model.act(random_obs(env_spec(obs), 3), torch.zeros(3, 0)).values.shape == (3,)


def test_measurements_beside_an_image_have_their_own_layers() -> None:
    model = make_model(env_spec(DICTIONARY), model_config(encoder_subtype="convnet_impala"))
    assert model.get_parameter("towers.0.encoder.vectors.layers.1.weight").shape == (128, 128)
    assert model.towers[0].out_size == 16 + 128


def test_layer_widths_follow_the_flags() -> None:
    mlp = make_model(env_spec(), model_config(encoder_mlp_layers=(9, 8), decoder_mlp_layers=(7,)))
    shapes = {name: tuple(p.shape) for name, p in mlp.named_parameters() if name.endswith("weight")}
    assert shapes == {
        "towers.0.encoder.vectors.layers.0.weight": (9, 4),
        "towers.0.encoder.vectors.layers.1.weight": (8, 9),
        "towers.0.decoder.layers.0.weight": (7, 8),
        "heads.0.weight": (4, 7),
    }
    conv = make_model(env_spec(IMAGE), model_config(encoder_subtype="convnet_impala", encoder_extra_fc_layers=0))
    assert conv.towers[0].out_size == 32 * 3 * 4
