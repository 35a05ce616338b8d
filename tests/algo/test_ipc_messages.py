"""What is urgent comes first, and nothing is lost."""

from __future__ import annotations

import os
import threading

import pytest

from sf_algo.ipc.messages import Message, MessageWriter, UrgentFirst


def kinds(messages: list[Message]) -> list[str]:
    return [message["kind"] + str(message.get("buffer", "")) for message in messages]


@pytest.fixture
def pipe() -> tuple[int, MessageWriter]:
    read, write = os.pipe()
    return read, MessageWriter(write)


def test_patient_messages_wait_and_keep_their_order(pipe: tuple[int, MessageWriter]) -> None:
    fd, writer = pipe
    for message in (
        {"kind": "train", "buffer": 0},
        {"kind": "train", "buffer": 1},
        {"kind": "state"},
        {"kind": "stop"},
    ):
        writer.send(message)
    writer.close()
    assert kinds(list(UrgentFirst(fd, patient=("train",)))) == ["state", "stop", "train0", "train1"]
    os.close(fd)


def test_what_arrives_while_one_is_dealt_with_overtakes(pipe: tuple[int, MessageWriter]) -> None:
    fd, writer = pipe
    for buffer in (0, 1):
        writer.send({"kind": "train", "buffer": buffer})
    messages = UrgentFirst(fd, patient=("train",))
    seen = [next(messages)]
    writer.send({"kind": "state"})
    seen += [next(messages), next(messages)]
    assert kinds(seen) == ["train0", "state", "train1"]
    writer.close()
    assert list(messages) == []
    os.close(fd)


def test_a_message_in_pieces_is_waited_for(pipe: tuple[int, MessageWriter]) -> None:
    fd, writer = pipe
    big = {"kind": "train", "text": "x" * 300_000}
    sender = threading.Thread(target=lambda: (writer.send(big), writer.close()))
    sender.start()
    assert list(UrgentFirst(fd, patient=("train",))) == [big]
    sender.join()
    os.close(fd)


def test_what_is_coming_is_seen_before_its_turn(pipe: tuple[int, MessageWriter]) -> None:
    fd, writer = pipe
    messages = UrgentFirst(fd, patient=("train",))
    assert messages.coming("train") is None
    for message in ({"kind": "state"}, {"kind": "train", "buffer": 0}, {"kind": "train", "buffer": 1}):
        writer.send(message)
    assert messages.coming("train") == {"kind": "train", "buffer": 0}
    seen = [next(messages), next(messages)]
    assert messages.coming("train") == {"kind": "train", "buffer": 1}
    assert messages.coming("state") is None
    writer.close()
    assert kinds([*seen, *messages]) == ["state", "train0", "train1"]
    assert messages.coming("train") is None
    os.close(fd)
