"""Acting and learning on a device that is not "cpu": nothing looks at memory that the host cannot see, and the numbers
are those of the CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sf_algo.config.resolve import configure
from sf_algo.learner.batch import TrajectoryBatch
from sf_algo.learner.learner import Learner
from sf_algo.learning.build import build_policy_learner, build_policy_model
from sf_algo.model.actor import Actor
from sf_algo.model.actor_critic import ActorCritic, Tower
from sf_algo.model.precision import use_precision
from sf_algo.plain import cloned
from tests.algo.model_cases import (
    CONTINUOUS,
    CPU,
    DICTIONARY,
    DISCRETE,
    IMAGE,
    MIXED,
    VECTOR,
    WORDS,
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
from tests.algo.other_device import DEVICE, DeviceTensor, OtherDevice

GRU = model_config(use_rnn=True, rnn_type="gru")
LSTM = model_config(use_rnn=True, rnn_type="lstm")
CASES: dict[str, tuple[Any, Any, dict[str, Any], dict[str, Any]]] = {
    "perceptron, box, GAE, normalizers": (
        env_spec(VECTOR, CONTINUOUS),
        model_config(),
        {"with_vtrace": False, "normalize_returns": True, "recurrence": 1, "batch_size": T * 4, "ppo_epochs": 2},
        {"normalize_input": True, "normalize_returns": True},
    ),
    "image, gru, v-trace": (env_spec(IMAGE, DISCRETE), GRU, {}, {"obs_scale": 255.0}),
    "image and numbers, lstm, tuple, minibatches": (
        env_spec(DICTIONARY, MIXED),
        LSTM,
        {"batch_size": T * 3, "ppo_epochs": 2},
        {"normalize_returns": True, "obs_scale": 255.0},
    ),
    "image and instructions in words, lstm": (
        env_spec(WORDS, DISCRETE),
        replace(LSTM, encoder_custom="dmlab_instructions"),
        {},
        {"obs_scale": 255.0},
    ),
    "masked choices, two towers, gru of two layers": (
        env_spec(VECTOR, DISCRETE, mask=True),
        model_config(use_rnn=True, rnn_type="gru", rnn_num_layers=2, actor_critic_share_weights=False),
        {"exploration_loss": "symmetric_kl", "exploration_loss_coeff": 0.01},
        {},
    ),
    "resnet, spectral norm": (
        env_spec(IMAGE, DISCRETE),
        model_config(encoder_type="resnet", encoder_subtype="resnet_impala", use_spectral_norm=True),
        {"recurrence": 1},
        {"obs_subtract_mean": 10.0, "obs_scale": 255.0},
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
    return CASES[request.param]


def there(x: Tensor) -> Tensor:
    return x.pin_memory().to(DEVICE, non_blocking=True)


def close(left: Tensor, right: Tensor, tolerance: float = 2e-5) -> bool:
    assert not isinstance(left, DeviceTensor)
    return torch.allclose(left, right.cpu(), rtol=1e-4, atol=tolerance)


def test_what_fails_on_a_device_fails_here() -> None:
    with OtherDevice() as gpu:
        x = torch.ones(3, device=DEVICE)
        with pytest.raises(RuntimeError, match="same device"):
            x + torch.ones(3)
        with pytest.raises(TypeError, match="numpy"):
            x.numpy()
        assert not gpu.waits
        assert float(x.sum()) == 3.0
        x[x > 0]
        assert gpu.waits == ["a copy to the host", "aten.index.Tensor with a mask"]


def test_acting_gives_the_same_and_waits_for_nothing(case: Any) -> None:
    spec, model_cfg, _, changes = case
    model = make_model(spec, model_cfg, **changes)
    obs, states = random_obs(spec, B), torch.randn(B, model.rnn_state_size)
    with torch.inference_mode():
        here = model.act(obs, states)
    with OtherDevice() as gpu:
        other = copy.deepcopy(model).arrange(DEVICE)
        actor = Actor(other, seed=0)
        on_device = {name: there(x) for name, x in obs.items()}
        with torch.inference_mode(), gpu.counting():
            result = other.act(on_device, there(states))
            acted = actor.step(on_device, there(states))
            assert gpu.waits == []
        for mine, its in zip(here, result, strict=True):
            assert close(mine, its)
        assert all(isinstance(x, DeviceTensor) for x in acted if x.numel())
        distribution = model.distribution(here.action_params, obs.get("action_mask"))
        assert close(distribution.log_prob(acted.actions.cpu()), acted.log_probs)


@pytest.mark.parametrize("resets", [True, False], ids=["resets", "no resets"])
def test_sequences_and_their_gradients_are_the_same(case: Any, resets: bool) -> None:
    spec, model_cfg, _, changes = case
    model = make_model(spec, model_cfg, **changes)
    obs, states = random_obs(spec, T, B), torch.randn(B, model.rnn_state_size)
    reset_after = torch.rand(T, B) < (0.3 if resets else 0.0)

    def gradients(model: ActorCritic, move: Callable[[Tensor], Tensor]) -> list[Tensor]:
        out = model.evaluate_sequence({n: move(x) for n, x in obs.items()}, move(states), reset_after)
        (out.action_params.sum() + out.values.square().sum() + out.final_states.sum()).backward()
        return [*out, *(p.grad for p in model.parameters() if p.grad is not None)]

    here = gradients(model, lambda x: x)
    with OtherDevice() as gpu:
        other = make_model(spec, model_cfg, **changes).arrange(DEVICE)
        with gpu.counting():
            result = gradients(other, there)
            assert gpu.waits == []
        assert len(here) == len(result)
        for mine, its in zip(here, result, strict=True):
            assert close(mine, its, 1e-4), (mine.shape, (mine - its.cpu()).abs().max())


def lock(gpu: OtherDevice, batches: list[TrajectoryBatch]) -> None:
    """As batches in shared memory are locked for a GPU."""
    for batch in batches:
        for tensor in batch.tensors():
            gpu.lock(tensor)


def trained(learner: Learner, batches: list[Any]) -> list[Any]:
    return [learner.train(batch) for batch in batches]


def test_training_gives_the_same_and_waits_for_its_figures_alone(case: Any) -> None:
    spec, model_cfg, rl_changes, changes = case
    model = make_model(spec, model_cfg, **changes)
    batches = [random_batch(spec, model, seed=seed) for seed in range(2)]
    cfg = learner_config(**rl_changes)
    here = make_learner(spec, cfg, model)
    first = trained(here, batches)
    with OtherDevice() as gpu:
        other = make_learner(spec, cfg, make_model(spec, model_cfg, **changes), device=DEVICE)
        lock(gpu, batches)
        with gpu.counting():
            second = trained(other, batches)
            # For each call one table of losses and one of details, read at its end.
            assert gpu.waits == ["a copy to the host"] * 4
            small = 4096
            assert [size for size in gpu.downloads if size > small] == []
        for mine, its in zip(first, second, strict=True):
            assert mine.num_updates == its.num_updates
            assert mine.summaries.keys() == its.summaries.keys()
            for name, value in mine.summaries.items():
                assert its.summaries[name] == pytest.approx(value, rel=2e-3, abs=2e-4), name
        weights = other.model.state_dict()
        assert all(close(value, weights[name], 2e-4) for name, value in here.model.state_dict().items())


def test_the_next_batch_is_uploaded_while_the_current_one_trains() -> None:
    spec = env_spec(IMAGE)
    given = [random_batch(spec, make_model(spec, GRU, obs_scale=255.0), seed=seed) for seed in range(3)]
    image_bytes = given[0].obs["obs"].nbytes

    def learner(device: torch.device) -> Learner:
        cfg = learner_config(ppo_epochs=2)
        return make_learner(spec, cfg, make_model(spec, GRU, obs_scale=255.0), device=device)

    here = learner(CPU)
    trained(here, given)
    with OtherDevice() as gpu:
        other = learner(DEVICE)
        lock(gpu, given)
        large = []
        for index, batch in enumerate(given):
            following = given[index + 1 : index + 2]
            with gpu.counting():
                other.train(batch, meanwhile=lambda following=following: [*map(other.upload, following)])
                large.append(gpu.uploads.count(image_bytes))
                assert gpu.waits == ["a copy to the host"] * 2
        assert large == [2, 1, 0]
        weights = other.model.state_dict()
        assert all(close(value, weights[name], 2e-4) for name, value in here.model.state_dict().items())


def test_a_checkpoint_goes_on_on_the_other_kind_of_device() -> None:
    spec = env_spec()
    batch = random_batch(spec, make_model(spec, GRU))

    def learner(device: torch.device) -> Learner:
        return make_learner(spec, learner_config(), make_model(spec, GRU), device=device)

    here = learner(CPU)
    here.train(batch)
    saved = cloned(here.state_dict())
    drawn = Actor(here.model, seed=3).generator_state()
    with OtherDevice():
        other = learner(DEVICE)
        other.load_state_dict(saved)
        actor = Actor(other.model, seed=4)
        before = actor.generator_state()["state"].clone()
        actor.set_generator_state(drawn)  # 5,056 bytes, where 16 are wanted
        actor.set_generator_state(drawn["state"])  # as older checkpoints hold it
        assert torch.equal(actor.generator_state()["state"], before)
        other.train(batch)
        back = cloned(other.state_dict())
        drawn_there = actor.generator_state()
        assert not any(isinstance(x, DeviceTensor) for x in back["model"].values())
    here.train(batch)
    again = learner(CPU)
    again.load_state_dict(back)
    Actor(again.model, seed=5).set_generator_state(drawn_there)
    assert again.policy_version == here.policy_version
    weights = again.model.state_dict()
    assert all(close(value, weights[name], 2e-4) for name, value in here.model.state_dict().items())


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_recurrent_weights_are_row_major_whenever_cudnn_looks_at_them(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flatten(layer: nn.RNNBase) -> None:
        for weight in layer.parameters():
            if weight.device.type != "cpu":
                weight.detach().view(-1)  # raises for any other order, as cuDNN's flattening does

    monkeypatch.setattr(nn.RNNBase, "flatten_parameters", flatten)
    spec = env_spec()
    model = make_model(spec, model_config(use_rnn=True, rnn_type=kind, hidden_size=32))
    matrices = [p for name, p in model.named_parameters() if ".rnn.weight" in name]
    assert matrices
    assert not any(p.is_contiguous() for p in matrices)
    with OtherDevice():
        model.arrange(DEVICE)
        assert all(p.is_contiguous() for name, p in model.named_parameters() if ".rnn.weight" in name)
        model.arrange(CPU)
    assert not any(p.is_contiguous() for name, p in model.named_parameters() if ".rnn.weight" in name)


@pytest.fixture
def products() -> Iterator[None]:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_acting_and_learning_compute_with_the_same_precision(precision: Any, products: None) -> None:
    gpu = torch.device("cuda", 0)
    model = make_model(env_spec(IMAGE))
    use_precision(model, precision, gpu)
    assert torch.backends.cudnn.allow_tf32 == (torch.get_float32_matmul_precision() == "high") == (precision == "tf32")
    assert [tower.bf16 for tower in model.modules() if isinstance(tower, Tower)] == [precision == "bf16"]
    config = configure(["--env=CartPole-v1", f"--precision={precision}"]).config
    spec = env_spec()
    networks = [
        build_policy_model(config, spec, CPU, policy_id=0, run_seed=1),
        build_policy_learner(config, spec, CPU, policy_id=0, run_seed=1).model,
    ]
    for network in networks:
        assert [tower.bf16 for tower in network.modules() if isinstance(tower, Tower)] == [precision == "bf16"]
