"""Puts panels together to a screen: exactly as many lines as the terminal has rows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sf_runner.state.estimate import format_duration
from sf_runner.tui.layout import Columns, Layout
from sf_runner.tui.log_pager import LogText
from sf_runner.tui.machine import GpuRow, Machine
from sf_runner.tui.panels import (
    alert_line,
    bar_line,
    counts_line,
    cut_line,
    footer_line,
    gpu_lines,
    machine_line,
    title_line,
)
from sf_runner.tui.table import head_line, job_line
from sf_runner.tui.text import Line, cut, skip, width_of, wrap
from sf_runner.tui.theme import Glyphs
from sf_runner.tui.view_model import Alert, Header, JobRow


@dataclass(frozen=True, kw_only=True, slots=True)
class JobsScreen:
    """Everything on the main page. `position`: which part of the list is in sight, e.g. `1-12 of 30`."""

    header: Header
    alert: Alert | None
    machine: Machine | None
    gpus: tuple[GpuRow, ...]
    columns: Columns
    rows: tuple[JobRow, ...]
    position: str
    sorted_by: str
    metric: str
    empty: str
    """What to say in place of an empty list."""
    log_title: str
    log: tuple[str, ...]
    keys: Sequence[tuple[str, str]]
    prompt: str | None = None
    """The filter while it is being typed."""
    dialog: tuple[Line, ...] = ()


def jobs_page(screen: JobsScreen, layout: Layout, glyphs: Glyphs) -> list[Line]:
    """The main page."""
    width = layout.columns
    lines: list[Line] = [title_line(screen.header, width, glyphs)]
    if layout.bar:
        lines.append(bar_line(screen.header, width, glyphs))
    if layout.counts:
        lines.append(counts_line(screen.header, width, glyphs))
    gpu_rows = layout.panel - layout.machine
    if gpu_rows:
        lines += gpu_lines(screen.gpus, layout.gpus_per_row, gpu_rows, width, glyphs)
    if layout.machine:
        lines.append(machine_line(screen.machine, width, glyphs) if screen.machine else ())
    if layout.alert:
        lines.append(alert_line(screen.alert, width, glyphs))
    if layout.head:
        head = head_line(
            screen.columns,
            position=screen.position,
            metric_name=screen.metric,
            sorted_by=screen.sorted_by,
            glyphs=glyphs,
        )
        lines.append(cut_line(head, width, ""))
    table = [job_line(row, screen.columns, glyphs, total_width=width) for row in screen.rows]
    if not table and screen.empty:
        table = [((cut(f"   {screen.empty}", width, glyphs.ellipsis), "dim"),)]
    lines += _padded(table, layout.jobs)
    if layout.log_title:
        lines.append(rule(screen.log_title, width, glyphs))
        lines += _padded([((cut(f" {text}", width, glyphs.ellipsis), ""),) for text in screen.log], layout.log)
    if layout.footer:
        lines.append(_bottom(screen.prompt, screen.keys, width, glyphs))
    return with_dialog(_padded(lines, layout.rows), screen.dialog, width, glyphs)


def text_page(
    title: str,
    body: Sequence[Line],
    scroll: int,
    keys: Sequence[tuple[str, str]],
    columns: int,
    rows: int,
    glyphs: Glyphs,
) -> list[Line]:
    """A page of text from its line `scroll` on."""
    room = max(1, rows - 2)
    more = len(body) - scroll - room
    keys = keys if more <= 0 else [(glyphs.arrows, f"{more} lines more"), *keys]
    shown = [cut_line(line, columns, glyphs.ellipsis) for line in body[scroll : scroll + room]]
    return _padded([rule(title, columns, glyphs), *_padded(shown, room), footer_line(keys, columns, glyphs)], rows)


def log_page(
    head: Sequence[Line],
    log: LogText,
    column: int,
    keys: Sequence[tuple[str, str]],
    columns: int,
    rows: int,
    glyphs: Glyphs,
) -> list[Line]:
    """A log on the whole screen under a few lines about its experiment."""
    lines = [cut_line(line, columns, glyphs.ellipsis) for line in head]
    room = max(0, rows - len(lines) - 1)
    body: list[Line] = [((cut(skip(text, column), columns, glyphs.ellipsis), ""),) for text in log.lines[:room]]
    if not body:
        body = [((" no log yet" if log.size is None else " nothing in it yet", "dim"),)]
    return _padded([*lines, *_padded(body, room), footer_line(keys, columns, glyphs)], rows)


def with_dialog(lines: list[Line], dialog: Sequence[Line], columns: int, glyphs: Glyphs) -> list[Line]:
    """A question over the bottom of a page."""
    if not dialog:
        return lines
    block = [rule("", columns, glyphs), *(part for line in dialog for part in wrap(line, columns))]
    block = block[: len(lines)]
    return [*lines[: len(lines) - len(block)], *block]


def rule(title: str, columns: int, glyphs: Glyphs) -> Line:
    """A line across with a title in it."""
    if not title:
        return ((glyphs.rule * columns, "rule"),)
    title = cut(title, columns - 8, glyphs.ellipsis)
    rest = columns - 4 - width_of(title)
    return ((glyphs.rule * 2 + " ", "rule"), (title, "title"), (" " + glyphs.rule * max(0, rest), "rule"))


def log_panel_title(name: str, attempt: int, attempts: int, log: LogText, now: float) -> str:
    """What stands above the tail of a log."""
    if not log.size:
        return f"{name}  no output yet"
    which = f"  attempt {attempt}" if attempts > 1 else ""
    age = now - log.written_at
    return f"{name}{which}  last written {format_duration(max(0.0, age))} ago" if age >= 2 else f"{name}{which}"


def _bottom(prompt: str | None, keys: Sequence[tuple[str, str]], columns: int, glyphs: Glyphs) -> Line:
    if prompt is None:
        return footer_line(keys, columns, glyphs)
    hint = "  words of a name, parameter=value, !word; enter: take it, esc: drop it"
    return cut_line(((" filter: ", "key"), (prompt, "bold"), ("_", "running"), (hint, "dim")), columns, glyphs.ellipsis)


def _padded(lines: Sequence[Line], rows: int) -> list[Line]:
    """Exactly `rows` lines."""
    return [*lines[:rows], *([()] * (rows - len(lines)))]
