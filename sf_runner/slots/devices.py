"""What is known about the GPUs at one moment: plain data, filled in by `nvml.py`, read by everybody else.

A value that the driver does not tell is `None`, never zero: nobody can mistake "not supported" for "idle".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Trouble = Literal["library", "driver", "permission", "unsupported", "lost", "back", "pids", "mig", "error"]
"""The kinds of trouble a probe tells, each once for every device it concerns."""

ComputeMode = Literal["default", "exclusive", "prohibited"]
"""`exclusive`: one process at a time may use the GPU; `prohibited`: none may."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuProcess:
    """A process that holds a compute context on a GPU."""

    pid: int | None
    """None: the driver's ids do not match this container's, so they say nothing here."""
    memory_mb: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuInfo:
    """One device a job can be given: a whole GPU, or one MIG instance of a GPU in MIG mode."""

    uuid: str
    index: int
    """Position in PCI bus order, as nvidia-smi counts; for a MIG instance that of its GPU."""
    name: str = ""
    memory_total_mb: int | None = None
    memory_free_mb: int | None = None
    memory_used_mb: int | None = None
    utilization_pct: int | None = None
    temperature_c: int | None = None
    processes: tuple[GpuProcess, ...] | None = None
    """None: the driver does not tell which processes there are."""
    mig: str | None = None
    """UUID of the GPU this MIG instance is a part of; None for a whole GPU."""
    mig_index: int | None = None
    mig_alias: str | None = None
    """The older spelling of a MIG instance's id, `MIG-<GPU UUID>/<GPU instance>/<compute instance>`."""
    numa_node: int | None = None
    """The memory node its PCI slot hangs on."""
    compute_mode: ComputeMode | None = None
    lost: bool = False
    """The driver no longer reaches the device; every other value is the last one known or None."""

    @property
    def usable_mb(self) -> int | None:
        """Memory that programs can have at most: the total less what the driver keeps for itself."""
        if self.memory_free_mb is None or self.memory_used_mb is None:
            return self.memory_total_mb
        return self.memory_free_mb + self.memory_used_mb

    @property
    def label(self) -> str:
        """What people call it: `GPU 2`, or `GPU 2 MIG 0`."""
        return f"GPU {self.index}" if self.mig_index is None else f"GPU {self.index} MIG {self.mig_index}"


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuWarning:
    """A trouble in plain words. `kind` and `uuid` ("" where it concerns the machine) let a UI group them."""

    kind: Trouble
    message: str
    uuid: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuSnapshot:
    """All devices at one moment, in PCI bus order. `warnings` holds only what was not told before."""

    gpus: tuple[GpuInfo, ...] = ()
    warnings: tuple[GpuWarning, ...] = ()
    driver: str | None = None
    """Version of the driver; None: no driver, hence no GPUs."""
    age_s: float = 0.0
    """How old the values already were when the snapshot was handed over."""

    def by_uuid(self) -> dict[str, GpuInfo]:
        """The devices by their UUID."""
        return {gpu.uuid: gpu for gpu in self.gpus}
