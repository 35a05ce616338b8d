"""Shared memory is locked for GPUs: once per block, until it is closed; seen by a CUDA runtime that only records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from sf_algo.buffers.layout import make_layout
from sf_algo.buffers.shared import ArraySpec, SharedBlock, block_bytes
from sf_algo.ipc.doorbell import Doorbell
from sf_algo.learning.learner_process import LearnerProcess
from sf_algo.learning.learner_settings import LearnerSettings
from sf_algo.learning.remote_memory import LearnerMemory
from sf_algo.plan import Mode, SamplerPlan
from sf_algo.processes.cuda import LockedBlocks
from sf_algo.sampling.transport import Transport
from tests.algo.model_cases import env_spec, make_model, model_config

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
PORTABLE = 1
SPECS = [ArraySpec(name="x", shape=(3, 5000), dtype=np.dtype(np.float32))]


@dataclass
class RecordingRuntime:
    """Knows what is locked, and refuses what it is told to."""

    calls: list[tuple[str, int]] = field(default_factory=list)
    locked: dict[int, int] = field(default_factory=dict)
    refused: int = 0
    """Status of every further call."""
    raises: bool = False
    pending: bool = False
    """The error of a call is found by the next kernel of the thread."""
    kernels: int = 0

    def cudaHostRegister(self, address: int, nbytes: int, flags: int) -> int:  # noqa: N802
        self.calls.append(("register", address))
        if self.raises:
            raise RuntimeError("CUDA error: initialization error\nCompile with ...")
        if self.refused or address in self.locked:
            self.pending = True
            return self.refused or 712
        assert flags == PORTABLE
        self.locked[address] = nbytes
        return 0

    def cudaHostUnregister(self, address: int) -> int:  # noqa: N802
        self.calls.append(("unregister", address))
        if self.refused:
            self.pending = True
            return self.refused
        del self.locked[address]
        return 0

    def kernel(self, *shape: int, device: torch.device) -> None:
        """In place of `torch.zeros` on the GPU."""
        self.kernels += 1
        assert device == GPU
        if self.pending:
            self.pending = False
            raise RuntimeError("CUDA error: out of memory")


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> RecordingRuntime:
    fake = RecordingRuntime()
    monkeypatch.setattr(torch.cuda, "cudart", lambda: fake)
    real = torch.zeros

    def zeros(*shape: Any, **how: Any) -> Any:
        return fake.kernel(*shape, **how) if how.get("device") == GPU else real(*shape, **how)

    monkeypatch.setattr(torch, "zeros", zeros)
    return fake


@pytest.fixture
def make_block() -> Iterator[Callable[[], SharedBlock]]:
    blocks: list[SharedBlock] = []

    def make() -> SharedBlock:
        blocks.append(SharedBlock.create("test", SPECS))
        return blocks[-1]

    yield make
    for block in blocks:
        block.close_fd()


def test_every_block_is_locked_once_as_a_whole_and_released(
    runtime: RecordingRuntime, make_block: Callable[[], SharedBlock]
) -> None:
    first, second = make_block(), make_block()
    locked = LockedBlocks(GPU)
    assert locked.lock([first, second])
    assert locked.lock([first])
    assert runtime.locked == {block.arrays["x"].ctypes.data: block_bytes(SPECS) for block in (first, second)}
    assert [name for name, _ in runtime.calls] == ["register", "register"]
    locked.release()
    locked.release()
    assert [name for name, _ in runtime.calls] == ["register", "register", "unregister", "unregister"]
    assert not runtime.locked
    assert runtime.kernels == 0


@pytest.mark.parametrize("device", [CPU, torch.device("meta")], ids=str)
def test_nothing_is_locked_for_other_devices(
    device: torch.device, runtime: RecordingRuntime, make_block: Callable[[], SharedBlock]
) -> None:
    locked = LockedBlocks(device)
    assert not locked.lock([make_block()])
    locked.release()
    assert runtime.calls == []


@pytest.mark.parametrize("how", ["refused", "raises"])
def test_a_refusal_is_one_line_and_does_not_hit_the_next_kernel(
    how: str, runtime: RecordingRuntime, make_block: Callable[[], SharedBlock], caplog: pytest.LogCaptureFixture
) -> None:
    blocks = [make_block() for _ in range(3)]
    locked = LockedBlocks(GPU)
    assert locked.lock(blocks[:1])
    runtime.refused, runtime.raises = 2, how == "raises"
    assert not locked.lock(blocks[1:])
    assert len(runtime.calls) == 2  # the third one is not tried
    (line,) = caplog.messages
    assert "copies are slower" in line
    assert ("initialization error)" if how == "raises" else "error 2 of CUDA") in line
    assert "\n" not in line
    assert runtime.kernels == 1
    assert not runtime.pending
    assert locked.lock(blocks[:1])  # what is locked stays so
    locked.release()
    assert not runtime.pending


def test_an_empty_block_has_memory_to_lock(runtime: RecordingRuntime) -> None:
    """CUDA refuses zero bytes."""
    block = SharedBlock.create("test", [])
    assert block.span[1] > 0
    assert LockedBlocks(GPU).lock([block])
    block.close_fd()


def plan() -> SamplerPlan:
    return SamplerPlan(
        mode=Mode.ASYNC, num_workers=3, num_splits=2, envs_per_split=2, num_agents=1, slots_per_split=2, rollout=4,
        num_policies=1, batch_trajectories=4, num_batch_buffers=2,
    )  # fmt: skip


def layout() -> Any:
    spec = env_spec()
    return make_layout(obs=spec.obs, actions=spec.actions, rollout=4, rnn_state_width=0)


@pytest.mark.parametrize("device", [CPU, GPU], ids=str)
def test_slots_are_locked_while_the_transport_is_open(device: torch.device, runtime: RecordingRuntime) -> None:
    bell = Doorbell.create()
    transport = Transport(plan(), layout(), bell, device)
    gpu = device is GPU
    assert transport.slots_locked is gpu
    starts = {block.span[0]: block.span[1] for block in transport.trajectories}
    assert runtime.locked == (starts if gpu else {})
    row = transport.ports[-1].slots[0]["values"].ctypes.data
    assert not gpu or any(start <= row < start + nbytes for start, nbytes in runtime.locked.items())
    transport.close()
    assert not runtime.locked
    assert len(runtime.calls) == (6 if gpu else 0)
    bell.close()


class ElsewhereModel:
    """Says that it is on a GPU."""

    def __init__(self) -> None:
        self._model = make_model(env_spec(), model_config())
        self.device = GPU

    def state_dict(self) -> Any:
        return self._model.state_dict()


def test_the_main_process_locks_the_weights(runtime: RecordingRuntime) -> None:
    model: Any = ElsewhereModel()
    memory = LearnerMemory(model, layout(), policy_id=0, num_buffers=2, trajectories=4)
    assert runtime.locked == dict([memory.weights.block.span])
    memory.close()
    assert not runtime.locked


@pytest.mark.parametrize("fails", [False, True])
def test_a_learner_process_locks_batches_and_weights_until_it_ends(
    fails: bool, runtime: RecordingRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = [SharedBlock.create("test", SPECS) for _ in range(2)]
    bell = Doorbell.create()
    settings = LearnerSettings(
        config={}, app=None, pickled_spec="", policy_id=0, device="cuda:0", rank=0, rendezvous_fd=-1, seed=0,
        num_buffers=2, batch_fd=-1, weights_fd=-1, state_fd=-1, command_fd=-1, message_fd=-1, hub_fds=bell.fds,
        lifeline_fd=-1, trace_fd=-1, num_threads=1,
    )  # fmt: skip
    during: list[int] = []

    def build(self: LearnerProcess) -> None:
        self._count = 1
        self._locked.lock(blocks)

    def commands(fd: int, *, patient: Any) -> Iterator[Any]:
        during.append(len(runtime.locked))
        if fails:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        yield {"kind": "stop"}

    told: list[BaseException] = []
    monkeypatch.setattr(LearnerProcess, "_build", build)
    monkeypatch.setattr(LearnerProcess, "_report", lambda self, error: told.append(error))
    monkeypatch.setattr("sf_algo.learning.learner_process.UrgentFirst", commands)
    assert LearnerProcess(replace(settings), None).run() == fails
    assert during == [2]
    assert not runtime.locked
    assert len(told) == fails
    for block in blocks:
        block.close_fd()
    bell.close()
