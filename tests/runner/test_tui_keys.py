"""Bytes from a keyboard become keys, in whatever pieces they arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_runner.tui.keys import PASTE, KeyParser

SEQUENCES = {
    b"\x1b[A": "up",
    b"\x1bOB": "down",
    b"\x1b[5~": "pageup",
    b"\x1b[6~": "pagedown",
    b"\x1b[H": "home",
    b"\x1b[4~": "end",
    b"\x1b[1;5C": "right",
    b"\x1b[Z": "backtab",
    b"\x1bOP": "f1",
    b"\r": "enter",
    b"\n": "enter",
    b" ": "space",
    b"\x7f": "backspace",
    b"\x0c": "ctrl-l",
    b"\x1a": "ctrl-z",
    b"q": "q",
    b"+": "+",
    "ü".encode(): "ü",
    "实".encode(): "实",
}


@pytest.mark.parametrize(("data", "key"), SEQUENCES.items())
def test_each_key_has_its_name(data: bytes, key: str) -> None:
    parser = KeyParser()
    assert parser.feed(data) == [key]
    assert not parser.waiting


@given(st.lists(st.sampled_from(sorted(SEQUENCES))), st.data())
def test_pieces_make_no_difference(typed: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(typed)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    parser = KeyParser()
    keys = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        keys += parser.feed(stream[start:end])
    assert keys == [SEQUENCES[item] for item in typed]


def test_escape_alone_is_a_key_once_nothing_follows() -> None:
    parser = KeyParser()
    assert parser.feed(b"\x1b") == []
    assert parser.waiting
    assert parser.flush() == ["esc"]
    assert not parser.waiting
    assert parser.flush() == []


def test_escape_followed_by_another_key_is_two_keys() -> None:
    parser = KeyParser()
    assert parser.feed(b"\x1bq") == ["esc", "q"]
    assert parser.feed(b"\x1b\x1b[A") == ["esc", "up"]


def test_a_torn_sequence_is_dropped() -> None:
    parser = KeyParser()
    assert parser.feed(b"\x1b[1;") == []
    assert parser.flush() == []
    assert parser.feed(b"j") == ["j"]


@pytest.mark.parametrize("data", [b"\x1b[200;300H", b"\x1b[?62;c", b"\x1b[99~", b"\x1b[<0;3;4M", b"\x1b[I"])
def test_unknown_sequences_are_swallowed_whole(data: bytes) -> None:
    assert KeyParser().feed(data + b"k") in (["k"], ["home", "k"])


def test_pasted_text_is_one_key_and_never_commands() -> None:
    parser = KeyParser()
    keys = parser.feed(b"a\x1b[200~cy\x1b[A") + parser.feed(b"q\n\x1b[201") + parser.feed(b"~b")
    assert keys == ["a", PASTE + "cy\x1b[Aq\n", "b"]


def test_a_huge_paste_is_cut() -> None:
    parser = KeyParser()
    parser.feed(b"\x1b[200~")
    for _ in range(100):
        parser.feed(b"x" * 1000)
    (key,) = parser.feed(b"\x1b[201~")
    assert len(key) <= len(PASTE) + 4096


@given(st.binary(max_size=200))
def test_nothing_a_terminal_sends_makes_it_fail(data: bytes) -> None:
    parser = KeyParser()
    keys = parser.feed(data) + parser.flush()
    assert all(isinstance(key, str) and key for key in keys)
