"""What the processor is: some choices of the model that only save time depend on it.

They depend on nothing that is measured, so that a training with a seed repeats itself on a machine.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path

INTEL = "GenuineIntel"
AMD = "AuthenticAMD"


@cache
def maker(cpu_info: Path = Path("/proc/cpuinfo")) -> str:
    """Who made the processor, in its own words; empty where that is not known, and on others than x86."""
    with suppress(OSError):
        for line in cpu_info.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "vendor_id":
                return value.strip()
    return ""
