"""How many GPUs there are for this process, without waking CUDA: what has used CUDA once can fork no process that does.

The driver is asked through NVML. torch may still not be able to use what it names; that is found out later, in the
processes that compute.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

_LIBRARY = "libnvidia-ml.so.1"
_VARIABLE = "CUDA_VISIBLE_DEVICES"


@cache
def usable_gpus() -> int:
    """GPUs that torch will find here; 0 where it was built without CUDA."""
    return count_gpus(os.environ, installed=_installed_gpus) if torch_has_cuda() else 0


def count_gpus(environment: Mapping[str, str], *, installed: Callable[[], int]) -> int:
    """Of the `installed` GPUs those that CUDA_VISIBLE_DEVICES leaves: the list ends at the first entry that names none.
    UUIDs are taken at their word; a MIG instance is a GPU."""
    wanted = environment.get(_VARIABLE)
    count = installed() if wanted is None or wanted.strip() else 0
    if wanted is None or not count:
        return count
    named: list[str] = []
    for entry in (word.strip() for word in wanted.split(",")):
        is_uuid = entry.startswith(("GPU-", "MIG-"))
        if entry in named or not (is_uuid or (entry.isdigit() and int(entry) < count)):
            break
        named.append(entry)
    # CUDA gives a process one MIG instance at most.
    return 1 if any(entry.startswith("MIG-") for entry in named) else len(named)


def torch_has_cuda() -> bool:
    """Whether the installed torch was built for CUDA; it is not imported for that."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return False
    return re.search(r"^cuda\b[^=]*=\s*['\"]", text, re.MULTILINE) is not None


def _installed_gpus() -> int:
    """GPUs of this machine as the driver counts them; 0 without a driver."""
    try:
        nvml = ctypes.CDLL(_LIBRARY)
        if nvml.nvmlInitWithFlags(0) != 0:
            return 0
        count = ctypes.c_uint(0)
        failed = nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        nvml.nvmlShutdown()
    except (OSError, AttributeError):
        return 0
    return 0 if failed else count.value
