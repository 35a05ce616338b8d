"""What must stay cheap to import."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module", ["sf_algo.rollout.worker", "sf_algo.train_appo", "sf_algo.enjoy_appo", "sf_algo.testing", "sf_algo.app"]
)
def test_no_torch_before_it_is_needed(module: str) -> None:
    """A rollout worker never needs it; commands print help and faults of the command line without it."""
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
