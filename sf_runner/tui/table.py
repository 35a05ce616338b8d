"""The list of jobs as lines of styled text. Pure."""

from __future__ import annotations

from sf_runner.tui.layout import Columns
from sf_runner.tui.text import Line, Span, bar, clock, count, elide, fit, line_width, metric, sparkline
from sf_runner.tui.theme import SELECTED, Glyphs
from sf_runner.tui.view_model import JobRow

_REMARK_ROOM = 12
_FULL_WORD = 11
_SHORT_STATES = {
    "running": "run", "starting": "start", "ending": "ending", "retrying": "retry", "waiting": "wait",
    "queued": "queue", "succeeded": "done", "failed": "failed", "cancelled": "cancel",
}  # fmt: skip
_UNDER_WAY = ("running", "ending", "starting")


def head_line(columns: Columns, *, position: str, metric_name: str, sorted_by: str, glyphs: Glyphs) -> Line:
    """Names of the columns. `position`: which part of the list is in sight, and of what; `sorted_by`: the column by
    which the list is sorted."""
    progress = columns.bar + (1 if columns.bar else 0) + columns.percent
    value = columns.value + (columns.spark + 1 if columns.spark else 0)
    title = f"experiment  {position}"
    cells: list[tuple[str, str, int, bool]] = [
        ("state", "state" if columns.state > 1 else "", columns.state, False),
        ("number", title if len(title) <= columns.name else position, columns.name, False),
        ("", "slot", columns.slot, False),
        ("", "try", columns.attempt, True),
        ("time", "time", columns.time, True),
        ("progress", "progress" if progress >= 8 else "done", progress, columns.bar == 0),
        ("", "left", columns.left, True),
        ("fps", "fps", columns.fps, True),
    ]
    spans: list[Span] = [("  ", "")]
    for key, text, width, right in cells:
        if width:
            style = "head" if key and key == sorted_by else "dim"
            shown = _marked(text, width, glyphs) if style == "head" and key != "number" else text
            spans.append((fit(shown, width, glyphs.ellipsis, right=right) + " ", style))
    if columns.value:
        style = "head" if sorted_by == "metric" else "dim"
        metric_name = _marked(metric_name, columns.value, glyphs) if style == "head" else metric_name
        spans.append((fit(fit(metric_name, columns.value, glyphs.ellipsis, right=True), value, ""), style))
    return tuple(spans)


def _marked(text: str, width: int, glyphs: Glyphs) -> str:
    return text + glyphs.sorted if 0 < len(text) < width else text


def job_line(row: JobRow, columns: Columns, glyphs: Glyphs, *, total_width: int) -> Line:
    """One job; exactly `total_width` cells when it is selected."""
    text_style = "bold" if row.state in _UNDER_WAY else "dim" if row.state in ("waiting", "cancelled") else ""
    mark = glyphs.states[row.state]
    word = row.state if columns.state >= _FULL_WORD else _SHORT_STATES[row.state]
    state = fit(f"{mark} {word}", columns.state, "") if columns.state > 1 else mark
    spans: list[Span] = [
        (glyphs.cursor if row.selected else " ", "running"),
        (" ", ""),
        (state + " ", row.state),
        (elide(row.name, columns.name, glyphs.ellipsis) + " ", text_style),
    ]
    if columns.slot:
        spans.append((fit(_short_slot(row.slot, columns.slot), columns.slot, glyphs.ellipsis) + " ", "dim"))
    if columns.attempt:
        tries = str(row.attempt) if row.attempt > 1 else ""
        spans.append((fit(tries, columns.attempt, "", right=True) + " ", "retrying"))
    if columns.time:
        elapsed = clock(row.elapsed_s) if row.elapsed_s is not None else ""
        spans.append((fit(elapsed, columns.time, "", right=True) + " ", text_style if elapsed else ""))
    spans += _numbers(row, columns, glyphs)
    if not row.selected:
        return tuple(spans)
    spans.append((" " * (total_width - line_width(tuple(spans))), ""))
    return tuple((text, SELECTED + style) for text, style in spans)


def _numbers(row: JobRow, columns: Columns, glyphs: Glyphs) -> list[Span]:
    """How far it is; or why it failed, waits or is being ended."""
    room = sum(columns.numbers) + len(columns.numbers) - 1
    if row.remark and room >= _REMARK_ROOM:
        style = "cause" if row.state == "failed" else "retrying"
        return [(fit(row.remark, room, glyphs.ellipsis), style)]
    spans: list[Span] = []
    if columns.percent:
        spans += _progress(row, columns, glyphs)
    if columns.left:
        left = clock(row.left_s) if row.left_s is not None else ""
        spans.append((fit(left, columns.left, "", right=True) + " ", ""))
    if columns.fps:
        spans.append((fit(count(row.fps) if row.fps else "", columns.fps, "", right=True) + " ", ""))
    if columns.value:
        value = metric(row.value) if row.value is not None else ""
        spans.append((fit(value, columns.value, "", right=True) + " ", ""))
    if columns.spark:
        spans.append((fit(sparkline(row.course, columns.spark, glyphs), columns.spark, ""), "spark"))
    return spans


def _progress(row: JobRow, columns: Columns, glyphs: Glyphs) -> list[Span]:
    """The bar; without a known end of the job, the phase it is in."""
    if row.fraction is None:
        room = columns.bar + columns.percent + (1 if columns.bar else 0)
        return [(fit(row.phase, room, glyphs.ellipsis) + " ", "dim")]
    style = row.state if row.state in ("succeeded", "failed", "cancelled") else "running"
    percent = "100%" if row.fraction >= 1 else f"{min(99, int(100 * row.fraction))}%"
    line = [*bar(row.fraction, columns.bar, style, glyphs), (" ", "")] if columns.bar else []
    return [*line, (f"{percent:>{columns.percent}} ", "")]


def _short_slot(slot: str, width: int) -> str:
    """`GPU 0, cores 0-3` where there is room, else `GPU 0`, `c 0-3`."""
    if len(slot) <= width:
        return slot
    first = slot.partition(", ")[0]
    return first if len(first) <= width else first.replace("cores ", "c").replace("core ", "c").replace("GPUs ", "G ")
