"""Matrix products by oneDNN against float64, and where they are used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sf_algo.model import processor, products
from sf_algo.model.products import linear, matmul, outer_sum, uses_onednn
from sf_algo.model.rnn_functions import gru_cell, lstm_cell

ROWS, INPUTS, OUTPUTS = 24, 40, 16


@pytest.fixture
def onednn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Every product goes to oneDNN; the shapes of what it was given."""
    if not products._can():
        pytest.skip("this torch has no products by oneDNN")
    shapes: list[tuple[int, ...]] = []
    by_onednn = products._by_onednn

    def noted(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        shapes.append((*x.shape, len(weight)))
        return by_onednn(x, weight, bias)

    monkeypatch.setattr(products, "uses_onednn", lambda: True)
    monkeypatch.setattr(products, "_WORTH_IT", 0)
    monkeypatch.setattr(products, "_by_onednn", noted)
    return shapes


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("lead", [(ROWS,), (4, ROWS // 4)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_values_and_gradients(onednn: list[object], by_column: bool, lead: tuple[int, ...], has_bias: bool) -> None:
    x, weight, bias = numbers(*lead, INPUTS, seed=1), numbers(OUTPUTS, INPUTS, seed=2), numbers(OUTPUTS, seed=3)
    if by_column:
        weight = weight.t().contiguous().t()
    ours = [t.requires_grad_() for t in (x, weight, bias)]
    exact = [t.detach().double().requires_grad_() for t in ours]
    upstream = numbers(*lead, OUTPUTS, seed=4)
    result = linear(ours[0], ours[1], ours[2] if has_bias else None)
    (result * upstream).sum().backward()
    assert len(onednn) == 3  # forward and both gradients
    expected = functional.linear(exact[0], exact[1], exact[2] if has_bias else None)
    (expected * upstream.double()).sum().backward()
    torch.testing.assert_close(result, expected.float())
    for tensor, reference in zip(ours, exact, strict=True):
        if tensor is bias and not has_bias:
            assert tensor.grad is None
        else:
            assert tensor.grad is not None
            assert reference.grad is not None
            assert tensor.grad.stride() == tensor.stride()
            torch.testing.assert_close(tensor.grad, reference.grad.float())


def test_only_wanted_gradients_are_computed(onednn: list[object]) -> None:
    weight = numbers(OUTPUTS, INPUTS, seed=1).requires_grad_()
    linear(numbers(ROWS, INPUTS, seed=2), weight, None).sum().backward()
    assert len(onednn) == 2


def test_products_without_gradient(onednn: list[object]) -> None:
    left, right = numbers(ROWS, INPUTS, seed=1), numbers(INPUTS, OUTPUTS, seed=2)
    torch.testing.assert_close(matmul(left, right), left @ right)
    rows, columns = numbers(ROWS, OUTPUTS, seed=3), numbers(ROWS, INPUTS, seed=4)
    for like in (torch.empty(OUTPUTS, INPUTS), torch.empty(INPUTS, OUTPUTS).t()):
        summed = outer_sum(rows, columns, like)
        assert summed.stride() == like.stride()
        torch.testing.assert_close(summed, rows.t() @ columns)
    assert len(onednn) == 3


def test_what_oneDNN_is_not_for(onednn: list[object], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: N802
    x, weight = numbers(ROWS, INPUTS, seed=1), numbers(OUTPUTS, INPUTS, seed=2)
    assert linear(x.double(), weight.double(), None).dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(x, weight, None).dtype == torch.bfloat16
    monkeypatch.setattr(products, "_WORTH_IT", ROWS * INPUTS * OUTPUTS + 1)
    linear(x, weight, None)
    assert onednn == []
    monkeypatch.setattr(products, "_WORTH_IT", ROWS * INPUTS * OUTPUTS)
    linear(x, weight, None)
    assert onednn == [(ROWS, INPUTS, OUTPUTS)]


@pytest.mark.parametrize("by_onednn", [False, True])
def test_cells_equal_torch(request: pytest.FixtureRequest, by_onednn: bool) -> None:
    if by_onednn:
        request.getfixturevalue("onednn")
    H = OUTPUTS
    x, hidden, cell = numbers(ROWS, INPUTS, seed=1), numbers(ROWS, H, seed=2), numbers(ROWS, H, seed=3)
    for gates, torch_cell in ((3, torch.gru_cell), (4, torch.lstm_cell)):
        weights = [numbers(gates * H, size, seed=4).requires_grad_() for size in (INPUTS, H)]
        weights += [numbers(gates * H, seed=5 + i).requires_grad_() for i in range(2)]
        if gates == 3:
            ours, theirs = (gru_cell(x, hidden, *weights),), (torch_cell(x, hidden, *weights),)
        else:
            ours, theirs = lstm_cell(x, hidden, cell, *weights), torch_cell(x, (hidden, cell), *weights)
        torch.testing.assert_close(ours, theirs)
        grads = [torch.autograd.grad(sum(out.square().sum() for out in outs), weights) for outs in (ours, theirs)]
        torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-3)


@pytest.fixture
def fresh_choice() -> Iterator[None]:
    uses_onednn.cache_clear()
    yield
    uses_onednn.cache_clear()


@pytest.mark.parametrize(
    ("maker", "capability", "expected"),
    [
        (processor.AMD, "AVX512", True),
        (processor.AMD, "AVX2", False),
        (processor.INTEL, "AVX512", False),
        ("", "AVX512", False),
    ],
)
@pytest.mark.usefixtures("fresh_choice")
def test_the_choice_depends_on_the_processor(
    monkeypatch: pytest.MonkeyPatch, maker: str, capability: str, expected: bool
) -> None:
    monkeypatch.setattr(products, "maker", lambda: maker)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert uses_onednn() == (expected and products._can())


@pytest.mark.usefixtures("fresh_choice")
def test_a_torch_without_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> Tensor:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")

    monkeypatch.setattr(products, "maker", lambda: processor.AMD)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(products, "_by_onednn", missing)
    assert not uses_onednn()


def test_maker(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: x\n")
    assert processor.maker(info) == processor.AMD
    assert processor.maker(tmp_path / "missing") == ""
