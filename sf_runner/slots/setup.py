"""The choice of devices for a run: what is there, what was inherited and what was asked for. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from sf_runner.basics.errors import NotHereError, UsageError
from sf_runner.slots.cores import CpuTopology
from sf_runner.slots.devices import GpuInfo, GpuSnapshot
from sf_runner.slots.types import LEAVE_ALONE, SlotPolicy
from sf_runner.slots.visible import chosen_devices, visible_devices

_TAKE_TURNS = (
    "Experiments that share a GPU take turns on it, because NVIDIA's MPS does not run here; "
    "`nvidia-cuda-mps-control -d` before the run starts it (docs/gpu_slots.md)."
)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Devices in order of preference, and what the user should be told once."""

    gpus: tuple[GpuInfo, ...] = ()
    notes: tuple[str, ...] = ()


def choose_devices(policy: SlotPolicy, snapshot: GpuSnapshot, topology: CpuTopology) -> Choice:
    """The devices of this run. Raises `UsageError` for anything that was asked for and cannot be had, `NotHereError`
    where another machine might have it."""
    _check_counts(policy, topology)
    if policy.experiments_per_gpu == LEAVE_ALONE:
        return Choice(notes=_no_placement_notes(policy))
    pci_order = policy.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    inherited = policy.environ.get("CUDA_VISIBLE_DEVICES")
    visible = visible_devices(inherited, snapshot.gpus, pci_order=pci_order)
    wanted = list(visible.gpus)
    if policy.gpus is not None:
        wanted = chosen_devices(policy.gpus, snapshot.gpus, visible.gpus)
    usable = [gpu for gpu in wanted if not gpu.lost and gpu.compute_mode != "prohibited"]
    notes = [visible.note, *(_prohibited(gpu) for gpu in wanted if gpu.compute_mode == "prohibited")]
    if policy.num_gpus > len(usable):
        raise NotHereError(_too_few(policy, snapshot, usable, inherited))
    # Where busy GPUs are passed over, which ones make up the number is decided when a job starts.
    if policy.num_gpus == 0 or (policy.num_gpus > 0 and not policy.gpu_exclude_busy):
        usable = usable[: policy.num_gpus]
    notes += _memory_notes(policy, usable)
    if policy.experiments_per_gpu > 1:
        notes += [_exclusive(gpu) for gpu in usable if gpu.compute_mode == "exclusive" and not policy.mps]
        if usable and policy.mps is False:
            notes.append(_TAKE_TURNS)
    return Choice(gpus=tuple(usable), notes=tuple(note for note in notes if note))


def _check_counts(policy: SlotPolicy, topology: CpuTopology) -> None:
    per_gpu = policy.experiments_per_gpu
    if per_gpu < 1 and per_gpu != LEAVE_ALONE:
        raise UsageError(
            f"{policy.told('experiments_per_gpu')}: give at least 1, or -1 to leave CUDA_VISIBLE_DEVICES alone."
        )
    if policy.num_gpus < -1:
        raise UsageError(f"{policy.told('num_gpus')}: give a number of GPUs, or -1 for all.")
    if policy.gpu_memory_mb is not None and policy.gpu_memory_mb < 1:
        raise UsageError(f"--gpu_memory_per_experiment={policy.gpu_memory_mb}: give at least 1 MB.")
    cpus = policy.cpus_per_experiment
    if cpus is not None and not 1 <= cpus <= topology.num_cpus:
        kind = UsageError if cpus < 1 else NotHereError
        raise kind(f"--cpus_per_experiment={cpus}: give 1 to {topology.num_cpus}, the CPUs this process may use.")
    needs_placement = {
        "--gpus": policy.gpus is not None,
        "--gpu_exclude_busy": policy.gpu_exclude_busy,
        "--gpu_memory_per_experiment": policy.gpu_memory_mb is not None,
    }
    for flag, given in needs_placement.items():
        if given and per_gpu == LEAVE_ALONE:
            said = policy.said.get("experiments_per_gpu")
            but = f" ({said})" if said else ""
            raise UsageError(
                f"{flag} needs GPUs to be handed out: set --experiments_per_gpu to 1 or more, not to -1{but}."
            )


def _no_placement_notes(policy: SlotPolicy) -> tuple[str, ...]:
    if policy.num_gpus <= 0:
        return ()
    return (f"{policy.told('num_gpus')} has no effect with {policy.told('experiments_per_gpu')}.",)


def _prohibited(gpu: GpuInfo) -> str:
    return f"{gpu.label} is in compute mode PROHIBITED and is left out (`nvidia-smi -i {gpu.index} -c DEFAULT`)."


def _exclusive(gpu: GpuInfo) -> str:
    return (
        f"{gpu.label} is in compute mode EXCLUSIVE_PROCESS: without MPS a second process on it fails "
        f"(`nvidia-smi -i {gpu.index} -c DEFAULT` allows several)."
    )


def _memory_notes(policy: SlotPolicy, gpus: list[GpuInfo]) -> list[str]:
    """Whether `--gpu_memory_per_experiment` can be kept. Raises `UsageError` if no GPU is large enough."""
    if policy.gpu_memory_mb is None or not gpus:
        return []
    silent = [gpu.label for gpu in gpus if gpu.usable_mb is None]
    largest = max((gpu.usable_mb for gpu in gpus if gpu.usable_mb is not None), default=0)
    if not silent and policy.gpu_memory_mb > largest:
        raise NotHereError(
            f"--gpu_memory_per_experiment={policy.gpu_memory_mb} MB: the largest GPU here has {largest} MB."
        )
    if silent:
        return [f"{', '.join(silent)}: memory is not reported, --gpu_memory_per_experiment is not checked there."]
    return []


def _too_few(policy: SlotPolicy, snapshot: GpuSnapshot, usable: list[GpuInfo], inherited: str | None) -> str:
    if not snapshot.gpus:
        remedy = "Give --num_gpus=0" if "num_gpus" in policy.said else "Leave --num_gpus out"
        return f"{policy.told('num_gpus')}, but no GPU was found here. {remedy} to use cores."
    count = f"only {len(usable)} GPU{'' if len(usable) == 1 else 's'}" if usable else "no GPU"
    causes = []
    if inherited is not None:
        causes.append(f"CUDA_VISIBLE_DEVICES={inherited}")
    if policy.gpus is not None:
        causes.append(f"--gpus={','.join(policy.gpus)}")
    of = f" of {len(snapshot.gpus)}" if len(snapshot.gpus) > len(usable) else ""
    why = f" ({' and '.join(causes)})" if causes and of else ""
    remedy = "Give a lower --num_gpus" if "num_gpus" in policy.said else "Lower it or leave it out"
    return f"{policy.told('num_gpus')}, but {count}{of} can be used here{why}. {remedy}."
