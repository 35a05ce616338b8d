"""A fake NVIDIA driver: a real shared library that `pynvml` loads, and the machine it pretends to see.

    fake = FakeNvml(tmp_path, [FakeGpu(uuid="GPU-aa"), FakeGpu(uuid="GPU-bb", processes={4711: 9000})])
    with fake.loaded():                       # for this process, or
        ...
    subprocess.run(command, env={**os.environ, **fake.env()})   # for a child
    fake.gpus[1].errors["*"] = GPU_IS_LOST
    fake.write()                              # seen by the next call into the library

Programs run as jobs can pretend to use memory of the GPU they were given with `claim_gpu_memory`.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STATE_VARIABLE = "SF_FAKE_NVML_STATE"
CLAIMS_VARIABLE = "SF_FAKE_NVML_CLAIMS"
LIBRARY_NAME = "libnvidia-ml.so.1"

UNINITIALIZED = 1
NOT_SUPPORTED = 3
NO_PERMISSION = 4
DRIVER_NOT_LOADED = 9
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
RESET_REQUIRED = 16
VERSION_MISMATCH = 18
UNKNOWN = 999


def compiler() -> str | None:
    """The C compiler that would build the library, or None: tests then skip and say so."""
    return shutil.which("gcc") or shutil.which("cc")


@dataclass(kw_only=True)
class FakeGpu:
    """One GPU, or one MIG instance of one. Memory in MB; None leaves a value unsupported."""

    uuid: str
    name: str = "Fake A100"
    total_mb: int = 40_000
    reserved_mb: int = 0
    """What the driver keeps: part of `used` in version 1 of the memory call, apart in version 2."""
    used_mb: int = 0
    """In use by nobody who is listed; what the processes use comes on top."""
    utilization_pct: int | None = 0
    temperature_c: int | None = 40
    compute_mode: int | None = 0
    pci_bus_id: str | None = None
    processes: dict[int, int | None] = field(default_factory=dict)
    mps_processes: dict[int, int | None] = field(default_factory=dict)
    mig: list[FakeGpu | None] | None = None
    """Instances of a GPU in MIG mode, None for a free place; None as a whole: the GPU knows no MIG mode."""
    errors: dict[str, int] = field(default_factory=dict)
    """NVML function (or `*`) -> the code it fails with."""
    hanging: str | None = None
    """NVML function that does not return until this is None again."""

    def lines(self, device: str) -> list[str]:
        """Its part of the state file."""
        values: list[tuple[str, object]] = [
            ("uuid", self.uuid),
            ("name", self.name),
            ("total", self.total_mb),
            ("reserved", self.reserved_mb),
            ("used", self.used_mb),
            ("util", self.utilization_pct),
            ("temp", self.temperature_c),
            ("compute_mode", self.compute_mode),
            ("pci", self.pci_bus_id),
            ("hang", self.hanging),
        ]
        values += [("process", _process(*entry)) for entry in self.processes.items()]
        values += [("mps_process", _process(*entry)) for entry in self.mps_processes.items()]
        values += [("error", f"{call} {code}") for call, code in self.errors.items()]
        if "." in device:
            values.append(("gpu_instance", 7 + int(device.partition(".")[2])))
        elif self.mig is not None:
            values += [("mig", 1), ("mig_max", 7)]
        lines = [f"{device} {key} {value}" for key, value in values if value is not None]
        for i, instance in enumerate(self.mig or ()):
            lines += instance.lines(f"{device}.{i}") if instance else []
        return lines


def _process(pid: int, memory_mb: int | None) -> str:
    return f"{pid} {'-' if memory_mb is None else memory_mb}"


@functools.lru_cache(maxsize=1)
def _library_bytes() -> bytes:
    """The compiled library: once per process, kept in memory so that nothing stays behind on disk."""
    gcc = compiler()
    if gcc is None:
        raise RuntimeError("the fake NVML library needs a C compiler: install gcc")
    source = Path(__file__).with_name("fake_nvml.c")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / LIBRARY_NAME
        command = [
            gcc,
            "-shared",
            "-fPIC",
            "-O1",
            f"-Wl,-soname,{LIBRARY_NAME}",
            "-o",
            str(target),
            str(source),
        ]
        subprocess.run(command, check=True, capture_output=True, text=True)
        return target.read_bytes()


class FakeNvml:
    """The library in `folder` and the state it reads. Change `gpus` or `errors`, then call `write`."""

    def __init__(self, folder: Path, gpus: Sequence[FakeGpu] = (), *, driver: str = "550.54.15") -> None:
        self.gpus = list(gpus)
        self.errors: dict[str, int] = {}
        """Calls that concern no device (nvmlInitWithFlags and so on) -> the code they fail with."""
        self.driver = driver
        self.folder = folder
        self.claims = folder / "claims"
        self.claims.mkdir(parents=True, exist_ok=True)
        self._generation = 1
        self._state = folder / "nvml_state.txt"
        (folder / LIBRARY_NAME).write_bytes(_library_bytes())
        self.write()

    def write(self) -> None:
        """Make the present state the one that the library sees, atomically."""
        lines = [
            f"system driver {self.driver}",
            f"system count {len(self.gpus)}",
            f"system generation {self._generation}",
            *(f"system error {call} {code}" for call, code in self.errors.items()),
        ]
        for index, gpu in enumerate(self.gpus):
            lines += gpu.lines(str(index))
        draft = self._state.with_suffix(".new")
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
        draft.replace(self._state)

    def restart_driver(self) -> None:
        """From now on every call fails as uninitialized until the library is initialized again."""
        self._generation += 1
        self.write()

    def variables(self) -> dict[str, str]:
        """What the library itself reads from the environment."""
        return {STATE_VARIABLE: str(self._state), CLAIMS_VARIABLE: str(self.claims)}

    def env(self, base: Mapping[str, str] = os.environ) -> dict[str, str]:
        """What a child process needs to find this library first, to be laid over `base`."""
        path = base.get("LD_LIBRARY_PATH")
        folders = str(self.folder) + (os.pathsep + path if path else "")
        return {**self.variables(), "LD_LIBRARY_PATH": folders}

    @contextmanager
    def loaded(self) -> Iterator[FakeNvml]:
        """Make it this process's NVML, instead of a real one that may be loaded already."""
        from sf_runner.slots import nvml

        pynvml: Any = vars(nvml)["pynvml"]
        before = {name: os.environ.get(name) for name in self.variables()}
        library = pynvml.nvmlLib
        pynvml.nvmlLib = ctypes.CDLL(str(self.folder / LIBRARY_NAME))
        pynvml._nvmlGetFunctionPointer_cache.clear()
        os.environ.update(self.variables())
        try:
            yield self
        finally:
            pynvml.nvmlLib = library
            pynvml._nvmlGetFunctionPointer_cache.clear()
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def claim_gpu_memory(memory_mb: int, *, environ: Mapping[str, str] = os.environ) -> None:
    """In a job under a fake driver: use `memory_mb` of each GPU it was given, until this process ends."""
    folder = Path(environ[CLAIMS_VARIABLE])
    lines = [f"{uuid} {memory_mb}\n" for uuid in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if uuid]
    draft = folder / f".{os.getpid()}"
    draft.write_text("".join(lines), encoding="utf-8")
    draft.replace(folder / str(os.getpid()))
