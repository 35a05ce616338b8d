"""Requests from other terminals: one file each, in order, answered."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from pathlib import Path

import pytest

from sf_runner.basics.clock import boot_id, since_boot_s
from sf_runner.basics.errors import BackendError, StorageError
from sf_runner.basics.requests import ACTIONS, Request, answer, send, take, wait_for_reply


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "requests"


def test_a_request_arrives_once(folder: Path) -> None:
    path = send(folder, Request(action="cancel", jobs=["a", "b"]))
    (request,) = take(folder)
    assert request == Request(action="cancel", jobs=["a", "b"], path=path)
    assert take(folder) == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_arrives(folder: Path, action: str) -> None:
    send(folder, Request(action=action, number=3))  # type: ignore[arg-type]
    assert [(request.action, request.number) for request in take(folder)] == [(action, 3)]


def test_requests_arrive_in_the_order_in_which_they_were_made(folder: Path) -> None:
    for number in range(1, 30):
        send(folder, Request(action="parallel", number=number))
    assert [request.number for request in take(folder)] == list(range(1, 30))


def test_nothing_is_asked_where_there_is_no_folder(folder: Path) -> None:
    assert take(folder) == []


def test_the_sender_gets_the_answer(folder: Path) -> None:
    path = send(folder, Request(action="pause"))

    def runner() -> None:
        (request,) = take(folder)
        answer(request, "launching paused")

    thread = threading.Thread(target=runner)
    thread.start()
    assert wait_for_reply(path, timeout_s=60.0) == "launching paused"
    thread.join()
    assert list(folder.iterdir()) == []


def test_without_an_answer_the_request_is_taken_back(folder: Path) -> None:
    path = send(folder, Request(action="stop"))
    with pytest.raises(BackendError, match="did not answer within 0 s; is it stopped"):
        wait_for_reply(path, timeout_s=0.0)
    assert take(folder) == []


def test_answering_somebody_who_left_is_harmless(folder: Path) -> None:
    send(folder, Request(action="stop"))
    (request,) = take(folder)
    folder.rmdir()
    answer(request, "too late")
    answer(Request(action="stop"), "from the keyboard: nobody waits for a file")


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "7", '{"action": "explode"}', '{"jobs": ["a"]}', '{"action": "parallel", "number": "x"}', "\xff"],
)
def test_what_cannot_be_read_is_removed_and_ignored(folder: Path, content: str) -> None:
    folder.mkdir()
    (folder / "1_1_0.json").write_text(content, encoding="latin-1")
    assert take(folder) == []
    assert list(folder.iterdir()) == []


def leave(folder: Path, name: str, ago_s: float, **body: object) -> Path:
    """A file by another machine, as old as that by the clock of the folder."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(json.dumps({"version": 1, "action": "cancel", **body}))
    then = path.stat().st_mtime - ago_s
    os.utime(path, (then, then))
    return path


def test_what_nobody_waits_for_any_more_is_not_obeyed(folder: Path) -> None:
    """Left by a command that was interrupted while no runner was at work: days later it would be a surprise."""
    for name in ("1_1_0.json", "1_1_0.reply", "2_1_0.tmp"):
        leave(folder, name, 3600.0)
    leave(folder, "3_1_0.json", 0.0, boot=boot_id(), up=since_boot_s() - 3600.0)
    fresh = send(folder, Request(action="pause"))
    assert [request.path for request in take(folder)] == [fresh]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("off_s", [-3600.0, 3600.0])
def test_the_clocks_of_this_machine_and_of_the_file_server_may_differ(
    folder: Path, off_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + off_s)
    here = send(folder, Request(action="pause"))
    elsewhere = leave(folder, "9_1_0.json", 1.0, boot="another", up=5.0)
    older = leave(folder, "8_1_0.json", 1.0)  # by an older version
    assert {request.path for request in take(folder)} == {here, elsewhere, older}
    leave(folder, "7_1_0.json", 3600.0, boot="another", up=5.0)
    assert take(folder) == []
    assert list(folder.iterdir()) == []


def test_the_clock_is_set_between_asking_and_reading(folder: Path) -> None:
    """By hours: the file of a request of this machine then seems old, or to be of the future."""
    for ago_s in (8 * 3600.0, -8 * 3600.0):
        path = send(folder, Request(action="pause"))
        os.utime(path, (time.time() - ago_s,) * 2)
        assert [request.path for request in take(folder)] == [path]


def test_where_no_file_can_be_made_what_was_asked_for_is_done(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk a cancel is wanted most."""
    path = leave(folder, "1_1_0.json", 30.0)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "touch", full)
    assert [request.path for request in take(folder)] == [path]


def test_an_answer_is_left_for_its_sender(folder: Path) -> None:
    path = send(folder, Request(action="pause"))
    (request,) = take(folder)
    answer(request, "done")
    assert take(folder) == []
    assert wait_for_reply(path, timeout_s=60.0) == "done"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "requests").write_text("a file is in the way")
    with pytest.raises(StorageError, match=r"cannot leave a request in .*requests"):
        send(tmp_path / "requests", Request(action="stop"))
