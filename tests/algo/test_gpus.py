"""GPUs are counted without waking CUDA."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sf_algo.gpus import count_gpus
from sf_runner.testing.fake_nvml import FakeGpu, FakeNvml


@pytest.mark.parametrize(
    ("visible", "count"),
    [
        (None, 4),
        ("", 0),
        ("-1", 0),
        ("0,1", 2),
        ("3, 2,9,1", 2),  # CUDA ignores what follows an entry that names nothing
        ("1,1", 1),
        ("GPU-aaaa,GPU-bbbb", 2),
        ("MIG-1,MIG-2", 1),
        ("nothing", 0),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_does(visible: str | None, count: int) -> None:
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert count_gpus(environment, installed=lambda: 4) == count
    assert count_gpus(environment, installed=lambda: 0) == 0


def test_the_driver_is_asked_and_torch_is_not_imported(tmp_path: Path) -> None:
    fake = FakeNvml(tmp_path, [FakeGpu(uuid="GPU-aa"), FakeGpu(uuid="GPU-bb")])
    program = (
        "import sys, sf_algo.gpus as gpus; gpus.torch_has_cuda = lambda: True; print(gpus.usable_gpus());"
        "assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", program]
    environment = {"PYTHONPATH": str(Path(__file__).parent.parent.parent), **fake.env()}
    out = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "2"
    none = subprocess.run(command, env={"PYTHONPATH": environment["PYTHONPATH"]}, capture_output=True, text=True)
    assert none.stdout.strip() == "0", none.stderr


@pytest.mark.parametrize(("cuda", "has"), [("'12.8'", True), ("None", False)])
def test_whether_torch_was_built_for_cuda(cuda: str, has: bool, tmp_path: Path) -> None:
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "version.py").write_text(
        f"__version__ = '2.9'\ncuda: Optional[str] = {cuda}\nhip: Optional[str] = None\n"
    )
    program = "import sf_algo.gpus as gpus; print(gpus.torch_has_cuda())"
    path = f"{tmp_path}:{Path(__file__).parent.parent.parent}"
    out = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": path}, capture_output=True, text=True)
    assert out.stdout.strip() == str(has), out.stderr
