"""Which GPUs a CUDA_VISIBLE_DEVICES value or a `--gpus` list names. Pure.

CUDA's rules (CUDA C++ Programming Guide, "CUDA Environment Variables", and the driver's behaviour): entries
are either all indices or all ids; ids may be shortened as long as they stay unambiguous; the first entry that
names nothing ends the list; a device named twice makes the whole list empty.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sf_runner.basics.errors import NotHereError, UsageError
from sf_runner.slots.devices import GpuInfo


@dataclass(frozen=True, kw_only=True)
class Visible:
    """The devices named, in that order, and what the user should know about the list."""

    gpus: tuple[GpuInfo, ...]
    note: str = ""


def visible_devices(value: str | None, gpus: Sequence[GpuInfo], *, pci_order: bool = True) -> Visible:
    """The devices that a program started with CUDA_VISIBLE_DEVICES=`value` may use; None: it is not set.

    An index that names a GPU in MIG mode stands for all its instances. `pci_order` is False where
    CUDA_DEVICE_ORDER is not PCI_BUS_ID, so that CUDA itself would count the fastest GPU as 0.
    """
    if value is None:
        return Visible(gpus=tuple(gpus))
    entries = [entry.strip() for entry in value.split(",")]
    by_id = entries[0].lower().startswith(("gpu-", "mig-"))
    chosen: list[GpuInfo] = []
    note = ""
    for entry in entries:
        found = _by_id(entry, gpus) if by_id else _by_index(entry, gpus)
        if not found:
            note = _cut_note(value, entry)
            break
        if any(gpu in chosen for gpu in found):
            twice = f"CUDA_VISIBLE_DEVICES={value} names {found[0].label} twice: CUDA then uses no GPU at all."
            return Visible(gpus=(), note=twice)
        chosen += found
    if not note and not by_id and not pci_order and len({gpu.name for gpu in gpus}) > 1:
        note = (
            f"CUDA_VISIBLE_DEVICES={value} is read in PCI bus order, as nvidia-smi counts; "
            "set CUDA_DEVICE_ORDER=PCI_BUS_ID to be sure that CUDA does the same."
        )
    return Visible(gpus=tuple(chosen), note=note)


def _cut_note(value: str, entry: str) -> str:
    """Empty for the usual ways to say "none"."""
    if value.strip() in ("", "-1", "NoDevFiles"):
        return ""
    return f"CUDA_VISIBLE_DEVICES={value}: '{entry}' names no GPU here; as in CUDA, it ends the list."


def _by_index(entry: str, gpus: Sequence[GpuInfo]) -> list[GpuInfo]:
    """CUDA reads the leading digits and ignores what follows."""
    digits = re.match(r"\+?(\d+)", entry)
    return [gpu for gpu in gpus if gpu.index == int(digits[1])] if digits else []


def _by_id(entry: str, gpus: Sequence[GpuInfo]) -> list[GpuInfo]:
    """The one device whose id starts so; a GPU in MIG mode stands for its instances."""
    wanted = entry.lower()
    if not wanted.startswith(("gpu-", "mig-")):
        return []
    ids = [(name.lower(), gpu) for gpu in gpus for name in (gpu.uuid, gpu.mig, gpu.mig_alias) if name]
    hits = [(name, gpu) for name, gpu in ids if name == wanted]
    hits = hits or [(name, gpu) for name, gpu in ids if name.startswith(wanted)]
    devices = list(dict.fromkeys(gpu for _, gpu in hits))
    return devices if len(devices) == 1 or len({name for name, _ in hits}) == 1 else []


def chosen_devices(tokens: Sequence[str], gpus: Sequence[GpuInfo], visible: Sequence[GpuInfo]) -> list[GpuInfo]:
    """The devices of a `--gpus` list, in its order: indices, ids, or `3:0` for instance 0 of GPU 3.

    Raises `UsageError` for a device named twice, `NotHereError` for one that is not here or is hidden by
    CUDA_VISIBLE_DEVICES.
    """
    chosen: list[GpuInfo] = []
    for token in tokens:
        found = _by_token(token, gpus)
        if not found:
            known = ", ".join(map(_token, gpus)) or "none"
            raise NotHereError(f"--gpus: '{token}' names no GPU here; there are {known} (see `nvidia-smi -L`).")
        for gpu in found:
            if gpu not in visible:
                raise NotHereError(
                    f"--gpus: {gpu.label} is hidden by CUDA_VISIBLE_DEVICES; unset it or choose another GPU."
                )
            if gpu in chosen:
                raise UsageError(f"--gpus: {gpu.label} is named twice.")
        chosen += found
    return chosen


def _token(gpu: GpuInfo) -> str:
    return str(gpu.index) if gpu.mig_index is None else f"{gpu.index}:{gpu.mig_index}"


def _by_token(token: str, gpus: Sequence[GpuInfo]) -> list[GpuInfo]:
    token = token.strip()
    place = re.fullmatch(r"(\d+)(?::(\d+))?", token)
    if place is None:
        return _by_id(token, gpus)
    instance = None if place[2] is None else int(place[2])
    return [gpu for gpu in gpus if gpu.index == int(place[1]) and instance in (None, gpu.mig_index)]
