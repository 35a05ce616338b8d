"""Acting and learning on a device that is not the CPU (`other_device.py`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("checks", ["other_device_checks.py", "other_device_passes_checks.py"])
def test_nothing_relies_on_the_cpu(checks: str) -> None:
    """In a process of their own: autograd starts threads for other devices, and a process that has them cannot fork
    learners any more, which later tests do."""
    path = Path(__file__).with_name(checks)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout[-4000:]
    assert "100%" in done.stdout
