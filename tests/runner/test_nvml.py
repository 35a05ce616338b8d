"""The probe against a fake driver: a real shared library behind the real `pynvml`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sf_runner.slots.devices import GpuInfo, GpuProcess, GpuSnapshot
from sf_runner.slots.nvml import NvmlProbe
from sf_runner.slots.pid_trust import PidTrust, pid_exists
from sf_runner.slots.probe import GpuProbe
from sf_runner.testing.fake_nvml import (
    DRIVER_NOT_LOADED,
    FUNCTION_NOT_FOUND,
    GPU_IS_LOST,
    NO_PERMISSION,
    NOT_SUPPORTED,
    RESET_REQUIRED,
    UNKNOWN,
    VERSION_MISMATCH,
    FakeGpu,
    FakeNvml,
    claim_gpu_memory,
    compiler,
)

pytestmark = pytest.mark.skipif(compiler() is None, reason="the fake NVML library is built with gcc: not found")

LIBRARY_NOT_FOUND = 12


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeNvml]:
    """Four GPUs: a free one, one that somebody else computes on, another free one, one in MIG mode."""
    gpus = [
        FakeGpu(uuid="GPU-aaaa", reserved_mb=500, used_mb=100, utilization_pct=3, temperature_c=41),
        FakeGpu(uuid="GPU-bbbb", processes={4711: 9000, 4712: None}, utilization_pct=97),
        FakeGpu(uuid="GPU-cccc", pci_bus_id="00000000:C1:00.0"),
        FakeGpu(
            uuid="GPU-dddd",
            utilization_pct=None,
            mig=[FakeGpu(uuid="MIG-d0", total_mb=10_000), None, FakeGpu(uuid="MIG-d2", total_mb=20_000)],
        ),
    ]
    with FakeNvml(tmp_path, gpus).loaded() as loaded:
        yield loaded


@pytest.fixture
def probe(fake: FakeNvml) -> Iterator[NvmlProbe]:
    probe = NvmlProbe(pids=PidTrust(contained=False))
    yield probe
    probe.close()


def messages(snapshot: GpuSnapshot) -> list[str]:
    return [warning.message for warning in snapshot.warnings]


def by_uuid(snapshot: GpuSnapshot, uuid: str) -> GpuInfo:
    return snapshot.by_uuid()[uuid]


def test_reads_everything_and_reports_mig_instances_instead_of_their_gpu(probe: NvmlProbe) -> None:
    snapshot = probe.snapshot()
    assert snapshot.driver == "550.54.15"
    assert [gpu.uuid for gpu in snapshot.gpus] == ["GPU-aaaa", "GPU-bbbb", "GPU-cccc", "MIG-d0", "MIG-d2"]
    assert [gpu.label for gpu in snapshot.gpus] == ["GPU 0", "GPU 1", "GPU 2", "GPU 3 MIG 0", "GPU 3 MIG 2"]
    first, busy, _, mig, _ = snapshot.gpus
    assert (first.memory_total_mb, first.memory_free_mb, first.memory_used_mb) == (40_000, 39_400, 100)
    assert (first.usable_mb, first.utilization_pct, first.temperature_c) == (39_500, 3, 41)
    assert (first.processes, first.compute_mode, first.lost) == ((), "default", False)
    assert busy.processes == (GpuProcess(pid=4711, memory_mb=9000), GpuProcess(pid=4712, memory_mb=None))
    assert (mig.mig, mig.mig_index, mig.mig_alias) == ("GPU-dddd", 0, "MIG-GPU-dddd/7/0")
    assert (mig.memory_total_mb, mig.utilization_pct, mig.temperature_c) == (10_000, None, 40)
    assert messages(snapshot) == []


def test_sees_what_changes(fake: FakeNvml, probe: NvmlProbe) -> None:
    probe.snapshot()
    fake.gpus[0].processes[77] = 3000
    fake.gpus[0].utilization_pct = 88
    fake.write()
    gpu = by_uuid(probe.snapshot(), "GPU-aaaa")
    assert (gpu.memory_used_mb, gpu.memory_free_mb, gpu.utilization_pct) == (3100, 36_400, 88)
    assert gpu.processes == (GpuProcess(pid=77, memory_mb=3000),)


def test_numa_node_comes_from_the_pci_address(fake: FakeNvml, tmp_path: Path) -> None:
    for address, node in (("0000:c1:00.0", "1"), ("0000:c2:00.0", "-1")):
        folder = tmp_path / "sys/bus/pci/devices" / address
        folder.mkdir(parents=True)
        (folder / "numa_node").write_text(node + "\n")
    fake.gpus[0].pci_bus_id = "00000000:C2:00.0"
    fake.write()
    gpus = NvmlProbe(sys_root=tmp_path / "sys", pids=PidTrust(contained=False)).snapshot().gpus
    assert [gpu.numa_node for gpu in gpus] == [None, None, 1, None, None]


def test_missing_values_are_none_and_told_once_for_all_devices(fake: FakeNvml, probe: NvmlProbe) -> None:
    for gpu in fake.gpus[:3]:
        gpu.utilization_pct = None
    fake.gpus[0].temperature_c = None
    fake.gpus[1].errors["nvmlDeviceGetComputeRunningProcesses_v3"] = NO_PERMISSION
    fake.gpus[2].errors["nvmlDeviceGetMemoryInfo_v2"] = NOT_SUPPORTED
    fake.write()
    snapshot = probe.snapshot()
    assert [gpu.utilization_pct for gpu in snapshot.gpus[:3]] == [None, None, None]
    assert snapshot.gpus[0].temperature_c is None
    assert snapshot.gpus[1].processes is None
    assert (snapshot.gpus[2].memory_total_mb, snapshot.gpus[2].usable_mb) == (None, None)
    assert sorted(messages(snapshot)) == [
        "GPU 0, GPU 1 and GPU 2: the driver does not tell utilization (not supported).",
        "GPU 0: the driver does not tell temperature (not supported).",
        "GPU 1: no permission to read which processes use it.",
        "GPU 2: the driver does not tell memory (not supported).",
    ]
    assert messages(probe.snapshot()) == []


def test_older_drivers_know_the_first_version_of_the_memory_call_only(fake: FakeNvml, probe: NvmlProbe) -> None:
    fake.gpus[0].errors["nvmlDeviceGetMemoryInfo_v2"] = FUNCTION_NOT_FOUND
    fake.write()
    snapshot = probe.snapshot()
    gpu = by_uuid(snapshot, "GPU-aaaa")
    assert (gpu.memory_free_mb, gpu.memory_used_mb) == (39_400, 600)  # used holds the driver's own 500
    assert messages(snapshot) == []


def test_clients_of_the_mps_server_are_seen(fake: FakeNvml, probe: NvmlProbe) -> None:
    fake.gpus[0].mps_processes[88] = 700
    fake.write()
    assert by_uuid(probe.snapshot(), "GPU-aaaa").processes == (GpuProcess(pid=88, memory_mb=700),)


@pytest.mark.parametrize(("code", "text"), [(GPU_IS_LOST, "GPU 2 was lost"), (RESET_REQUIRED, "GPU 2 needs a reset")])
def test_a_gpu_lost_mid_run_is_told_once_and_may_come_back(
    fake: FakeNvml, probe: NvmlProbe, code: int, text: str
) -> None:
    probe.snapshot()
    fake.gpus[2].errors["*"] = code
    fake.write()
    lost = probe.snapshot()
    assert [gpu.uuid for gpu in lost.gpus if gpu.lost] == ["GPU-cccc"]
    assert by_uuid(lost, "GPU-cccc").memory_free_mb is None
    assert by_uuid(lost, "GPU-aaaa").memory_free_mb == 39_400
    assert [m[: len(text)] for m in messages(lost)] == [text]
    assert messages(probe.snapshot()) == []
    fake.gpus[2].errors.clear()
    fake.write()
    back = probe.snapshot()
    assert not by_uuid(back, "GPU-cccc").lost
    assert messages(back) == ["GPU 2 answers again."]
    fake.gpus[2].errors["*"] = code
    fake.write()
    assert [m[: len(text)] for m in messages(probe.snapshot())] == [text]


def test_a_gpu_lost_between_two_calls_of_one_snapshot(fake: FakeNvml, probe: NvmlProbe) -> None:
    fake.gpus[0].errors["nvmlDeviceGetTemperature"] = GPU_IS_LOST
    fake.write()
    assert [gpu.lost for gpu in probe.snapshot().gpus] == [True, False, False, False, False]


def test_a_gpu_in_mig_mode_is_lost_with_all_its_instances(fake: FakeNvml, probe: NvmlProbe) -> None:
    probe.snapshot()
    fake.gpus[3].errors["*"] = GPU_IS_LOST
    fake.write()
    assert [gpu.uuid for gpu in probe.snapshot().gpus if gpu.lost] == ["MIG-d0", "MIG-d2"]
    fake.gpus[3].errors.clear()
    fake.write()
    assert not any(gpu.lost for gpu in probe.snapshot().gpus)


def test_a_gpu_lost_before_the_start_does_not_hide_the_others(fake: FakeNvml, probe: NvmlProbe) -> None:
    fake.gpus[1].errors["*"] = GPU_IS_LOST
    fake.write()
    snapshot = probe.snapshot()
    assert [(gpu.index, gpu.lost) for gpu in snapshot.gpus[:3]] == [(0, False), (1, True), (2, False)]


def test_unknown_errors_mean_lost_only_when_they_last(fake: FakeNvml, probe: NvmlProbe) -> None:
    probe.snapshot()
    fake.gpus[0].errors["nvmlDeviceGetMemoryInfo_v2"] = UNKNOWN
    fake.write()
    seen = [by_uuid(probe.snapshot(), "GPU-aaaa") for _ in range(3)]
    assert [gpu.lost for gpu in seen] == [False, False, True]
    assert seen[0].memory_free_mb is None


def test_survives_a_driver_that_is_restarted(fake: FakeNvml, probe: NvmlProbe) -> None:
    before = probe.snapshot()
    fake.restart_driver()
    assert probe.snapshot().gpus == before.gpus
    removed = fake.gpus.pop(2)
    fake.restart_driver()
    after = probe.snapshot()
    assert by_uuid(after, removed.uuid).lost
    assert [gpu.uuid for gpu in after.gpus if not gpu.lost] == ["GPU-aaaa", "GPU-bbbb", "MIG-d0", "MIG-d2"]


def test_a_driver_that_stops_answering_leaves_the_devices_with_unknown_values(fake: FakeNvml, probe: NvmlProbe) -> None:
    probe.snapshot()
    fake.errors["nvmlInitWithFlags"] = DRIVER_NOT_LOADED
    fake.restart_driver()
    down = probe.snapshot()
    assert [(gpu.uuid, gpu.lost) for gpu in down.gpus][:2] == [("GPU-aaaa", False), ("GPU-bbbb", False)]
    assert down.gpus[0].memory_free_mb is None
    assert down.gpus[0].memory_total_mb == 40_000
    assert [warning.kind for warning in down.warnings] == ["driver"]
    fake.errors.clear()
    fake.write()
    later = [probe.snapshot() for _ in range(31)]  # it is asked again now and then, not every time
    assert later[-1].gpus[0].memory_free_mb == 39_400
    assert [message for snapshot in later for message in messages(snapshot)] == ["The NVIDIA driver answers again."]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (LIBRARY_NOT_FOUND, "No NVIDIA driver found"),
        (DRIVER_NOT_LOADED, "The NVIDIA driver is installed but not loaded"),
        (NO_PERMISSION, "No permission to use the NVIDIA driver"),
        (VERSION_MISMATCH, "The NVIDIA driver was updated"),
        (UNKNOWN, "The NVIDIA driver does not answer"),
    ],
)
def test_no_driver_is_one_plain_line(fake: FakeNvml, probe: NvmlProbe, code: int, text: str) -> None:
    fake.errors["nvmlInitWithFlags"] = code
    fake.write()
    snapshot = probe.snapshot()
    assert (snapshot.gpus, snapshot.driver) == ((), None)
    assert [m[: len(text)] for m in messages(snapshot)] == [text]
    assert [probe.snapshot().warnings for _ in range(40)] == [()] * 40


def test_mig_without_permission_or_without_instances(fake: FakeNvml, probe: NvmlProbe) -> None:
    instance = fake.gpus[3].mig[2] if fake.gpus[3].mig else None
    assert instance is not None
    instance.errors["nvmlDeviceGetMigDeviceHandleByIndex"] = NO_PERMISSION
    fake.write()
    snapshot = probe.snapshot()
    assert [gpu.uuid for gpu in snapshot.gpus][3:] == ["MIG-d0"]
    assert messages(snapshot) == ["GPU 3: no permission for some of its MIG instances (/dev/nvidia-caps): left out."]
    fake.gpus[3].mig = [None]
    fake.write()
    snapshot = probe.snapshot()
    assert [gpu.uuid for gpu in snapshot.gpus][3:] == []
    assert messages(snapshot) == [
        "GPU 3 is in MIG mode without an instance you may use (`nvidia-smi mig -lgi`): left out."
    ]


def test_host_ids_in_a_container_are_dropped_once_they_prove_meaningless(fake: FakeNvml) -> None:
    probe = NvmlProbe(pids=PidTrust(contained=True, exists=lambda pid: pid != 4711))
    assert by_uuid(probe.snapshot(), "GPU-bbbb").processes is not None  # 4711 may only just have ended
    snapshot = probe.snapshot()
    assert by_uuid(snapshot, "GPU-bbbb").processes == (
        GpuProcess(pid=None, memory_mb=9000),
        GpuProcess(pid=None, memory_mb=None),
    )
    assert [warning.kind for warning in snapshot.warnings] == ["pids"]
    assert probe.snapshot().warnings == ()


def test_processes_hidden_from_a_container_are_unknown_rather_than_none(fake: FakeNvml) -> None:
    fake.gpus[2].used_mb = 8000
    fake.write()
    snapshot = NvmlProbe(pids=PidTrust(contained=True, exists=lambda pid: True)).snapshot()
    assert by_uuid(snapshot, "GPU-cccc").processes is None
    assert by_uuid(snapshot, "GPU-aaaa").processes == ()
    assert [warning.kind for warning in snapshot.warnings] == ["pids"]


def test_pid_exists() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    assert pid_exists(os.getpid())
    assert pid_exists(1)
    assert not pid_exists(child.pid)


def test_a_child_process_finds_the_library_by_its_name_and_jobs_can_claim_memory(fake: FakeNvml) -> None:
    claim_gpu_memory(1234, environ={**fake.variables(), "CUDA_VISIBLE_DEVICES": "GPU-cccc"})
    code = (
        "import json; from sf_runner.slots.nvml import NvmlProbe\n"
        "print(json.dumps({gpu.uuid: gpu.memory_used_mb for gpu in NvmlProbe().snapshot().gpus}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **fake.env()}, capture_output=True, text=True, check=True
    )
    used = json.loads(result.stdout)
    assert used == {"GPU-aaaa": 100, "GPU-bbbb": 9000, "GPU-cccc": 1234, "MIG-d0": 0, "MIG-d2": 0}


def test_a_hung_gpu_does_not_stop_the_caller(fake: FakeNvml, probe: NvmlProbe) -> None:
    bounded = GpuProbe(probe, patience_s=0.01)
    before = bounded.snapshot()
    fake.gpus[0].hanging = "nvmlDeviceGetUtilizationRates"
    fake.gpus[1].utilization_pct = 55
    fake.write()
    assert bounded.snapshot().gpus == before.gpus
    fake.gpus[0].hanging = None
    fake.write()
    while (after := bounded.snapshot()).gpus[1].utilization_pct != 55:
        pass
    assert after.gpus[0] == before.gpus[0]
    bounded.close()
