"""Windows on log files: always whole lines, the same as reading the file at once would give."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sf_runner.tui import log_pager
from sf_runner.tui.log_pager import LogPager, LogTail, tail_lines

LINES = st.lists(st.text("ab 実", max_size=12), max_size=40)


def reference(text: str) -> list[str]:
    return text[:-1].split("\n") if text.endswith("\n") else text.split("\n") if text else []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(LINES, st.booleans(), st.integers(1, 8), st.lists(st.integers(-12, 12), max_size=8))
def test_the_window_moves_over_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], newline: bool, rows: int, moves: list[int]
) -> None:
    monkeypatch.setattr(log_pager, "_BLOCK", 7)  # small, so that lines lie across blocks
    path = tmp_path / "log"
    text = "\n".join(lines) + ("\n" if newline and lines else "")
    path.write_text(text, encoding="utf-8")
    expected = reference(text)
    pager = LogPager(path)
    assert list(pager.page(rows).lines) == expected[max(0, len(expected) - rows) :], "it begins at the end"
    top = max(0, len(expected) - rows)
    for move in moves:
        pager.move(move)
        top = max(0, min(top + move, len(expected) - rows))
        assert list(pager.page(rows).lines) == expected[top : top + rows]
    pager.to_start()
    assert list(pager.page(rows).lines) == expected[:rows]


def test_following_and_holding_still(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"{number}\n" for number in range(10)))
    pager = LogPager(path)
    pager.page(3)

    def grow(*numbers: int) -> list[str]:
        with path.open("a") as file:
            file.writelines(f"{number}\n" for number in numbers)
        return list(pager.page(3).lines)

    assert grow(10) == ["8", "9", "10"]
    pager.move(-2)
    assert grow(11) == ["6", "7", "8"], "who has scrolled away is left in peace"
    pager.move(3)
    assert grow() == ["9", "10", "11"]
    assert grow(12) == ["10", "11", "12"], "who has come to the end follows"
    pager.toggle_follow()
    assert grow(13) == ["10", "11", "12"]
    pager.to_end()
    assert grow(14) == ["12", "13", "14"]
    path.write_text("new\n")  # truncated by its program
    assert grow() == ["new"]


def test_progress_bars_show_what_they_would_on_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "log"
    bar = "".join(f"\r{percent:3}%|{'#' * (percent // 10)}" for percent in range(0, 101, 1))
    path.write_text(f"begin\n{bar}")
    assert tail_lines(path, 2) == ["begin", "100%|##########"]
    assert list(LogPager(path).page(2).lines) == ["begin", "100%|##########"]


def test_huge_lines_and_huge_files_are_read_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.write(b"first\n")
        file.truncate(3 << 30)  # three GiB of holes: as one line without an end
        file.seek(3 << 30)
        file.write(b"\nlast\n")
    read = 0
    pread = os.pread

    def counting(fd: int, size: int, offset: int) -> bytes:
        nonlocal read
        data = pread(fd, size, offset)
        read += len(data)
        return data

    monkeypatch.setattr(os, "pread", counting)
    assert tail_lines(path, 1) == ["last"]
    pager = LogPager(path)
    assert pager.page(5).lines[-1] == "last"
    pager.to_start()
    assert pager.page(2).lines[0] == "first"
    pager.move(1)
    pager.page(2)
    assert read < 32 << 20


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    pager = LogPager(tmp_path / "none")
    pager.move(3)
    assert pager.page(5).size is None
    assert LogTail().read(tmp_path / "none", 5).size is None


def test_the_tail_is_read_again_only_when_the_file_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    path.write_text("one\ntwo\n\n\n")
    calls = []

    def counted(path: Path, lines: int) -> list[str]:
        calls.append(lines)
        return tail_lines(path, lines)

    monkeypatch.setattr(log_pager, "tail_lines", counted)
    tail = LogTail()
    assert tail.read(path, 5).lines == ("one", "two")
    assert tail.read(path, 5).lines == ("one", "two")
    assert len(calls) == 1
    path.write_text("three\n")
    assert tail.read(path, 5).lines == ("three",)


def test_a_file_as_long_as_what_is_read_keeps_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for size in (4096, 1 << 20):
        path.write_bytes(b"first\n" + b"x" * (size - 13) + b"\nthird\n")
        assert path.stat().st_size == size
        assert tail_lines(path, 8)[0] == "first"


def test_how_long_ago_a_log_was_written_is_told_by_this_machines_clock(tmp_path: Path) -> None:
    """The file server's is an hour behind: a log that grows would seem to be an hour old."""
    path, tail = tmp_path / "log", LogTail()
    path.write_text("one\n")
    os.utime(path, (time.time() - 3600.0,) * 2)
    assert tail.read(path, 5).written_at < time.time() - 3000.0  # all that is known
    path.write_text("one\ntwo\n")
    os.utime(path, (time.time() - 3600.0,) * 2)
    grown = tail.read(path, 5)
    assert grown.written_at > time.time() - 3000.0
    assert tail.read(path, 7).written_at == grown.written_at, "another size of the window is no write"
