"""Recurrent cores against torch's own layers, unrolled step by step with the state zeroed at resets."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from sf_algo.model.layers import move_weights
from sf_algo.model.packing import make_packing
from sf_algo.model.recurrent import NoCore, RecurrentCore, make_core

T, B, F, H = 7, 5, 3, 4
Kind = Literal["gru", "lstm"]


@pytest.fixture(params=["gru", "lstm"])
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param  # type: ignore[no-any-return]


def make(kind: Kind, layers: int = 1) -> RecurrentCore:
    torch.manual_seed(0)
    core = RecurrentCore(kind, F, H, layers).double()
    for parameter in core.parameters():
        nn.init.normal_(parameter, std=0.7)
    move_weights(core, torch.device("cpu"))
    return core


def random_input(core: RecurrentCore) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(T, B, F, generator=generator, dtype=torch.float64)
    states = torch.randn(B, core.state_size, generator=generator, dtype=torch.float64)
    resets = torch.rand(T, B, generator=generator) < 0.25
    resets[:, 0] = False
    resets[:, 1] = True
    resets[T - 1, 2] = True
    resets[T - 1, 3] = False
    return x.requires_grad_(), states.requires_grad_(), resets


def unrolled(core: RecurrentCore, x: Tensor, states: Tensor, resets: Tensor) -> tuple[Tensor, Tensor]:
    """torch's layer called with one step at a time; autograd does the rest."""
    parts = states.view(B, -1, H).transpose(0, 1).contiguous()
    outputs = []
    for t in range(T):
        if isinstance(core.rnn, nn.LSTM):
            hidden, cells = parts.chunk(2)
            out, (hidden, cells) = core.rnn(x[t : t + 1], (hidden.contiguous(), cells.contiguous()))
            parts = torch.cat([hidden, cells])
        else:
            out, parts = core.rnn(x[t : t + 1], parts)
        outputs.append(out[0])
        parts = parts * (~resets[t]).double().view(1, B, 1)
    return torch.stack(outputs), parts.transpose(0, 1).reshape(B, -1)


def gradients(core: RecurrentCore, outputs: Tensor, final: Tensor, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Of a loss that weighs every output and every final state differently."""
    weights = torch.randn(
        outputs.numel() + final.numel(), generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    loss = (torch.cat([outputs.flatten(), final.flatten()]) * weights).sum()
    return list(torch.autograd.grad(loss, [*inputs, *core.parameters()]))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("method", ["stepped_sequence", "packed_sequence"])
def test_values_and_gradients_across_episode_ends(kind: Kind, layers: int, method: str) -> None:
    core = make(kind, layers)
    x, states, resets = random_input(core)
    expected, expected_final = unrolled(core, x, states, resets)
    outputs, final = getattr(core, method)(x, states, resets)
    torch.testing.assert_close(outputs, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(final, expected_final, rtol=1e-10, atol=1e-12)
    theirs = gradients(core, expected, expected_final, (x, states))
    for own, reference in zip(gradients(core, outputs, final, (x, states)), theirs, strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-9, atol=1e-11)


def test_gradients_are_finite_differences(kind: Kind) -> None:
    core = make(kind)
    x, states, resets = random_input(core)

    def run(x: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        return core.stepped_sequence(x[:3], states, resets[:3])

    assert torch.autograd.gradcheck(run, (x, states))


def test_no_gradient_flows_across_a_reset(kind: Kind) -> None:
    core = make(kind)
    x, states, _ = random_input(core)
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[2] = True
    outputs, _ = core.sequence(x, states, resets)
    (gradient,) = torch.autograd.grad(outputs[3:].sum(), x)
    assert (gradient[:3] == 0).all()
    assert (gradient[3:] != 0).any()


@pytest.mark.parametrize("layers", [1, 2])
def test_steps_one_by_one_equal_the_sequence(kind: Kind, layers: int) -> None:
    core = make(kind, layers)
    x, states, resets = random_input(core)
    expected, expected_final = core.sequence(x, states, resets)
    for t in range(T):
        output, states = core.step(x[t], states)
        torch.testing.assert_close(output, expected[t])
        states = states.masked_fill(resets[t].unsqueeze(1), 0.0)
    torch.testing.assert_close(states, expected_final)


def test_state_sizes() -> None:
    assert make("gru", 2).state_size == 2 * H
    assert make("lstm", 2).state_size == 4 * H
    none = make_core(use_rnn=False, rnn_type="gru", num_layers=1, in_size=F, hidden_size=H)
    assert isinstance(none, NoCore)
    assert (none.state_size, none.out_size) == (0, F)


def test_packing_is_a_permutation_that_keeps_pieces_in_order() -> None:
    resets = torch.tensor([[0, 1], [0, 0], [1, 0], [0, 1]], dtype=torch.bool)
    packing = make_packing(resets, torch.device("cpu"))
    # Pieces: b0 rows 0-2 and row 3; b1 row 0 and rows 1-3. The longest come first.
    assert packing.batch_sizes.tolist() == [4, 2, 2]
    assert packing.owner.tolist() == [0, 1, 0, 1]
    assert packing.fresh.flatten().tolist() == [False, True, True, False]
    rows = [divmod(place, 2) for place in packing.order.tolist()]
    assert rows == [(0, 0), (1, 1), (3, 0), (0, 1), (1, 0), (2, 1), (2, 0), (3, 1)]
    assert packing.order[packing.inverse].tolist() == list(range(8))
    assert packing.ended.flatten().tolist() == [False, True]
