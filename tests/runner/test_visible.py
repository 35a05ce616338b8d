"""What CUDA_VISIBLE_DEVICES and --gpus name."""

from __future__ import annotations

import pytest

from sf_runner.basics.errors import UsageError
from sf_runner.slots.devices import GpuInfo
from sf_runner.slots.visible import chosen_devices, visible_devices

GPUS = (
    GpuInfo(uuid="GPU-aa11", index=0, name="A100"),
    GpuInfo(uuid="GPU-aa22", index=1, name="A100"),
    GpuInfo(uuid="GPU-cc33", index=2, name="A100"),
    GpuInfo(uuid="MIG-d0", index=3, name="A100 MIG", mig="GPU-dd44", mig_index=0, mig_alias="MIG-GPU-dd44/7/0"),
    GpuInfo(uuid="MIG-d1", index=3, name="A100 MIG", mig="GPU-dd44", mig_index=1, mig_alias="MIG-GPU-dd44/8/0"),
)
ALL = [gpu.uuid for gpu in GPUS]


@pytest.mark.parametrize(
    ("value", "uuids"),
    [
        (None, ALL),
        ("2,1", ["GPU-cc33", "GPU-aa22"]),
        (" 2 , 1 ", ["GPU-cc33", "GPU-aa22"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0,-1,1", ["GPU-aa11"]),
        ("0,9,1", ["GPU-aa11"]),
        ("0,GPU-cc33", ["GPU-aa11"]),  # indices and ids do not mix
        ("GPU-cc33,0", ["GPU-cc33"]),
        ("1gpu,2x", ["GPU-aa22", "GPU-cc33"]),  # leading digits count
        ("1,1", []),
        ("3", ["MIG-d0", "MIG-d1"]),
        ("GPU-cc33,GPU-aa11", ["GPU-cc33", "GPU-aa11"]),
        ("GPU-c", ["GPU-cc33"]),
        ("gpu-CC33", ["GPU-cc33"]),
        ("GPU-aa", []),  # ambiguous
        ("GPU-aa1,GPU-aa1", []),
        ("MIG-d1", ["MIG-d1"]),
        ("MIG-GPU-dd44/8/0,MIG-d0", ["MIG-d1", "MIG-d0"]),
        ("GPU-dd44", ["MIG-d0", "MIG-d1"]),
    ],
)
def test_reads_the_list_as_cuda_does(value: str | None, uuids: list[str]) -> None:
    assert [gpu.uuid for gpu in visible_devices(value, GPUS).gpus] == uuids


@pytest.mark.parametrize("value", [None, "", "-1", "NoDevFiles", "0,1", "GPU-cc33"])
def test_nothing_to_tell_about_a_sound_list(value: str | None) -> None:
    assert visible_devices(value, GPUS).note == ""


def test_tells_what_cuts_a_list_and_what_empties_it() -> None:
    assert visible_devices("0,9,1", GPUS).note == (
        "CUDA_VISIBLE_DEVICES=0,9,1: '9' names no GPU here; as in CUDA, it ends the list."
    )
    assert visible_devices("1,1", GPUS).note == (
        "CUDA_VISIBLE_DEVICES=1,1 names GPU 1 twice: CUDA then uses no GPU at all."
    )


def test_indices_on_a_mixed_machine_depend_on_the_device_order() -> None:
    mixed = (GPUS[0], GpuInfo(uuid="GPU-ee55", index=1, name="T4"))
    assert "in PCI bus order" in visible_devices("1", mixed, pci_order=False).note
    assert visible_devices("1", mixed, pci_order=True).note == ""
    assert visible_devices("1", GPUS[:2], pci_order=False).note == ""
    assert visible_devices("GPU-ee55", mixed, pci_order=False).note == ""


def test_chosen_devices_keep_their_order() -> None:
    chosen = chosen_devices(["3:1", "GPU-cc", "0"], GPUS, GPUS)
    assert [gpu.uuid for gpu in chosen] == ["MIG-d1", "GPU-cc33", "GPU-aa11"]
    assert [gpu.uuid for gpu in chosen_devices(["3"], GPUS, GPUS)] == ["MIG-d0", "MIG-d1"]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["7"], "--gpus: '7' names no GPU here; there are 0, 1, 2, 3:0, 3:1 (see `nvidia-smi -L`)."),
        (["all"], "--gpus: 'all' names no GPU here; there are 0, 1, 2, 3:0, 3:1 (see `nvidia-smi -L`)."),
        (["1", "GPU-aa22"], "--gpus: GPU 1 is named twice."),
        (["2"], "--gpus: GPU 2 is hidden by CUDA_VISIBLE_DEVICES; unset it or choose another GPU."),
    ],
)
def test_a_wrong_choice_is_one_clear_line(tokens: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        chosen_devices(tokens, GPUS, GPUS[:2])
    assert str(error.value) == message
