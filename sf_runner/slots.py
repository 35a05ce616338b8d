"""What can be started where: a snapshot of GPUs and cores, a policy and the jobs that run -> placements. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sf_runner.cores import CpuTopology
from sf_runner.devices import GpuSnapshot
from sf_runner.gpu_memory import GpuUsage, LearnedPeaks
from sf_runner.placement import Placement


@dataclass(frozen=True, kw_only=True)
class SlotPolicy:
    """How devices and cores are handed out; one field per command line flag, plus what was inherited."""

    num_gpus: int = -1
    """-1: all that can be used; 0: none."""
    experiments_per_gpu: int = 1
    """-1: no placement at all, CUDA_VISIBLE_DEVICES is left alone."""
    gpus: tuple[str, ...] | None = None
    """A subset in order of preference: indices, UUIDs or UUID prefixes."""
    gpu_ids: Literal["uuid", "index"] = "uuid"
    gpu_exclude_busy: bool = False
    gpu_memory_mb: int | None = None
    cpus_per_experiment: int | None = None
    """None: jobs are not bound to cores."""
    environ: Mapping[str, str] = field(default_factory=dict, hash=False)
    """The runner's own environment: inherited CUDA_VISIBLE_DEVICES, thread counts the user set."""
    release_timeout_s: float = 15.0
    """A slot whose memory does not come back is reused after this long anyway."""


@dataclass(frozen=True, kw_only=True)
class SlotRequest:
    """What one attempt needs. Hashable: equal requests get equal answers from the same table."""

    gpus: int | None = None
    """None: one where GPUs are handed out, none elsewhere."""
    gpu_memory_mb: int | None = None
    cpus: int | None = None
    config: str | None = None
    """Key of its learned peak."""
    roomier_than_mb: int | None = None
    """Set after an out-of-memory to the failed attempt's `Placement.room_mb`."""
    user_env: frozenset[tuple[str, str]] = frozenset()
    """The experiment's own `env_vars`: an own CUDA_VISIBLE_DEVICES narrows the choice, own thread counts win."""


@dataclass(frozen=True, kw_only=True)
class NoRoom:
    """Why a request cannot be placed now, in one line."""

    kind: Literal["full", "cores", "memory", "busy", "lost", "never"]
    """`full`: all slots are taken, no other request of its kind fits either. `lost`: only a GPU that was lost would
    do. `never`: nothing here can ever hold it."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Occupant:
    """An attempt that holds its slot: running, or ended while its GPU memory is still in use."""

    job: str
    placement: Placement
    ended: bool = False


@dataclass(frozen=True, kw_only=True)
class SlotSetup:
    """The devices and cores of this run, chosen once at the start."""

    policy: SlotPolicy
    topology: CpuTopology
    gpu_uuids: tuple[str, ...]
    """In order of preference; empty: no GPU is handed out."""
    notes: tuple[str, ...]
    """What the user should be told, once."""

    @classmethod
    def create(cls, policy: SlotPolicy, snapshot: GpuSnapshot, topology: CpuTopology) -> SlotSetup:
        """Intersect what is there, what was inherited and what was asked for.

        Raises `UsageError` naming the flag: an unknown GPU, fewer GPUs than `--num_gpus`, a count out of range.
        """
        raise NotImplementedError

    @property
    def default_max_parallel(self) -> int:
        """Jobs at once unless the user says otherwise."""
        raise NotImplementedError

    def table(
        self,
        snapshot: GpuSnapshot,
        occupants: Sequence[Occupant] = (),
        *,
        usage: GpuUsage | None = None,
        peaks: LearnedPeaks | None = None,
    ) -> SlotTable:
        """The slots as they are now. Built once per snapshot; between snapshots `place` and `release` update it."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A placement and the table in which it is taken."""

    placement: Placement
    table: SlotTable


@dataclass(frozen=True, kw_only=True)
class SlotTable:
    """Free slots. Immutable: every change is a new table."""

    def place(self, request: SlotRequest) -> Placed | NoRoom:
        """The best slot for it: least loaded GPU first, after an out-of-memory the roomiest."""
        raise NotImplementedError

    def release(self, placement: Placement) -> SlotTable:
        """The table with this placement's share, cores and reservation given back."""
        raise NotImplementedError


def memory_is_back(
    occupant: Occupant, snapshot: GpuSnapshot, usage: GpuUsage, *, waited_s: float, policy: SlotPolicy
) -> bool:
    """Whether an ended attempt's GPU memory was returned (or waiting for it went on long enough)."""
    raise NotImplementedError


def on_lost_gpu(occupants: Sequence[Occupant], snapshot: GpuSnapshot) -> tuple[Occupant, ...]:
    """Those whose GPU was lost: their programs cannot go on and should be told why they end."""
    raise NotImplementedError
