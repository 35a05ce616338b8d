"""The GPUs as the NVIDIA driver describes them. The only importer of `pynvml`.

NVML counts GPUs in PCI bus order and ignores CUDA_VISIBLE_DEVICES. A GPU in MIG mode is reported as its
instances.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

try:
    import pynvml
except ImportError:  # told by the probe: a machine without GPUs does not need the package
    pynvml = None

from sf_runner.slots.devices import ComputeMode, GpuInfo, GpuProcess, GpuSnapshot, Trouble
from sf_runner.slots.pid_trust import PidTrust, is_mps_server
from sf_runner.slots.troubles import TroubleLog

UNINITIALIZED, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, INSUFFICIENT_SIZE = 1, 3, 4, 6, 7
DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND, GPU_IS_LOST, RESET_REQUIRED = 9, 12, 13, 15, 16
LIB_RM_VERSION_MISMATCH, ARGUMENT_VERSION_MISMATCH, GPU_NOT_FOUND, UNKNOWN = 18, 25, 28, 999

_LOST = frozenset({GPU_IS_LOST, RESET_REQUIRED, GPU_NOT_FOUND})
_MISSING = frozenset({NOT_SUPPORTED, FUNCTION_NOT_FOUND, ARGUMENT_VERSION_MISMATCH})
_UNKNOWN_BEFORE_LOST = 3
"""A GPU that fell off the bus may also answer "unknown error"; so does a busy driver, but not for long."""
_SNAPSHOTS_BETWEEN_STARTS = 30
_COMPUTE_MODES: dict[int, ComputeMode] = {0: "default", 1: "exclusive", 2: "prohibited", 3: "exclusive"}
_MB = 1 << 20
_NAMELESS = "GPU-lost-"
"""Stands for the UUID of a device that was lost before it could tell it."""

_NO_START = {
    LIBRARY_NOT_FOUND: "No NVIDIA driver found (libnvidia-ml.so.1 is missing): no GPU is used.",
    DRIVER_NOT_LOADED: "The NVIDIA driver is installed but not loaded (try `nvidia-smi`): no GPU is used.",
    NO_PERMISSION: "No permission to use the NVIDIA driver (see `ls -l /dev/nvidia*`): no GPU is used.",
    LIB_RM_VERSION_MISMATCH: "The NVIDIA driver was updated while an older one runs: reboot to use GPUs.",
}


class _DriverStoppedError(Exception):
    """The library must be initialized again."""


class _GpuLostError(Exception):
    """The driver no longer reaches this one device."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class _Device:
    """What does not change while the library is up, and the last values read."""

    index: int
    uuid: str = ""
    handle: Any = None
    name: str = ""
    numa_node: int | None = None
    unknown_errors: int = 0
    last: tuple[GpuInfo, ...] = ()

    @property
    def label(self) -> str:
        return f"GPU {self.index}"


class NvmlProbe:
    """Polls the driver; cheap enough for once a second, never raises for anything the driver does.

    Each trouble is told once per device: a snapshot's `warnings` holds only what is new. A lost GPU stays in
    the snapshot with `lost` set. While the whole driver does not answer, the devices known before are kept
    with their values unknown: its silence does not mean that the jobs on them are in trouble.
    """

    def __init__(self, *, sys_root: Path = Path("/sys"), pids: PidTrust | None = None) -> None:
        self._sys = sys_root
        self._pids = pids if pids is not None else PidTrust()
        self._troubles = TroubleLog()
        self._devices: list[_Device] = []
        self._driver: str | None = None
        self._started = False
        self._snapshots_until_start = 0
        self._memory_v2 = True

    def snapshot(self) -> GpuSnapshot:
        """The devices now. Without a library or driver: no GPUs and one warning."""
        for _ in range(2):  # once more after the library had to be started again
            if not self._started and not self._start():
                break
            try:
                gpus = [gpu for device in self._devices for gpu in self._read(device)]
            except _DriverStoppedError:
                self._stop()
                continue
            return self._result(self._pids.checked(gpus, self._troubles))
        return self._result([_values_unknown(gpu) for device in self._devices for gpu in device.last])

    def close(self) -> None:
        """Let go of the library. Harmless when repeated; a later `snapshot` starts it again."""
        self._stop()
        self._snapshots_until_start = 0

    def _result(self, gpus: list[GpuInfo]) -> GpuSnapshot:
        return GpuSnapshot(gpus=tuple(gpus), warnings=self._troubles.drain(), driver=self._driver)

    # Starting the library

    def _start(self) -> bool:
        if self._snapshots_until_start > 0:
            self._snapshots_until_start -= 1
            return False
        self._snapshots_until_start = _SNAPSHOTS_BETWEEN_STARTS
        if pynvml is None:
            self._troubles.note("driver", "GPUs cannot be seen: run `pip install nvidia-ml-py`.")
            return False
        try:
            pynvml.nvmlInit()
            self._driver = pynvml.nvmlSystemGetDriverVersion()
            self._devices = self._find_devices()
        except (pynvml.NVMLError, _DriverStoppedError) as error:
            code = getattr(error, "value", UNINITIALIZED)
            text = _NO_START.get(code, f"The NVIDIA driver does not answer ({error}): no GPU is used.")
            self._troubles.note("driver", text)
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()
            return False
        self._started = True
        self._snapshots_until_start = 0
        if self._troubles.forget("driver"):
            self._troubles.note("back", "The NVIDIA driver answers again.")
            self._troubles.forget("back")
        return True

    def _stop(self) -> None:
        if self._started:
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()
        self._started = False

    def _find_devices(self) -> list[_Device]:
        """All devices, with what was known of them before; those that vanished meanwhile count as lost."""
        before = {device.uuid: device for device in self._devices}
        found = [d for i in range(pynvml.nvmlDeviceGetCount()) if (d := self._open(i)) is not None]
        for device in found:
            if device.handle is None and not device.uuid:  # lost: it can no longer say which one it is
                known = next((old for old in before.values() if old.index == device.index), None)
                device.uuid = known.uuid if known else f"{_NAMELESS}{device.index}"
            if known := before.pop(device.uuid, None):
                device.last, device.name = known.last, known.name
        for device in before.values():
            device.handle = None
        return sorted([*found, *before.values()], key=lambda device: device.index)

    def _open(self, index: int) -> _Device | None:
        """The device at `index`, lost or not; None if it may not be used."""
        device = _Device(index=index)
        try:
            self._identify(device)
        except _GpuLostError:
            device.handle = None  # `_read` tells it
        except pynvml.NVMLError as error:
            kind: Trouble = "permission" if error.value == NO_PERMISSION else "error"
            self._trouble(kind, f"{{gpus}} cannot be opened ({error}): left out.", device)
            return None
        return device

    def _identify(self, device: _Device) -> None:
        device.handle = self._call(pynvml.nvmlDeviceGetHandleByIndex, device.index)
        uuid = self._call(pynvml.nvmlDeviceGetUUID, device.handle)
        if device.uuid not in ("", uuid) and not device.uuid.startswith(_NAMELESS):
            raise _GpuLostError(GPU_NOT_FOUND)  # another device took its index
        device.uuid = uuid
        device.name = self._ask(device, "name", pynvml.nvmlDeviceGetName, device.handle) or ""
        pci = self._ask(device, "", pynvml.nvmlDeviceGetPciInfo, device.handle)
        device.numa_node = None if pci is None else self._numa_node(pci.busId)

    def _numa_node(self, bus_id: str | bytes) -> int | None:
        """`00000000:3B:00.0` is `0000:3b:00.0` in sysfs; -1 there: the machine has only one node."""
        text = bus_id.decode() if isinstance(bus_id, bytes) else bus_id
        try:
            path = self._sys / "bus/pci/devices" / text.lower()[-12:] / "numa_node"
            node = int(path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        return node if node >= 0 else None

    # Calling the library

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call, sorting out the two errors that concern more than one value."""
        try:
            return function(*args)
        except pynvml.NVMLError as error:
            if error.value == UNINITIALIZED:
                raise _DriverStoppedError from None
            if error.value in _LOST:
                raise _GpuLostError(error.value) from None
            raise

    def _ask(self, device: _Device, what: str, function: Callable[..., Any], *args: Any) -> Any:
        """The value, or None after telling why it is missing (nothing is told where `what` is empty)."""
        try:
            return self._call(function, *args)
        except pynvml.NVMLError as error:
            if what:
                self._explain(device, what, error)
            return None

    def _explain(self, device: _Device, what: str, error: Any) -> None:
        if error.value in _MISSING:
            self._trouble("unsupported", f"{{gpus}}: the driver does not tell {what} (not supported).", device)
        elif error.value == NO_PERMISSION:
            self._trouble("permission", f"{{gpus}}: no permission to read {what}.", device)
        elif error.value != UNKNOWN:  # passes, or means that the GPU is lost
            self._trouble("error", f"{{gpus}}: cannot read {what} ({error}).", device)

    def _trouble(self, kind: Trouble, text: str, device: _Device) -> None:
        self._troubles.note(kind, text, label=device.label, uuid=device.uuid)

    # Reading one device

    def _read(self, device: _Device) -> tuple[GpuInfo, ...]:
        try:
            if device.handle is None:
                self._identify(device)
            mode = self._ask(device, "", pynvml.nvmlDeviceGetMigMode, device.handle)
            gpus = self._read_instances(device) if mode and mode[0] == 1 else (self._read_gpu(device),)
        except _GpuLostError as error:
            return self._lost(device, error.code)
        except pynvml.NVMLError as error:
            return self._lost(device, error.value)
        if self._troubles.forget("lost", uuid=device.uuid):
            self._trouble("back", "{gpus} answers again.", device)
            self._troubles.forget("back", uuid=device.uuid)
        device.last = gpus
        return gpus

    def _lost(self, device: _Device, code: int) -> tuple[GpuInfo, ...]:
        """The last known devices, marked; told once until it answers again."""
        device.handle = None
        what = "needs a reset (`nvidia-smi --gpu-reset`)" if code == RESET_REQUIRED else "was lost"
        self._trouble("lost", f"{{gpus}} {what}: the driver cannot reach it, nothing is started there.", device)
        bare = GpuInfo(uuid=device.uuid, index=device.index, name=device.name)
        device.last = tuple(replace(_values_unknown(gpu), lost=True) for gpu in device.last or (bare,))
        return device.last

    def _read_gpu(self, device: _Device) -> GpuInfo:
        mode = self._ask(device, "", pynvml.nvmlDeviceGetComputeMode, device.handle)
        info = GpuInfo(
            uuid=device.uuid,
            index=device.index,
            name=device.name,
            utilization_pct=self._utilization(device),
            temperature_c=self._temperature(device),
            numa_node=device.numa_node,
            compute_mode=None if mode is None else _COMPUTE_MODES.get(mode),
        )
        return self._with_memory(device, device.handle, info)

    def _utilization(self, device: _Device) -> int | None:
        rates = self._ask(device, "utilization", pynvml.nvmlDeviceGetUtilizationRates, device.handle)
        return None if rates is None else int(rates.gpu)

    def _temperature(self, device: _Device) -> int | None:
        value = self._ask(device, "temperature", pynvml.nvmlDeviceGetTemperature, device.handle, 0)
        return None if value is None else int(value)

    def _with_memory(self, device: _Device, handle: Any, info: GpuInfo) -> GpuInfo:
        """`info` with memory and processes of `handle`, a GPU or an instance."""
        # Processes first: memory taken between the two calls must not count as a job's and as free.
        processes = self._processes(device, handle)
        memory = None
        try:
            memory = self._call(self._memory, handle)
            device.unknown_errors = 0
        except pynvml.NVMLError as error:
            self._explain(device, "memory", error)
            device.unknown_errors += error.value == UNKNOWN
            if device.unknown_errors >= _UNKNOWN_BEFORE_LOST:
                raise _GpuLostError(UNKNOWN) from None
        if memory is None:
            return replace(info, processes=processes)
        return replace(
            info,
            memory_total_mb=memory.total // _MB,
            memory_free_mb=memory.free // _MB,
            memory_used_mb=memory.used // _MB,
            processes=processes,
        )

    def _memory(self, handle: Any) -> Any:
        """Version 2 keeps apart what the driver reserves; drivers before 510 know version 1 only."""
        if not self._memory_v2:
            return pynvml.nvmlDeviceGetMemoryInfo(handle)
        try:
            return pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
        except pynvml.NVMLError as error:
            if error.value not in (FUNCTION_NOT_FOUND, ARGUMENT_VERSION_MISMATCH):
                raise
        self._memory_v2 = False
        return pynvml.nvmlDeviceGetMemoryInfo(handle)

    def _processes(self, device: _Device, handle: Any) -> tuple[GpuProcess, ...] | None:
        """Those that compute, clients of the MPS server included, without that server itself."""
        found = self._ask(device, "which processes use it", _compute_processes, handle)
        if found is None:
            return None
        clients = self._ask(device, "", pynvml.nvmlDeviceGetMPSComputeRunningProcesses_v3, handle) or ()
        memory = {
            int(p.pid): None if p.usedGpuMemory is None else int(p.usedGpuMemory) // _MB for p in (*found, *clients)
        }
        return tuple(GpuProcess(pid=pid, memory_mb=mb) for pid, mb in sorted(memory.items()) if not is_mps_server(pid))

    # MIG

    def _read_instances(self, device: _Device) -> tuple[GpuInfo, ...]:
        places = self._ask(device, "its MIG instances", pynvml.nvmlDeviceGetMaxMigDeviceCount, device.handle)
        temperature = self._temperature(device)
        gpus = []
        for place in range(places or 0):
            try:
                handle = self._call(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, device.handle, place)
                info = self._instance(device, handle, place)
            except pynvml.NVMLError as error:
                if error.value == NO_PERMISSION:
                    text = "{gpus}: no permission for some of its MIG instances (/dev/nvidia-caps): left out."
                    self._trouble("permission", text, device)
                elif error.value != NOT_FOUND:  # a free place is no trouble
                    self._trouble("mig", f"{{gpus}}: cannot read a MIG instance ({error}): left out.", device)
                continue
            gpus.append(self._with_memory(device, handle, replace(info, temperature_c=temperature)))
        if not gpus:
            text = "{gpus} is in MIG mode without an instance you may use (`nvidia-smi mig -lgi`): left out."
            self._trouble("mig", text, device)
        return tuple(gpus)

    def _instance(self, device: _Device, handle: Any, place: int) -> GpuInfo:
        uuid = self._call(pynvml.nvmlDeviceGetUUID, handle)
        known = next((gpu for gpu in device.last if gpu.uuid == uuid), None)
        if known is not None:
            return replace(_values_unknown(known), lost=False)
        gpu_instance = self._ask(device, "", pynvml.nvmlDeviceGetGpuInstanceId, handle)
        compute_instance = self._ask(device, "", pynvml.nvmlDeviceGetComputeInstanceId, handle)
        told = gpu_instance is not None and compute_instance is not None
        return GpuInfo(
            uuid=uuid,
            index=device.index,
            name=self._ask(device, "", pynvml.nvmlDeviceGetName, handle) or f"{device.name} MIG",
            mig=device.uuid,
            mig_index=place,
            mig_alias=f"MIG-{device.uuid}/{gpu_instance}/{compute_instance}" if told else None,
            numa_node=device.numa_node,
        )


def _compute_processes(handle: Any) -> Any:
    """Drivers before 510 know the second version of the call only."""
    try:
        return pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)
    except pynvml.NVMLError as error:
        if error.value == INSUFFICIENT_SIZE:  # many processes started between the two halves of the call
            return pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)
        if error.value != FUNCTION_NOT_FOUND:
            raise
    return pynvml.nvmlDeviceGetComputeRunningProcesses_v2(handle)


def _values_unknown(gpu: GpuInfo) -> GpuInfo:
    """The device without anything that changes."""
    return replace(
        gpu,
        memory_free_mb=None,
        memory_used_mb=None,
        utilization_pct=None,
        temperature_c=None,
        processes=None,
    )
