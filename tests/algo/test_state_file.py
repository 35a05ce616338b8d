"""Learners' states pass between processes as bytes."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from sf_algo.learning.state_file import PackedState, packed, read_state, write_state

STATE = {"model": {"weight": torch.arange(6.0).view(2, 3)}, "policy_version": 3, "learning_rate": 1e-3}


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that a state is unpacked."""
    found: list[int] = []
    real = torch.load

    def load(*args: Any, **options: Any) -> Any:
        found.append(1)
        return real(*args, **options)

    monkeypatch.setattr(torch, "load", load)
    return found


def test_a_state_is_unpacked_once_by_whoever_looks_inside(loads: list[int]) -> None:
    state = PackedState(packed(STATE))
    assert loads == []
    assert state["policy_version"] == 3
    assert torch.equal(state["model"]["weight"], STATE["model"]["weight"])  # type: ignore[index]
    assert list(state) == list(STATE)
    assert len(state) == 3
    assert "carried" not in state
    assert state.get("born_version", 0) == 0
    assert len(loads) == 1


def test_a_state_is_passed_on_as_the_same_bytes(loads: list[int]) -> None:
    """From a donor's learner through the main process to another learner."""
    donor, other = os.memfd_create("donor"), os.memfd_create("other")
    write_state(donor, {**STATE, "model": {}})
    nbytes = write_state(donor, STATE)
    state = read_state(donor, nbytes)
    write_state(donor, {"policy_version": 4})  # the file is used again
    assert write_state(other, state) == nbytes
    assert os.pread(other, nbytes + 1, 0) == state.data
    assert loads == []
    assert read_state(other, nbytes)["policy_version"] == 3
    for fd in (donor, other):
        os.close(fd)
