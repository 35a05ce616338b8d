"""The journal on disk: what is flushed is found again, whatever happened to the end of the file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sf_runner.state import events as ev
from sf_runner.state.fold import replay
from sf_runner.store.journal import Journal
from sf_runner.store.reader import read_journal
from tests.runner.builders import essence, opening, simple_plan

HISTORY: list[ev.Event] = [
    ev.JobsPlanned(t=1.0, jobs=[{"id": "a", "index": 0, "rank": 0, "fp": "x", "argv": ["true"]}]),
    ev.AttemptSubmitted(t=2.0, job="a", attempt=1, placement={"cores": [0]}),
    ev.AttemptStarted(t=2.5, job="a", attempt=1, handle={"pid": 7}),
    ev.AttemptEnded(t=3.0, job="a", attempt=1, verdict="succeeded", code=0, duration_s=0.5),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / ".runner" / "journal.jsonl"


def write(path: Path, events: list[ev.Event]) -> bytes:
    journal, _ = Journal.open(path, "study")
    journal.append(events)
    assert journal.flush()
    journal.close()
    return path.read_bytes()


def lines(events: list[ev.Event]) -> list[str]:
    """Times have milliseconds on disk only."""
    return [ev.encode(event) for event in events]


def test_a_new_journal_begins_with_its_header(path: Path) -> None:
    journal, _ = Journal.open(path, "study")
    journal.close()
    events = read_journal(path)[0]
    (header,) = events
    assert isinstance(header, ev.JournalCreated)
    assert (header.version, header.run_name, len(header.run_id)) == (1, "study", 16)
    assert lines(read_journal(path)[0]) == lines(events)
    again, state = Journal.open(path, "another name")
    again.close()
    assert lines(read_journal(path)[0]) == lines(events)
    assert (state.run_id, state.run_name) == (header.run_id, "study")


def test_what_was_flushed_is_read_in_order(path: Path) -> None:
    write(path, HISTORY)
    assert read_journal(path)[0][1:] == HISTORY


def test_nothing_is_written_before_flush(path: Path) -> None:
    journal, _ = Journal.open(path, "study")
    size = path.stat().st_size
    journal.append(HISTORY)
    assert path.stat().st_size == size
    assert journal.flush()
    assert path.stat().st_size > size
    journal.close()


def test_closing_flushes(path: Path) -> None:
    journal, _ = Journal.open(path, "study")
    journal.append(HISTORY)
    journal.close()
    assert read_journal(path)[0][1:] == HISTORY


def test_a_reader_follows_by_offset(path: Path) -> None:
    journal, _ = Journal.open(path, "study")
    seen, offset = read_journal(path)
    for event in HISTORY:
        journal.append([event])
        journal.flush()
        with path.open("ab") as file:  # the writer is in the middle of the next line
            file.write(b'{"e":"no')
        new, offset = read_journal(path, offset=offset)
        seen += new
        with path.open("rb+") as file:
            file.truncate(offset)
    journal.close()
    assert seen[1:] == HISTORY
    assert read_journal(path, offset=offset) == ([], offset)


def test_a_tail_torn_at_any_byte_loses_only_the_unfinished_line(path: Path) -> None:
    data = write(path, HISTORY)
    header_end = data.index(b"\n") + 1
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        complete = data[:cut].count(b"\n")
        journal, state = Journal.open(path, "study")
        closing = ev.RunClosed(t=9.0, exit_code=0)
        journal.append([closing])
        journal.close()
        # What is appended afterwards starts on a line of its own.
        *events, last = read_journal(path)[0]
        assert last == closing
        torn = cut not in (0, data.rfind(b"\n", 0, cut) + 1)
        kept = [event for event in events if not isinstance(event, ev.Note)]
        if cut < header_end:
            assert [type(event) for event in kept] == [ev.JournalCreated]
        else:
            assert kept[1:] == HISTORY[: complete - 1]
        assert sum(isinstance(event, ev.Note) for event in events) == torn, cut
        assert [note.text for note in state.notes] == [event.text for event in events if isinstance(event, ev.Note)]


def test_blocks_of_zeros_at_the_end_are_a_torn_line(path: Path) -> None:
    data = write(path, HISTORY)
    path.write_bytes(data + b"\0" * 4096)
    journal, state = Journal.open(path, "study")
    journal.close()
    events = read_journal(path)[0]
    assert events[1:-1] == HISTORY
    assert isinstance(events[-1], ev.Note)
    assert "dropped 4096 bytes" in events[-1].text
    assert [note.text for note in state.notes] == [events[-1].text]


def test_a_reader_leaves_a_torn_tail_alone(path: Path) -> None:
    data = write(path, HISTORY)
    path.write_bytes(data[:-5])
    events, offset = read_journal(path)
    assert events[1:] == HISTORY[:-1]
    assert path.read_bytes() == data[:-5]
    assert offset == data[:-5].rfind(b"\n") + 1


@pytest.mark.parametrize("damage", [b"\x00\x01", b"{}", b"", b'{"e":"note","t":1}', b"\xff\xfe", b'"\r"'])
def test_a_damaged_line_in_the_middle_is_named(path: Path, damage: bytes) -> None:
    lines = write(path, HISTORY).split(b"\n")
    lines[2] = damage
    path.write_bytes(b"\n".join(lines))
    before = path.read_bytes()
    with pytest.raises(ev.JournalError, match=r"journal\.jsonl: line 3 is damaged .*remove that line"):
        Journal.open(path, "study")
    with pytest.raises(ev.JournalError, match="line 3"):
        read_journal(path)
    assert path.read_bytes() == before


def test_a_newer_format_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir(parents=True)
    content = b'{"e":"journal","t":1,"version":2,"run_id":"x","run_name":"s"}\n{"not": "a line of ours'
    path.write_bytes(content)
    with pytest.raises(ev.JournalError, match=r"newer sf_runner \(format 2, this one reads up to 1\); upgrade"):
        Journal.open(path, "study")
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"step,reward\n1,2\n", b"not a journal", b'{"a": 1}\n', b"[1]\n{", b"\n", b"\0"])
def test_a_file_that_is_no_journal_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(ev.JournalError, match=r"is not a journal of sf_runner; move it away"):
        Journal.open(path, "study")
    assert path.read_bytes() == content


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """A disk that takes `free` more bytes, then answers with `errno`."""
    disk = {"free": 0, "errno": errno.ENOSPC}
    write_for_real = os.write

    def write(fd: int, data: bytes) -> int:
        if disk["free"] <= 0:
            raise OSError(disk["errno"], os.strerror(disk["errno"]))
        written = write_for_real(fd, data[: disk["free"]])
        disk["free"] -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        yield disk


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG])
def test_a_full_disk_loses_nothing(path: Path, full_disk: dict[str, int], number: int) -> None:
    full_disk.update(free=1 << 20, errno=number)
    journal, _ = Journal.open(path, "study")
    full_disk["free"] = 30  # in the middle of a line
    journal.append(HISTORY[:2])
    assert not journal.flush()
    assert journal.trouble == os.strerror(number)
    journal.append(HISTORY[2:])
    assert not journal.flush()
    full_disk["free"] = 1 << 20
    assert journal.flush()
    assert journal.trouble == ""
    journal.close()
    assert read_journal(path)[0][1:] == HISTORY


def test_an_unexpected_error_of_a_write_is_not_hidden(path: Path, full_disk: dict[str, int]) -> None:
    full_disk["free"] = 1 << 20
    journal, _ = Journal.open(path, "study")
    full_disk.update(free=0, errno=errno.EBADF)
    journal.append(HISTORY)
    with pytest.raises(OSError, match="Bad file descriptor"):
        journal.flush()


def test_a_journal_that_cannot_be_begun_says_so(path: Path, full_disk: dict[str, int]) -> None:
    with pytest.raises(ev.JournalError, match=r"No space left on device; free some space or choose another"):
        Journal.open(path, "study")
    full_disk["free"] = 1 << 20
    journal, state = Journal.open(path, "study")  # an empty file is a journal that was never begun
    journal.close()
    assert len(read_journal(path)[0]) == 1
    assert state.run_name == "study"


def test_syncing_in_the_background_and_closing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append, raising=False)
    journal, _ = Journal.open(path, "study")
    journal.sync_soon()
    journal.sync_soon()  # nothing new: no second thread
    journal.close()
    assert 1 <= len(synced) <= 2


def test_a_whole_state_survives_the_disk(path: Path) -> None:
    plan = simple_plan(1200, cmd="python train.py 'two words' ünïcode")
    journal, state = Journal.open(path, "study")
    for event in opening(plan, state):
        journal.append([event])
        state.apply(event)
    journal.close()
    assert len(state.jobs) == 1200
    assert essence(replay(read_journal(path)[0], path)) == essence(state)
    # No line of megabytes: the plan is told in portions.
    assert max(map(len, path.read_bytes().splitlines())) < 500_000
