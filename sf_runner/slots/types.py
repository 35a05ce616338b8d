"""What goes into and comes out of the table of slots, see `slots.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sf_runner.slots.placement import Placement

LEAVE_ALONE = -1
"""`experiments_per_gpu`: hand out no GPUs, jobs see those the runner sees."""


@dataclass(frozen=True, kw_only=True)
class SlotPolicy:
    """How devices and cores are handed out: one field per command line flag, plus what was inherited."""

    num_gpus: int = -1
    """-1: all that can be used; 0: none."""
    experiments_per_gpu: int = 1
    """-1: no placement at all, CUDA_VISIBLE_DEVICES is left alone."""
    gpus: tuple[str, ...] | None = None
    """A subset in order of preference: indices, UUIDs, the start of UUIDs, `3:0` for a MIG instance."""
    gpu_ids: Literal["uuid", "index"] = "uuid"
    """`index` for programs that read CUDA_VISIBLE_DEVICES as numbers. MIG instances have none."""
    gpu_exclude_busy: bool = False
    gpu_memory_mb: int | None = None
    cpus_per_experiment: int | None = None
    """Logical CPUs; None: jobs are not bound to cores."""
    environ: Mapping[str, str] = field(default_factory=dict, hash=False)
    """The runner's own environment: inherited CUDA_VISIBLE_DEVICES, thread counts the user set."""
    mps: bool | None = None
    """Whether NVIDIA's MPS is at work; None: nobody has looked."""
    release_timeout_s: float = 15.0
    """A slot whose memory does not come back is reused after this long anyway."""
    said: Mapping[str, str] = field(default_factory=dict, hash=False)
    """How a value was given that did not come from its flag: field -> words for messages."""

    def told(self, name: str) -> str:
        """A value as the user gave it, for messages: `--num_gpus=4`."""
        return self.said.get(name) or f"--{name}={getattr(self, name)}"


@dataclass(frozen=True, kw_only=True)
class SlotRequest:
    """What one attempt needs. Hashable: equal requests get equal answers from the same table."""

    gpus: int | None = None
    """None: one where GPUs are handed out, none elsewhere."""
    gpu_memory_mb: int | None = None
    """On each of its GPUs; None: the policy's."""
    cpus: int | None = None
    config: str | None = None
    """Key of its learned peak."""
    roomier_than_mb: int | None = None
    """Set after an out-of-memory to the failed attempt's `Placement.room_mb`."""
    user_env: frozenset[tuple[str, str]] = frozenset()
    """The experiment's own `env_vars`. A CUDA_VISIBLE_DEVICES among them says which devices it gets."""


@dataclass(frozen=True, kw_only=True)
class NoRoom:
    """Why a request cannot be placed now, in one line."""

    kind: Literal["full", "cores", "memory", "busy", "lost", "never"]
    """`lost`: only a GPU that was lost would do. `never`: nothing here can ever hold it."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Occupant:
    """An attempt that holds its slot: running, or ended while its GPU memory is still in use."""

    job: str
    placement: Placement
    ended: bool = False
