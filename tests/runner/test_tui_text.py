"""Text fits its cells exactly; numbers stay readable; the painter sends what differs and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_runner.tui import text
from sf_runner.tui.paint import Painter
from sf_runner.tui.text import Line
from sf_runner.tui.theme import ASCII, UNICODE, Theme, choose_theme, is_dumb
from tests.runner.vt import Vt

WORDS = st.text(st.sampled_from("ab_0実é▶. "), max_size=30)


@given(WORDS, st.integers(0, 40))
def test_fitted_text_has_exactly_its_width(words: str, width: int) -> None:
    for fitted in (text.fit(words, width, "…"), text.fit(words, width, "…", right=True), text.elide(words, width, "…")):
        assert text.width_of(fitted) == width


def test_names_keep_both_ends() -> None:
    assert text.elide("00_walker_learning_rate_0.0001_seed_1111", 20, "…") == "00_wal…001_seed_1111"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[32mgreen\x1b[0m \x1b]0;title\x07text", "green text"),
        ("  3%|   |\r 50%|## |\r100%|####|\r", "100%|####|"),
        ("a\tb", "a       b"),
        ("bell\x07 null\x00 zero\u200bwidth", "bell null zerowidth"),
        ("\ud800", "?"),
        ("plain", "plain"),
    ],
)
def test_output_of_programs_is_made_fit_to_be_shown(raw: str, shown: str) -> None:
    assert text.clean(raw) == shown


@given(st.text(max_size=100))
def test_whatever_a_program_prints_leaves_no_control_character(raw: str) -> None:
    assert text.clean(raw).isprintable()


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0:00"),
        (59.9, "0:59"),
        (751, "12:31"),
        (3600, "1:00 h"),
        (36000, "10:00h"),
        (187200, "2d 04h"),
        (9e6, "104 d"),
    ],
)
def test_times_take_six_cells(seconds: float, shown: str) -> None:
    assert text.clock(seconds) == shown
    assert len(shown) <= 6


@given(st.floats(0, 1e14))
def test_counts_take_five_cells(value: float) -> None:
    assert len(text.count(value)) <= 5


@given(st.floats(-1e30, 1e30))
def test_metrics_take_eight_cells_and_keep_their_value(value: float) -> None:
    shown = text.metric(value)
    assert len(shown) <= 8
    assert float(shown) == pytest.approx(value, rel=0.05)


@given(st.floats(0, 1), st.integers(1, 60))
def test_a_bar_is_full_only_at_the_end_and_empty_only_at_the_beginning(fraction: float, width: int) -> None:
    line = text.bar(fraction, width, "running", UNICODE)
    assert text.line_width(line) == width
    done = sum(len(part) for part, style in line if style == "running")
    assert (done > 0) == (fraction > 0)
    full = text.bar(1.0, width, "running", UNICODE)
    assert (line == full) == (fraction == 1)


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4), st.integers(4, 80))
def test_a_stacked_bar_shows_every_part(parts: list[int], width: int) -> None:
    total = max(1, sum(parts))
    named = [
        (part / total, style)
        for part, style in zip(parts, ("succeeded", "failed", "cancelled", "running"), strict=True)
    ]
    line = text.stacked_bar(named, width, UNICODE)
    assert text.line_width(line) == width
    assert {style for _, style in line} - {"track"} == {style for part, style in named if part > 0}


def test_a_sparkline_goes_from_least_to_greatest() -> None:
    assert text.sparkline([0, 1, 2, 3, 4, 5, 7], 8, UNICODE) == "▁▂▃▄▅▆█"
    assert text.sparkline([-999, 0, 1, 2, 3, 4, 5, 7], 8, UNICODE) == "▁▁▂▄▅▇██", "one value far off flattens nothing"
    assert text.sparkline([5, 5, 5], 8, UNICODE) == "▄▄▄"
    assert text.sparkline([], 8, UNICODE) == ""
    assert text.sparkline([-1e-9, 1e300], 2, ASCII) == "_#"
    assert len(text.sparkline(list(range(1000)), 12, UNICODE)) == 12


STYLES = ("", "dim", "running", "failed", "sel:running")


@st.composite
def frames(draw: st.DrawFn) -> list[list[Line]]:
    lines = st.lists(st.tuples(st.text("ab実 ", min_size=1, max_size=6), st.sampled_from(STYLES)), max_size=4)
    cut = lines.map(lambda spans: tuple(spans) if text.line_width(tuple(spans)) <= 16 else ())
    return draw(st.lists(st.lists(cut, min_size=3, max_size=3), min_size=1, max_size=5))


@settings(max_examples=200)
@given(frames())
def test_the_terminal_shows_the_last_frame_whatever_came_before(shown: list[list[Line]]) -> None:
    theme = Theme.make("256", unicode=True)
    painter, vt = Painter(theme), Vt(16, 3)
    vt.feed(b"\x1b[?7l" + b"x" * 48)
    for frame in shown:
        vt.feed(painter.paint(frame, 16))
        assert vt.text() == [text.plain(line).rstrip() for line in frame]
        fresh = Vt(16, 3).feed(b"\x1b[?7l" + Painter(theme).paint(frame, 16))
        for row in range(3):
            width = text.line_width(frame[row])
            assert vt.styles[row][:width] == fresh.styles[row][:width]
    assert painter.paint(shown[-1], 16) == b""


def test_only_the_part_that_differs_is_sent() -> None:
    theme = Theme.make("none", unicode=True)
    painter = Painter(theme)
    painter.paint([(("name ", ""), ("0:01", ""), (" rest", "dim"))], 80)
    sent = painter.paint([(("name ", ""), ("0:02", ""), (" rest", "dim"))], 80)
    assert sent == b"\x1b[?2026h\x1b[1;6H\x1b[0m0:02\x1b[0m\x1b[?2026l"


def test_colours_and_characters_follow_the_terminal() -> None:
    def theme(**env: str) -> Theme:
        return choose_theme({"TERM": "xterm-256color", **env})

    assert theme().codes["failed"] == "1;31"
    assert theme().glyphs is UNICODE
    assert theme(NO_COLOR="1").codes["failed"] == "1"
    assert theme(NO_COLOR="").codes["failed"] == "1;31"
    assert theme(TERM="xterm").codes["sel:failed"] == "7"
    assert theme(LC_ALL="C").glyphs is ASCII
    assert theme(LANG="C", LC_CTYPE="C.UTF-8").glyphs is ASCII
    assert theme(LANG="de_DE.UTF-8").glyphs is UNICODE
    assert theme(TERM="linux").glyphs is ASCII
    assert choose_theme({"TERM": "xterm"}, encoding="iso8859-1").glyphs is ASCII
    assert [is_dumb({"TERM": name}) for name in ("dumb", "", "xterm")] == [True, True, False]
    assert all(len(mark) == 1 for mark in ASCII.states.values())
    assert all(text.width_of(mark) == 1 for mark in UNICODE.states.values())
