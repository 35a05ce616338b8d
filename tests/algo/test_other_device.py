"""Acting and learning on a device that is not the CPU (`other_device.py`, `other_device_checks.py`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_nothing_relies_on_the_cpu() -> None:
    """In a process of their own: autograd starts threads for other devices, and a process that has them cannot fork
    learners any more, which later tests do."""
    checks = Path(__file__).with_name("other_device_checks.py")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(checks)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout[-4000:]
    assert "100%" in done.stdout
