"""Shared by all tests of the trainer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

# Tests are tiny, and run beside one another: threads would only wait for each other.
torch.set_num_threads(1)


@pytest.fixture
def one_torch_thread() -> Iterator[None]:
    """For trainings in this process, which change the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
