"""What can be started where: GPUs and cores, a policy and the jobs that run -> placements. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from sf_runner.slots.cores import CpuTopology, pick_cpus
from sf_runner.slots.devices import GpuInfo, GpuSnapshot
from sf_runner.slots.gpu_memory import (
    GpuUsage,
    LearnedPeaks,
    claims_on,
    is_drained,
    others_mb,
    room_mb,
    strangers_on,
    vacated_mb,
)
from sf_runner.slots.gpu_placement import GpuSlot, choose_gpus
from sf_runner.slots.placement import Placement
from sf_runner.slots.setup import choose_devices
from sf_runner.slots.types import LEAVE_ALONE, NoRoom, Occupant, SlotPolicy, SlotRequest
from sf_runner.slots.visible import Visible, visible_devices

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_NO_GPU = "-1"
"""Hides all devices like the empty string, and is not mistaken for an unset variable."""
_EGL = "MUJOCO_EGL_DEVICE_ID"
_BLIND_RELEASE_S = 3.0
"""How long to wait for memory whose return cannot be seen."""


@dataclass(frozen=True, kw_only=True)
class SlotSetup:
    """The devices and cores of this run, chosen once at the start."""

    policy: SlotPolicy
    topology: CpuTopology
    gpus: tuple[GpuInfo, ...] = ()
    """In order of preference, as they were at the start; empty: no GPU is handed out."""
    notes: tuple[str, ...] = ()
    """What the user should be told, once."""

    @classmethod
    def create(cls, policy: SlotPolicy, snapshot: GpuSnapshot, topology: CpuTopology) -> SlotSetup:
        """Intersect what is there, what was inherited and what was asked for.

        Raises `UsageError` naming the flag: an unknown GPU, fewer GPUs than `--num_gpus`, a count out of
        range.
        """
        choice = choose_devices(policy, snapshot, topology)
        return cls(policy=policy, topology=topology, gpus=choice.gpus, notes=choice.notes)

    @cached_property
    def gpu_uuids(self) -> tuple[str, ...]:
        """The devices by UUID, in order of preference."""
        return tuple(gpu.uuid for gpu in self.gpus)

    @property
    def default_max_parallel(self) -> int:
        """Jobs at once unless the user says otherwise: GPU slots, or CPUs over `cpus_per_experiment`."""
        by_cpu = max(1, self.topology.num_cpus // (self.policy.cpus_per_experiment or 1))
        if not self.gpus:
            return by_cpu
        count = len(self.gpus) if self.policy.num_gpus < 0 else min(len(self.gpus), self.policy.num_gpus)
        by_gpu = count * self.policy.experiments_per_gpu
        return min(by_gpu, by_cpu) if self.policy.cpus_per_experiment else by_gpu

    @cached_property
    def unplaced(self) -> Placement:
        """What a job gets that needs neither GPU nor cores of its own."""
        hidden = self.gpus or (self.policy.num_gpus == 0 and self.policy.experiments_per_gpu != LEAVE_ALONE)
        return Placement(env={"CUDA_VISIBLE_DEVICES": _NO_GPU} if hidden else {})

    def own_devices(self, request: SlotRequest) -> Visible | None:
        """The devices that the experiment's own CUDA_VISIBLE_DEVICES names; None: it has none."""
        value = next((v for k, v in request.user_env if k == "CUDA_VISIBLE_DEVICES"), None)
        return None if value is None or not self.gpus else visible_devices(value, self.gpus)

    def table(
        self,
        snapshot: GpuSnapshot,
        occupants: Sequence[Occupant] = (),
        *,
        usage: GpuUsage | None = None,
        peaks: LearnedPeaks | None = None,
    ) -> SlotTable:
        """The slots as they are now. Built once per snapshot; in between `place` and `release` update it."""
        holders: dict[str, list[tuple[str, Placement, bool]]] = {uuid: [] for uuid in self.gpu_uuids}
        free = set(self.topology.cpus)
        for occupant in occupants:
            if not occupant.ended:
                free.difference_update(occupant.placement.cores)
            for uuid in occupant.placement.gpu_uuids:
                if uuid in holders:
                    holders[uuid].append((occupant.job, occupant.placement, occupant.ended))
        now = snapshot.by_uuid()
        slots = []
        for gpu in self.gpus:
            current = now.get(gpu.uuid) or replace(gpu, lost=True)
            claims = claims_on(gpu.uuid, holders[gpu.uuid], usage)
            slots.append(
                GpuSlot(
                    gpu=current,
                    jobs=len(claims),
                    room_mb=room_mb(current, claims),
                    vacated_mb=vacated_mb(current, claims),
                    others_mb=others_mb(current, claims),
                    stranger=strangers_on(current, claims, usage),
                )
            )
        return SlotTable(
            setup=self,
            gpus=tuple(slots),
            free_cpus=frozenset(free),
            cpus_taken=len(self.topology.cpus) - len(free),
            peaks=peaks or LearnedPeaks(),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """A placement and the table in which it is taken."""

    placement: Placement
    table: SlotTable


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotTable:
    """Free slots. Immutable: every change is a new table."""

    setup: SlotSetup
    gpus: tuple[GpuSlot, ...] = ()
    free_cpus: frozenset[int] = frozenset()
    cpus_taken: int = 0
    peaks: LearnedPeaks = field(default_factory=LearnedPeaks)

    def place(self, request: SlotRequest, *, avoid: Collection[str] = ()) -> Placed | NoRoom:
        """The best slot for it: least loaded GPU first, after an out-of-memory the roomiest. `avoid`: GPUs (UUIDs) that
        are kept for somebody else."""
        if avoid:
            placed = self._place(request, tuple(slot for slot in self.gpus if slot.gpu.uuid not in avoid))
            if isinstance(placed, Placed) or isinstance(refused := self._place(request, self.gpus), NoRoom):
                return placed if isinstance(placed, Placed) else refused
            return NoRoom(kind="full", reason="room is kept for an experiment that needs more of it")
        return self._place(request, self.gpus)

    def _place(self, request: SlotRequest, gpus: tuple[GpuSlot, ...]) -> Placed | NoRoom:
        setup = self.setup
        own = None
        if request.user_env and (named := setup.own_devices(request)) is not None:
            if named.note:
                return NoRoom(kind="never", reason=f"its env_vars: {named.note}")
            own = frozenset(gpu.uuid for gpu in named.gpus)
        wanted = _gpus_wanted(setup, request, own)
        cpus = request.cpus if request.cpus is not None else setup.policy.cpus_per_experiment
        if not wanted and not cpus:
            return Placed(placement=setup.unplaced, table=self)
        picked: list[GpuSlot] = []
        need = self._need_mb(request)
        if wanted:
            choice = choose_gpus(
                gpus, setup.policy, wanted=wanted, need_mb=need, roomier_than_mb=request.roomier_than_mb, own=own
            )
            if isinstance(choice, NoRoom):
                return choice
            picked = choice
        cores: tuple[int, ...] = ()
        if cpus:
            near = picked[0].gpu.numa_node if picked else None
            found = self._choose_cpus(cpus, near)
            if isinstance(found, NoRoom):
                return found
            cores = found
        placement = self._placement(request, picked, cores, need)
        return Placed(placement=placement, table=self._with(placement))

    def release(self, placement: Placement) -> SlotTable:
        """The table with this placement's share and cores given back, its memory with the next snapshot."""
        if placement is self.setup.unplaced:
            return self
        gpus = tuple(
            replace(slot, jobs=max(0, slot.jobs - 1)) if slot.gpu.uuid in placement.gpu_uuids else slot
            for slot in self.gpus
        )
        free = self.free_cpus | (self.setup.topology.cpus & set(placement.cores))
        taken = self.cpus_taken - (len(free) - len(self.free_cpus))
        return replace(self, gpus=gpus, free_cpus=free, cpus_taken=taken)

    def vacated(self) -> SlotTable:
        """The table as it would be if all jobs of this run had ended. Others keep what they have. GPUs where the fewest
        have to end come first."""
        gpus = tuple(slot.vacated() for slot in sorted(self.gpus, key=lambda slot: slot.jobs))
        return replace(self, gpus=gpus, free_cpus=self.setup.topology.cpus, cpus_taken=0)

    def _need_mb(self, request: SlotRequest) -> int:
        asked = request.gpu_memory_mb or self.setup.policy.gpu_memory_mb or 0
        return self.peaks.need_mb(request.config, asked_mb=asked)

    # CPUs

    def _choose_cpus(self, count: int, near: int | None) -> tuple[int, ...] | NoRoom:
        topology = self.setup.topology
        if count > topology.num_cpus:
            return NoRoom(kind="never", reason=f"it needs {count} CPUs, this run has {topology.num_cpus}")
        picked = None
        if self.cpus_taken + count <= topology.num_cpus:
            picked = pick_cpus(topology, self.free_cpus, count, near=near)
        if picked is None:
            left = topology.num_cpus - self.cpus_taken
            return NoRoom(kind="cores", reason=f"{count} CPUs are needed, {max(0, left)} are free")
        return picked

    # The result

    def _placement(self, request: SlotRequest, picked: list[GpuSlot], cores: tuple[int, ...], need: int) -> Placement:
        rooms = [slot.room_mb for slot in picked if slot.room_mb is not None]
        room = min(rooms, default=None)
        if request.roomier_than_mb is not None and room is not None:
            # It took more than it had: keep neighbours away from that much and a little.
            need = max(need, min(request.roomier_than_mb + 1, room))
        env = dict(self.setup.unplaced.env)
        if picked:
            env = {"CUDA_VISIBLE_DEVICES": self._ids(picked), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
            env |= self._drawing(picked[0].gpu, request)
        if cores:
            env |= thread_variables(len(cores), self.setup.policy.environ, request.user_env)
        return Placement(
            gpu_uuids=tuple(slot.gpu.uuid for slot in picked),
            gpu_indices=tuple(slot.gpu.index for slot in picked),
            mig_index=picked[0].gpu.mig_index if picked else None,
            cores=cores,
            env=env,
            memory_mb=need if picked else 0,
            room_mb=room,
            others_mb=tuple(slot.others_mb for slot in picked),
        )

    def _drawing(self, gpu: GpuInfo, request: SlotRequest) -> dict[str, str]:
        """MuJoCo draws through EGL, which knows nothing of CUDA_VISIBLE_DEVICES and counts as the driver does: without
        a word it takes the first GPU, whoever computes there."""
        theirs = {name for name, _ in request.user_env} | self.setup.policy.environ.keys()
        return {} if gpu.index == 0 or gpu.mig or _EGL in theirs else {_EGL: str(gpu.index)}

    def _ids(self, picked: list[GpuSlot]) -> str:
        by_index = self.setup.policy.gpu_ids == "index"
        return ",".join(str(s.gpu.index) if by_index and not s.gpu.mig else s.gpu.uuid for s in picked)

    def _with(self, placement: Placement) -> SlotTable:
        gpus = self.gpus
        if placement.gpu_uuids:
            gpus = tuple(
                replace(
                    slot,
                    jobs=slot.jobs + 1,
                    room_mb=None if slot.room_mb is None else slot.room_mb - placement.memory_mb,
                )
                if slot.gpu.uuid in placement.gpu_uuids
                else slot
                for slot in gpus
            )
        free = self.free_cpus - set(placement.cores) if placement.cores else self.free_cpus
        return replace(self, gpus=gpus, free_cpus=free, cpus_taken=self.cpus_taken + len(placement.cores))


def _gpus_wanted(setup: SlotSetup, request: SlotRequest, own: frozenset[str] | None) -> int:
    if setup.policy.experiments_per_gpu == LEAVE_ALONE:
        return 0
    if own is not None:
        return len(own)
    if request.gpus is not None:
        return request.gpus
    return 1 if setup.gpus else 0


def thread_variables(count: int, environ: Mapping[str, str], user_env: frozenset[tuple[str, str]]) -> dict[str, str]:
    """Thread counts for a job bound to `count` CPUs. Where the user set OMP_NUM_THREADS, theirs rule all."""
    theirs = {name for name, _ in user_env} | environ.keys()
    if "OMP_NUM_THREADS" in theirs:
        return {}
    return {name: str(count) for name in THREAD_VARIABLES if name not in theirs}


def memory_is_back(
    occupant: Occupant, snapshot: GpuSnapshot, usage: GpuUsage, *, waited_s: float, policy: SlotPolicy
) -> bool:
    """Whether an ended attempt's GPU memory was returned, or waiting for it went on long enough."""
    if waited_s >= policy.release_timeout_s:
        return True
    if snapshot.age_s > waited_s:
        return False  # it shows the GPU as it was before the attempt ended
    drained = is_drained(occupant.placement, occupant.job, snapshot, usage)
    return waited_s >= _BLIND_RELEASE_S if drained is None else drained


def on_lost_gpu(occupants: Sequence[Occupant], snapshot: GpuSnapshot) -> tuple[Occupant, ...]:
    """Those whose GPU was lost: their programs cannot go on and should be told why they end."""
    now = snapshot.by_uuid()

    def lost(uuid: str) -> bool:
        gpu = now.get(uuid)
        return gpu is None or gpu.lost

    return tuple(o for o in occupants if any(lost(uuid) for uuid in o.placement.gpu_uuids))
