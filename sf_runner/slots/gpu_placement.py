"""Which GPUs an experiment gets, and if none, why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sf_runner.slots.devices import GpuInfo
from sf_runner.slots.types import NoRoom, SlotPolicy


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuSlot:
    """One device and what is left of it."""

    gpu: GpuInfo
    jobs: int = 0
    room_mb: int | None = None
    """Memory that can still be promised; None: unknown, only the number of jobs counts."""
    vacated_mb: int | None = None
    """Memory that could be promised if no job of this run were there; None: unknown."""
    others_mb: int | None = None
    stranger: str | None = None
    """Who else computes there."""

    def vacated(self) -> GpuSlot:
        """As it would be if no job of this run were there."""
        return replace(self, jobs=0, room_mb=self.vacated_mb)

    def holds(self, need_mb: int) -> bool:
        """Whether it could hold so much if nobody else were there."""
        return self.gpu.usable_mb is None or self.gpu.usable_mb >= need_mb


def choose_gpus(
    slots: Sequence[GpuSlot],
    policy: SlotPolicy,
    *,
    wanted: int,
    need_mb: int,
    roomier_than_mb: int | None = None,
    own: frozenset[str] | None = None,
) -> list[GpuSlot] | NoRoom:
    """`wanted` devices with `need_mb` left on each, in PCI bus order.

    Least loaded first, ties in order of preference; after an out-of-memory (`roomier_than_mb`) the roomiest first
    and only those with more room than that. `own` restricts the choice to these UUIDs.
    """
    able = [slot for slot in slots if own is None or slot.gpu.uuid in own]
    if wanted > 1:  # CUDA gives a program one MIG instance at most
        able = [slot for slot in able if slot.gpu.mig is None]
    able = [slot for slot in able if slot.holds(need_mb)]
    reachable = [slot for slot in able if not slot.gpu.lost]
    if len(reachable) < wanted:
        return _impossible(slots, able, wanted, need_mb, restricted=own is not None)
    vacant = [slot for slot in reachable if slot.jobs < policy.experiments_per_gpu]
    fitting = [slot for slot in vacant if slot.room_mb is None or slot.room_mb >= need_mb]
    if roomier_than_mb is not None:
        largest = max(slot.gpu.usable_mb or 0 for slot in reachable)
        fitting = [slot for slot in fitting if _is_roomier(slot, roomier_than_mb, largest)]
    welcome = [slot for slot in fitting if not (policy.gpu_exclude_busy and slot.stranger)]
    picked = _pick(slots, welcome, policy, roomiest=roomier_than_mb is not None)[:wanted]
    if len(picked) < wanted:
        return _waiting(wanted, need_mb, roomier_than_mb, vacant=vacant, fitting=fitting, welcome=welcome)
    return sorted(picked, key=lambda slot: (slot.gpu.index, slot.gpu.mig_index or 0))


def _is_roomier(slot: GpuSlot, than_mb: int, largest_mb: int) -> bool:
    """More room than before. A whole GPU of the largest kind is as good as it gets, whatever there was before."""
    best_there_is = slot.jobs == 0 and (slot.gpu.usable_mb or 0) >= largest_mb
    return best_there_is or (slot.room_mb is not None and slot.room_mb > than_mb)


def _pick(slots: Sequence[GpuSlot], welcome: Sequence[GpuSlot], policy: SlotPolicy, *, roomiest: bool) -> list[GpuSlot]:
    """Best first. Where busy GPUs are passed over, `num_gpus` limits how many are used at a time."""

    def load(slot: GpuSlot) -> tuple[int, int]:
        room = slot.room_mb if roomiest and slot.room_mb is not None else 0
        return -room, slot.jobs + (slot.stranger is not None)

    ordered = sorted(welcome, key=load)  # stable: ties keep the order of preference
    if policy.num_gpus < 0 or not policy.gpu_exclude_busy:
        return ordered
    unused = policy.num_gpus - sum(slot.jobs > 0 for slot in slots)
    picked = []
    for slot in ordered:
        if slot.jobs == 0 and unused <= 0:
            continue
        unused -= slot.jobs == 0
        picked.append(slot)
    return picked


def _impossible(
    slots: Sequence[GpuSlot], able: Sequence[GpuSlot], wanted: int, need_mb: int, *, restricted: bool
) -> NoRoom:
    """Why the devices of this run do not suffice."""
    if len(able) >= wanted:
        lost = [slot.gpu.label for slot in able if slot.gpu.lost]
        were = f"{' and '.join(lost)} {'was' if len(lost) == 1 else 'were'} lost"
        return NoRoom(kind="lost", reason=f"{were} and no other GPU of this run can take its place")
    if restricted:
        return NoRoom(kind="never", reason="its own CUDA_VISIBLE_DEVICES names GPUs that cannot hold it")
    whole = [slot for slot in slots if slot.gpu.mig is None]
    usable = slots if wanted == 1 else whole
    if len(usable) >= wanted:
        largest = max(slot.gpu.usable_mb or 0 for slot in usable)
        each = "" if wanted == 1 else f" on each of {wanted} GPUs"
        text = f"it needs {need_mb} MB of GPU memory{each}, the largest GPU of this run has {largest} MB"
        return NoRoom(kind="never", reason=text)
    mig = " (a MIG instance cannot be one of several)" if len(whole) < len(slots) else ""
    text = f"it needs {wanted} GPU{'' if wanted == 1 else 's'}, this run has {len(usable)}{mig}"
    return NoRoom(kind="never", reason=text)


def _waiting(
    wanted: int,
    need_mb: int,
    roomier_than_mb: int | None,
    *,
    vacant: Sequence[GpuSlot],
    fitting: Sequence[GpuSlot],
    welcome: Sequence[GpuSlot],
) -> NoRoom:
    """What has to happen before there is room."""
    if len(vacant) < wanted:
        return NoRoom(kind="full", reason="all GPU slots are taken")
    if len(fitting) < wanted and roomier_than_mb is not None:
        text = f"it ran out of GPU memory with {roomier_than_mb} MB to be had and needs more, or a GPU of its own"
        return NoRoom(kind="memory", reason=text)
    if len(fitting) < wanted:
        roomiest = max(vacant, key=lambda slot: slot.room_mb or 0)
        who = "no GPU has" if wanted == 1 else f"fewer than {wanted} GPUs have"
        text = f"{who} {need_mb} MB of memory left, {roomiest.gpu.label} has {max(0, roomiest.room_mb or 0)} MB"
        return NoRoom(kind="memory", reason=text)
    if len(welcome) < wanted:
        strangers = "; ".join(f"{slot.gpu.label}: {slot.stranger}" for slot in fitting if slot.stranger)
        return NoRoom(kind="busy", reason=f"others use the GPUs ({strangers}), see --gpu_exclude_busy")
    return NoRoom(kind="full", reason="as many GPUs as this run may use are taken")
