"""Whole runs on a machine with GPUs that a fake driver makes up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sf_runner.testing.fake_nvml import FakeGpu, FakeNvml, compiler

pytestmark = pytest.mark.skipif(compiler() is None, reason="the fake NVML library is built with gcc: not found")

ROOT = Path(__file__).resolve().parents[2]

# Takes 7 GB of its GPU, stays until another one shares it or all others are done, and writes how many it saw.
PROGRAM = """
import os, pathlib, sys, time
from sf_runner.testing.fake_nvml import CLAIMS_VARIABLE, claim_gpu_memory
folder, count = pathlib.Path(sys.argv[1]), int(sys.argv[2])
name = next(flag for flag in sys.argv if flag.startswith("--name="))
claim_gpu_memory(7000)
claims = pathlib.Path(os.environ[CLAIMS_VARIABLE])
most, deadline, enough = 0, time.monotonic() + 60, None
while time.monotonic() < deadline and (enough is None or time.monotonic() < enough):
    alive = [path for path in claims.glob("[0-9]*") if os.path.exists(f"/proc/{path.name}")]
    most = max(most, len(alive))
    if enough is None and (most >= 2 or len(list(folder.iterdir())) == count - 1):
        enough = time.monotonic() + 0.3  # a third one that should not start would show by then
    time.sleep(0.005)
(folder / name).write_text(f"{most} {os.environ['CUDA_VISIBLE_DEVICES']}")
"""

DESCRIPTION = """
from sf_runner import Experiment, ParamGrid, RunDescription
grid = ParamGrid([("name", ["a", "b", "c", "d"])])
RUN_DESCRIPTION = RunDescription(
    "gpus",
    experiments=[Experiment("job", "{command}", grid.generate_params(randomize=False))],
    customize_experiment_name=False,
)
"""


def run(fake: FakeNvml, folder: Path, *flags: str, **environ: str) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(PROGRAM)
    (folder / "seen").mkdir()
    command = f"python {folder / 'program.py'} {folder / 'seen'} 4"
    (folder / "description.py").write_text(DESCRIPTION.replace("{command}", command))
    arguments = ["-m", "sf_runner.run", f"--run={folder / 'description.py'}", f"--train_dir={folder / 'train'}"]
    return subprocess.run(
        [sys.executable, *arguments, "--ui=plain", *flags],
        env={**os.environ, **fake.env(), "PYTHONPATH": str(ROOT), **environ},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def fake(tmp_path: Path) -> FakeNvml:
    gpus = [FakeGpu(uuid="GPU-aa", total_mb=20_000), FakeGpu(uuid="GPU-bb", total_mb=20_000)]
    return FakeNvml(tmp_path / "nvml", gpus)


def test_a_burst_of_starts_never_promises_memory_twice(fake: FakeNvml, tmp_path: Path) -> None:
    flags = ("--experiments_per_gpu=4", "--gpu_memory_per_experiment=7000")
    alone = {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path / "no_mps")}
    result = run(fake, tmp_path, *flags, CUDA_VISIBLE_DEVICES="1", **alone)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (result.stdout + result.stderr).count("take turns on it, because NVIDIA's MPS does not run here") == 1
    seen = [path.read_text().split() for path in (tmp_path / "seen").iterdir()]
    assert {devices for _, devices in seen} == {"GPU-bb"}
    assert max(int(count) for count, _ in seen) == 2, "two of 7 GB fit into 20 GB, a third does not"
    assert len(seen) == 4


def test_fewer_gpus_than_asked_for_is_one_line_before_anything_starts(fake: FakeNvml, tmp_path: Path) -> None:
    result = run(fake, tmp_path, "--num_gpus=2", CUDA_VISIBLE_DEVICES="1")
    assert result.returncode == 2
    assert (
        result.stderr.strip()
        .splitlines()[-1]
        .endswith(
            "--num_gpus=2, but only 1 GPU of 2 can be used here (CUDA_VISIBLE_DEVICES=1). Lower it or leave it out."
        )
    )
    assert list((tmp_path / "seen").iterdir()) == []
