"""Layers, spectral normalization, initialization, normalizers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from sf_algo.envs.spec import ACTION_MASK, ObsSpec
from sf_algo.errors import ModelError
from sf_algo.model.activations import elu_
from sf_algo.model.layers import (
    Conv2d,
    Linear,
    add_spectral_norm,
    initialize,
    move_weights,
    power_iterations,
)
from sf_algo.model.normalizers import CLIP, EPSILON, ObsNormalizer, RunningMeanStd
from sf_algo.model.work import work_of
from tests.algo.model_cases import DISCRETE, env_spec, make_model, model_config

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", [(3, 4), (70_000,), (2, 5, 7, 3), (200, 2, 13, 17)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_elu_equals_torch(shape: tuple[int, ...], memory_format: torch.memory_format) -> None:
    x = 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = (x.contiguous(memory_format=memory_format) if len(shape) == 4 else x).requires_grad_()
    own, reference = elu_(x * 1.0), functional.elu(x)
    torch.testing.assert_close(own, reference, rtol=1e-12, atol=1e-14)
    weights = torch.randn_like(reference)
    gradients = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (own, reference)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-12, atol=1e-14)
    with torch.inference_mode():
        torch.testing.assert_close(elu_(x.detach().clone()), reference.detach(), rtol=1e-12, atol=1e-14)


def test_elu_of_scattered_memory_and_of_extremes() -> None:
    x = torch.tensor([-1e30, -1e-30, 0.0, 1e30, math.nan, -math.inf, math.inf])
    out = elu_(x.repeat(10_000))[-7:].tolist()
    assert out[:4] + out[5:] == [-1.0, 0.0, 0.0, pytest.approx(1e30), -1.0, math.inf]
    assert math.isnan(out[4])
    scattered = torch.randn(400, 400)[::2, ::2]
    expected = functional.elu(scattered.clone())
    torch.testing.assert_close(elu_(scattered), expected)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(8, 4, 0), (3, 1, 1), (3, 2, 0)])
@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (0.0, 255.0), (128.0, 128.0), (3.0, 1.0)])
def test_pixels_are_normalized_inside_the_convolution(
    kernel: int, stride: int, padding: int, mean: float, scale: float
) -> None:
    torch.manual_seed(0)
    layer = Conv2d(3, 5, kernel, stride, padding).double()
    pixels = torch.randint(0, 256, (2, 3, 16, 24), dtype=torch.uint8)
    assert layer._can_fold(pixels) == (stride == 4)
    plain = layer((pixels.double() - mean) / scale)
    folded = layer.forward_pixels(pixels, mean, scale)
    torch.testing.assert_close(folded, plain)
    weights = torch.randn_like(plain)
    theirs = torch.autograd.grad((plain * weights).sum(), list(layer.parameters()))
    own = torch.autograd.grad((folded * weights).sum(), list(layer.parameters()))
    for a, b in zip(own, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_bytes_are_kept_for_the_gradient_also_inside_autocast() -> None:
    torch.manual_seed(0)
    layer = Conv2d(3, 5, 8, 4)
    pixels = torch.randint(0, 256, (2, 3, 16, 24), dtype=torch.uint8)
    gradients = []
    for bf16 in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            out = layer.forward_pixels(pixels, 0.0, 255.0)
        assert out.dtype == (torch.bfloat16 if bf16 else torch.float32)
        assert out.grad_fn is not None
        assert out.grad_fn.saved_tensors[0].dtype == torch.uint8  # type: ignore[attr-defined]
        gradients.append(torch.autograd.grad(out.float().square().sum(), list(layer.parameters())))
    for precise, rough in zip(*gradients, strict=True):
        assert rough.dtype == torch.float32
        torch.testing.assert_close(rough, precise, rtol=0.05, atol=0.05 * float(precise.abs().max()))


def test_weights_lie_by_column_on_a_cpu_and_keep_their_values() -> None:
    module = nn.ModuleDict({"a": Linear(5, 17), "head": Linear(5, 4), "gru": nn.GRU(3, 8)})
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    move_weights(module, CPU)
    move_weights(module, CPU)
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, before[name])
        if parameter.dim() == 2:
            by_column = (1, parameter.shape[0])
            assert parameter.stride() == ((5, 1) if "head" in name else by_column)


@pytest.mark.parametrize(("height", "width", "shapes"), [(72, 128, (17 * 31, 7 * 14, 3 * 6))])
def test_the_work_of_a_network_is_counted(height: int, width: int, shapes: tuple[int, int, int]) -> None:
    spec = env_spec({"obs": ObsSpec(shape=(3, height, width), dtype=np.dtype(np.uint8))}, DISCRETE)
    model = make_model(spec, model_config(use_rnn=True, hidden_size=64, encoder_subtype="convnet_simple"))
    weights = (32 * 3 * 64, 64 * 32 * 16, 128 * 64 * 9)
    convolutions = [2 * weight * places for weight, places in zip(weights, shapes, strict=True)]
    products = 2 * (128 * 3 * 6 * 64 + 6 * 64 * 64 + 64 * 4)
    work = work_of(model, spec)
    assert work.acting == sum(convolutions) + products
    assert work.learning == 3 * work.acting - convolutions[0]


class TestSpectralNorm:
    def test_largest_singular_value_becomes_one(self) -> None:
        torch.manual_seed(0)
        layers = (Linear(6, 4), Conv2d(2, 5, 3, 1))
        for layer in layers:
            add_spectral_norm(layer)
            for _ in range(200):
                power_iterations(layer)
            assert layer.spectral is not None
            normalized = layer.spectral.divide(layer.weight).detach().flatten(1)
            assert torch.linalg.matrix_norm(normalized, 2).item() == pytest.approx(1.0, rel=1e-4)
            ratio = layer.weight.detach().flatten(1) / normalized
            torch.testing.assert_close(ratio, ratio[:1, :1].expand_as(ratio), rtol=1e-4, atol=1e-5)

    def test_gradient_flows_through_the_norm(self) -> None:
        torch.manual_seed(0)
        layer = Linear(4, 3)
        add_spectral_norm(layer)
        layer.double()
        x = torch.randn(5, 4, dtype=torch.float64)

        def run(weight: torch.Tensor) -> torch.Tensor:
            assert layer.spectral is not None
            return x @ layer.spectral.divide(weight).t()

        assert torch.autograd.gradcheck(run, (layer.weight,))

    def test_forward_uses_it_and_acting_does_not_change_it(self) -> None:
        torch.manual_seed(0)
        layer = Linear(4, 3)
        plain = layer(torch.eye(4)).detach()
        add_spectral_norm(layer)
        first, second = layer(torch.eye(4)), layer(torch.eye(4))
        assert torch.equal(first, second)
        assert not torch.allclose(first, plain)


def test_orthogonal_initialization_gate_by_gate() -> None:
    linear, gru = Linear(6, 4), nn.GRU(5, 5)
    module = nn.ModuleList([linear, gru])
    initialize(module, "orthogonal", 2.0)
    weight = linear.weight.detach()
    torch.testing.assert_close(weight @ weight.t(), 4.0 * torch.eye(4), atol=1e-5, rtol=1e-5)
    for gate in torch.split(dict(gru.named_parameters())["weight_hh_l0"].detach(), 5):
        torch.testing.assert_close(gate @ gate.t(), 4.0 * torch.eye(5), atol=1e-5, rtol=1e-5)
    assert all((p == 0).all() for name, p in module.named_parameters() if "bias" in name)


class TestRunningMeanStd:
    @pytest.mark.parametrize("shape", [(), (3,), (2, 4, 5)])
    def test_batches_merge_to_the_moments_of_all(self, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(0)
        running = RunningMeanStd(shape)
        batches = [rng.normal(50.0, 3.0, (rows, *shape)) for rows in (1, 700, 0, 42)]
        for batch in batches:
            running.update(torch.from_numpy(batch))
        # The one imaginary row of mean 0 and variance 1 that it starts with.
        everything = np.concatenate(batches)
        n = len(everything)
        mean = everything.sum(0) / (n + 1)
        squares = (everything**2).sum(0) + 1.0
        variance = squares / (n + 1) - mean**2
        tolerance = 1e-5 if len(shape) > 1 else 1e-9
        np.testing.assert_allclose(running.mean, mean, rtol=tolerance)
        np.testing.assert_allclose(running.variance, variance, rtol=tolerance)
        x = torch.from_numpy(everything[:5]).float()
        expected = np.clip((x.numpy() - mean) / np.sqrt(variance + EPSILON), -CLIP, CLIP)
        np.testing.assert_allclose(running.normalize(x), expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(running.denormalize(running.standardize(x)), x, rtol=1e-5)

    def test_no_rows_change_nothing(self) -> None:
        running = RunningMeanStd((2,))
        before = {name: value.clone() for name, value in running.state_dict().items()}
        running.update(torch.zeros(0, 2))
        assert all(torch.equal(before[name], value) for name, value in running.state_dict().items())

    @pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
    @pytest.mark.parametrize("shape", [(), (3,), (2, 4, 5)])
    def test_numbers_that_are_none_change_nothing(self, shape: tuple[int, ...], number: float) -> None:
        running = RunningMeanStd(shape)
        running.update(torch.ones(20, *shape))
        before = {name: value.clone() for name, value in running.state_dict().items()}
        rows = torch.ones(7, *shape)
        rows.view(-1)[3] = number
        running.update(rows)
        assert all(torch.equal(before[name], value) for name, value in running.state_dict().items())
        running.update(torch.full((50, *shape), 3.0))
        assert (running.mean > 2.0).all()

    def test_outliers_are_clipped(self) -> None:
        running = RunningMeanStd(())
        assert running.normalize(torch.tensor([-1e9, 1e9])).tolist() == [-CLIP, CLIP]


FLOAT, BYTE = np.dtype(np.float32), np.dtype(np.uint8)
OBS = {
    "obs": ObsSpec(shape=(1, 4, 4), dtype=BYTE),
    "measurements": ObsSpec(shape=(2,), dtype=FLOAT),
    ACTION_MASK: ObsSpec(shape=(3,), dtype=np.dtype(np.int8)),
}


ROWS = {
    "obs": torch.full((6, 1, 4, 4), 100, dtype=torch.uint8),
    "measurements": torch.arange(12.0).view(6, 2),
    ACTION_MASK: torch.ones(6, 3, dtype=torch.int8),
}


class TestObsNormalizer:
    def test_raw_pixels_pass_and_the_mask_is_left_out(self) -> None:
        normalizer = ObsNormalizer(OBS, subtract_mean=0.0, scale=255.0, running=False)
        out = normalizer(ROWS, frozenset({"obs"}))
        assert set(out) == {"obs", "measurements"}
        assert out["obs"].dtype == torch.uint8
        assert normalizer.pixel_shift_scale("obs") == (0.0, 255.0)
        assert torch.equal(out["measurements"], ROWS["measurements"])

    def test_who_cannot_take_pixels_gets_normalized_floats(self) -> None:
        normalizer = ObsNormalizer(OBS, subtract_mean=50.0, scale=10.0, running=False)
        out = normalizer(ROWS, frozenset())
        assert (out["obs"] == 5.0).all()
        assert torch.equal(out["measurements"], ROWS["measurements"])

    def test_running_normalization_of_valid_rows_only(self) -> None:
        normalizer = ObsNormalizer(OBS, subtract_mean=0.0, scale=1.0, running=True, running_keys=["measurements"])
        normalizer.update(ROWS, torch.arange(3))
        out = normalizer(ROWS, frozenset({"obs"}))
        assert out["obs"].dtype == torch.uint8
        seen = np.arange(6.0).reshape(3, 2)
        mean = seen.sum(0) / 4
        variance = ((seen**2).sum(0) + 1) / 4 - mean**2
        expected = np.clip((ROWS["measurements"].numpy() - mean) / np.sqrt(variance + EPSILON), -5, 5)
        np.testing.assert_allclose(out["measurements"], expected, rtol=1e-5)

    def test_running_normalization_of_images_takes_them_from_the_encoder(self) -> None:
        normalizer = ObsNormalizer(OBS, subtract_mean=0.0, scale=255.0, running=True)
        assert normalizer.pixel_shift_scale("obs") == (0.0, 1.0)
        normalizer.update(ROWS)
        assert normalizer(ROWS, frozenset({"obs"}))["obs"].dtype == torch.float32

    def test_unknown_key(self) -> None:
        with pytest.raises(ModelError, match="--normalize_input_keys names speed, but"):
            ObsNormalizer(OBS, subtract_mean=0.0, scale=1.0, running=True, running_keys=["speed"])
