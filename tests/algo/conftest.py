"""Shared by all tests of the trainer."""

from __future__ import annotations

import torch

# Tests are tiny, and run beside one another: threads would only wait for each other.
torch.set_num_threads(1)
