"""Whether NVIDIA's MPS is at work here: with it, programs that share a GPU compute at the same time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_DEFAULT_FOLDER = "/tmp/nvidia-mps"
_PID_FILE = "nvidia-cuda-mps-control.pid"
"""Goes when the daemon ends, other than its sockets. The number in it may be another namespace's."""


def mps_runs(environ: Mapping[str, str]) -> bool:
    """Whether programs with these environment variables would find the control daemon."""
    folder = environ.get("CUDA_MPS_PIPE_DIRECTORY") or _DEFAULT_FOLDER
    try:
        return (Path(folder) / _PID_FILE).exists()
    except OSError:  # a folder that is closed to us
        return False
