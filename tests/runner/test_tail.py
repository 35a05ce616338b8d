"""The end of files that are long, torn, growing or gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_runner.basics.tail import last_line, read_tail, tail_text


@pytest.mark.parametrize(("max_bytes", "expected"), [(100, "abc€"), (4, "c€"), (2, "��"), (0, "")])
def test_the_last_bytes_as_text(tmp_path: Path, max_bytes: int, expected: str) -> None:
    log = tmp_path / "log"
    log.write_text("abc€", encoding="utf-8")
    assert tail_text(log, max_bytes) == expected


def test_what_was_added_while_the_file_was_open_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\n")
    with log.open("rb") as file:
        assert read_tail(file, 3) == b"ne\n"
        with log.open("ab") as more:
            more.write(b"two\n")
        assert read_tail(file, 4) == b"two\n"
        log.write_bytes(b"x")
        assert read_tail(file, 4) == b"x"


def test_a_file_that_is_not_there_has_no_end(tmp_path: Path) -> None:
    assert tail_text(tmp_path / "none", 10) == ""
    assert last_line(tmp_path / "none") == ""
    assert tail_text(tmp_path, 10) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\ntwo\n", "two"),
        ("one\n  two  \n\n \n", "two"),
        ("one\nskip this\n", "one"),
        ("skip this\n", ""),
        (" 50%\r100%\n", "100%"),
        ("", ""),
    ],
)
def test_the_last_line_that_says_something(tmp_path: Path, text: str, expected: str) -> None:
    log = tmp_path / "log"
    log.write_text(text, newline="")
    assert last_line(log, ignore=lambda line: line.startswith("skip")) == expected
