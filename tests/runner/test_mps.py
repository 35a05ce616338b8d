"""NVIDIA's MPS: whether it is noticed, and what is told where experiments share a GPU without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_runner.slots.cores import Core, CpuTopology
from sf_runner.slots.devices import GpuInfo, GpuSnapshot
from sf_runner.slots.mps import mps_runs
from sf_runner.slots.table import SlotSetup
from sf_runner.slots.types import SlotPolicy

CPUS = CpuTopology(cores=tuple(Core(cpus=(i,)) for i in range(4)))
GPUS = GpuSnapshot(gpus=tuple(GpuInfo(uuid=f"GPU-{i}", index=i) for i in range(2)), driver="550")


@pytest.mark.parametrize(
    ("mps", "per_gpu", "gpus", "told"),
    [
        (False, 2, GPUS, True),
        (True, 2, GPUS, False),
        (None, 2, GPUS, False),
        (False, 1, GPUS, False),
        (False, -1, GPUS, False),
        (False, 2, GpuSnapshot(), False),
    ],
)
def test_that_experiments_take_turns_on_a_gpu_without_mps_is_told_once(
    mps: bool | None, per_gpu: int, gpus: GpuSnapshot, told: bool
) -> None:
    setup = SlotSetup.create(SlotPolicy(experiments_per_gpu=per_gpu, mps=mps), gpus, CPUS)
    assert [note.split(",")[0] for note in setup.notes] == ["Experiments that share a GPU take turns on it"] * told


def test_with_mps_several_processes_may_use_an_exclusive_gpu() -> None:
    exclusive = GpuSnapshot(gpus=(GpuInfo(uuid="GPU-0", index=0, compute_mode="exclusive"),), driver="550")
    policy = SlotPolicy(experiments_per_gpu=2, mps=True)
    assert SlotSetup.create(policy, exclusive, CPUS).notes == ()


def test_mps_is_noticed_by_what_its_daemon_leaves_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pipes"
    environ = {"CUDA_MPS_PIPE_DIRECTORY": str(folder)}
    assert not mps_runs(environ)
    folder.mkdir()
    (folder / "control").touch()  # stays when the daemon has ended
    assert not mps_runs(environ)
    (folder / "nvidia-cuda-mps-control.pid").write_text("4711")
    assert mps_runs(environ)
    monkeypatch.setattr("sf_runner.slots.mps._DEFAULT_FOLDER", str(folder))
    assert mps_runs({})
    assert mps_runs({"CUDA_MPS_PIPE_DIRECTORY": ""})
    assert not mps_runs({"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)})
    assert not mps_runs({"CUDA_MPS_PIPE_DIRECTORY": str(folder / "control")})
