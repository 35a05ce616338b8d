"""Shared memory, doorbells, messages, slot rings, mailboxes: the two ends agree, also across processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from sf_algo.buffers.layout import make_layout
from sf_algo.buffers.shared import ArraySpec, SharedBlock, block_bytes, slot_views, trajectory_specs
from sf_algo.envs.spec import ActionSpec, Discrete, ObsSpec
from sf_algo.errors import StorageError
from sf_algo.ipc import doorbell as doorbell_module
from sf_algo.ipc.control import ControlBlock, WorkerPhase
from sf_algo.ipc.doorbell import Doorbell
from sf_algo.ipc.messages import Message, MessageReader, MessageWriter

SPECS = [
    ArraySpec(name="a", shape=(3, 5), dtype=np.dtype(np.uint8)),
    ArraySpec(name="b", shape=(4,), dtype=np.dtype(np.int64)),
    ArraySpec(name="empty", shape=(2, 0), dtype=np.dtype(np.float32)),
]


def test_arrays_of_a_block_are_zeroed_aligned_and_apart() -> None:
    block = SharedBlock.create("test", SPECS)
    assert block.arrays["a"].shape == (3, 5)
    assert not block.arrays["a"].any()
    assert block.arrays["empty"].shape == (2, 0)
    block.arrays["a"][:] = 255
    assert not block.arrays["b"].any()
    assert all(array.ctypes.data % 64 == 0 for name, array in block.arrays.items() if name != "empty")
    block.close_fd()
    assert block.arrays["a"].all()  # a mapping outlives its descriptor


def test_another_process_sees_the_same_memory() -> None:
    block = SharedBlock.create("test", SPECS)
    block.arrays["b"][2] = 41
    program = (
        "import sys, numpy as np; from sf_algo.buffers.shared import ArraySpec, SharedBlock;"
        "specs = [ArraySpec(name='a', shape=(3, 5), dtype=np.dtype(np.uint8)),"
        " ArraySpec(name='b', shape=(4,), dtype=np.dtype(np.int64))];"
        "words = SharedBlock(int(sys.argv[1]), specs).counters('b'); words[2] += 1; words[3] = -7"
    )
    subprocess.run([sys.executable, "-c", program, str(block.fd)], pass_fds=[block.fd], check=True)
    assert block.arrays["b"].tolist() == [0, 0, 42, -7]
    block.close_fd()


def test_memory_that_cannot_be_had_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, nbytes: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "ftruncate", full)
    with pytest.raises(StorageError, match=r"no memory for slots .*--num_workers"):
        SharedBlock.create("slots", SPECS)


def test_without_memfd_an_unlinked_file_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    block = SharedBlock.create("test", SPECS)
    assert os.fstat(block.fd).st_nlink == 0
    block.arrays["b"][0] = 5
    assert SharedBlock(os.dup(block.fd), SPECS).arrays["b"][0] == 5
    block.close_fd()


def test_layout_gives_every_slot_its_own_time_major_arrays() -> None:
    layout = make_layout(
        obs={"obs": ObsSpec(shape=(3, 4, 5), dtype=np.dtype(np.uint8))},
        actions=ActionSpec((Discrete(3), Discrete(2))),
        rollout=7,
        rnn_state_width=6,
    )
    specs = trajectory_specs(layout, slots=2, trajectories=5)
    block = SharedBlock.create("test", specs)
    first, second = slot_views(block.arrays)
    assert first["obs/obs"].shape == (8, 5, 3, 4, 5)
    assert first["rnn_states"].shape == (8, 5, 6)
    assert first["actions"].shape == (7, 5, 2)
    assert first["obs/obs"][3].flags.c_contiguous
    first["values"][:] = 1.0
    assert not second["values"].any()
    assert block_bytes(specs) >= 2 * layout.nbytes(5)
    assert {name: array.shape for name, array in layout.allocate(5).items()} == {
        name: array.shape for name, array in first.items()
    }
    block.close_fd()


@pytest.fixture(params=["eventfd", "pipe"])
def bell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Doorbell:
    if request.param == "pipe":
        monkeypatch.setattr(doorbell_module, "_HAS_EVENTFD", False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("this system has no eventfd")
    return Doorbell.create()


def test_a_bell_rung_before_the_wait_still_wakes_once(bell: Doorbell) -> None:
    bell.ring()
    bell.ring()
    assert bell.wait(10)
    assert not bell.wait(0)
    bell.close()


def test_a_bell_wakes_a_sleeping_thread(bell: Doorbell) -> None:
    woken = threading.Event()

    def sleep() -> None:
        bell.wait()
        woken.set()

    thread = threading.Thread(target=sleep)
    thread.start()
    bell.ring()
    thread.join(10)
    assert woken.is_set()
    bell.close()


def test_ringing_never_blocks(bell: Doorbell) -> None:
    for _ in range(20_000):  # more than a pipe holds
        bell.ring()
    assert bell.wait(0)
    bell.close()


def test_messages_arrive_whole_and_in_order() -> None:
    read_fd, write_fd = os.pipe()
    reader, writer = MessageReader(read_fd), MessageWriter(write_fd)
    sent = [{"kind": "episodes", "items": [[0, 1.5, 3, {"x": i}]] * 200} for i in range(50)]

    def send_all() -> None:
        for message in sent:
            writer.send(message)

    thread = threading.Thread(target=send_all)
    thread.start()
    received: list[Message] = []
    while len(received) < len(sent):  # more than the pipe holds, so the writer has to wait for us
        received += reader.read()
    thread.join()
    assert received == sent
    assert not reader.closed
    writer.close()
    assert reader.read() == []
    assert reader.closed
    reader.close()


def test_the_last_words_of_a_dead_writer_are_read() -> None:
    read_fd, write_fd = os.pipe()
    reader, writer = MessageReader(read_fd), MessageWriter(write_fd)
    writer.send({"kind": "error"})
    writer.close()
    assert reader.read() == [{"kind": "error"}]
    assert reader.closed
    reader.close()


@pytest.fixture
def control() -> ControlBlock:
    return ControlBlock.create(num_workers=2, num_splits=2, num_slots=3)


def test_a_ring_hands_slots_over_in_order(control: ControlBlock) -> None:
    worker = control.ring(1, 0)
    batcher = ControlBlock.attach(os.dup(control.fd), num_workers=2, num_splits=2, num_slots=3).ring(1, 0)
    filled = []
    for _ in range(3):
        filled.append(worker.fill_position)
        worker.publish()
    assert filled == [0, 1, 2]
    assert not worker.has_free
    assert batcher.num_full == 3
    assert batcher.oldest_full == 0
    batcher.free()
    assert worker.has_free
    assert worker.fill_position == 0
    assert batcher.oldest_full == 1
    assert control.ring(0, 0).num_full == 0  # other splits are not touched
    control.close()


def test_a_mailbox_is_pending_between_request_and_answer(control: ControlBlock) -> None:
    box = control.mailbox(0, 1)
    assert not box.pending
    box.request(4)
    assert box.pending
    assert box.row == 4
    box.serve(box.ticket)
    assert not box.pending
    assert not control.mailbox(0, 0).pending
    control.close()


def test_an_answer_to_a_dead_worker_does_not_hide_its_successors_request(control: ControlBlock) -> None:
    box = control.mailbox(0, 0)
    box.request(1)
    ticket = box.ticket
    box.request(0)  # the successor's
    box.serve(ticket)
    assert box.pending
    control.close()


def test_status_names_phase_and_environment(control: ControlBlock) -> None:
    status = control.status(1)
    assert status.phase is WorkerPhase.STARTING
    status.set_phase(WorkerPhase.RESETTING, 7)
    assert (status.phase, status.env_index) == (WorkerPhase.RESETTING, 7)
    assert 0 <= time.monotonic() - status.seen_at < 60
    assert control.status(0).phase is WorkerPhase.STARTING
    control.order_stop()
    assert control.stopping
    control.close()
