"""Header, machine, alert and footer as lines of styled text. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sf_runner.slots.gpu_memory import STRANGER_MB
from sf_runner.state.estimate import LEAST_DOUBT_S, format_duration
from sf_runner.tui.machine import GpuRow, Machine
from sf_runner.tui.text import (
    Line,
    Span,
    bar,
    count,
    cut,
    fit,
    gigabytes,
    line_width,
    stacked_bar,
)
from sf_runner.tui.theme import Glyphs
from sf_runner.tui.view_model import Alert, Header

_ALERT_STYLES = {"error": "failed", "warning": "warning", "note": "note", "info": "dim"}
_GPU_LABEL = 38
_STATES = ("succeeded", "failed", "running", "retrying", "waiting", "cancelled")


def spread(choices: Sequence[tuple[Sequence[Span], Sequence[Span]]], columns: int, ellipsis: str) -> Line:
    """The first (left, right) that fits side by side; the last one is cut when none does."""
    for left, right in choices:
        gap = columns - line_width(tuple(left)) - line_width(tuple(right))
        if gap >= 1:
            return tuple(span for span in (*left, (" " * gap, ""), *right) if span[0])
    return cut_line((*choices[-1][0], (" ", ""), *choices[-1][1]), columns, ellipsis)


def cut_line(line: Sequence[Span], columns: int, ellipsis: str) -> Line:
    """At most `columns` cells."""
    found: list[Span] = []
    left = columns
    for text, style in line:
        width = line_width(((text, style),))
        if width > left:
            if left > 0:
                found.append((cut(text, left, ellipsis), style))
            break
        found.append((text, style))
        left -= width
    return tuple(found)


def title_line(header: Header, columns: int, glyphs: Glyphs) -> Line:
    """Run, where, elapsed, time left."""
    elapsed = format_duration(header.elapsed_s)
    ago = {"live": "", "unknown": "", "finished": "ended", "gone": "not being run"}[header.life]
    left_text, sure = "", ""
    if header.left is not None:
        left_text = f"about {format_duration(header.left.left_s)} left"
        if header.left.plus_minus_s is not None and header.left.plus_minus_s >= LEAST_DOUBT_S:
            left_text = f"{format_duration(header.left.left_s)} left"
            sure = f" {glyphs.plus_minus} {format_duration(header.left.plus_minus_s)}"
    name: Span = (f" {header.run} ", "title")
    where: Span = (f" {header.where}", "dim")
    state: list[Span] = [(f"  {ago}", "warning" if header.life == "gone" else "good")] if ago else []
    times = f"{elapsed} elapsed"
    end: list[Span] = [(f", {left_text}", "bold"), (sure, "dim")] if left_text else []
    return spread(
        [
            ([name, where, *state], [(times, "dim"), *end, (" ", "")]),
            ([name, *state], [(times, "dim"), *end, (" ", "")]),
            ([name, *state], [(elapsed, "dim"), *end[:1], (" ", "")]),
            ([name, *state], [(left_text or elapsed, "bold"), (" ", "")]),
            ([name], []),
        ],
        columns,
        glyphs.ellipsis,
    )


def bar_line(header: Header, columns: int, glyphs: Glyphs) -> Line:
    """The whole run: what has ended, and the part that running experiments have done."""
    total = max(1, header.total)
    ended = header.succeeded + header.failed + header.cancelled
    done = header.done / total
    percent = "100%" if done >= 1 else f"{min(99, math.floor(100 * done))}%"
    width = max(4, columns - 8)
    parts = [
        (header.succeeded / total, "succeeded"),
        (header.failed / total, "failed"),
        (header.cancelled / total, "cancelled"),
        ((header.done - ended) / total, "running"),
    ]
    return ((" ", ""), *stacked_bar(parts, width, glyphs), (f" {percent:>4}", "bold"))


def counts_line(header: Header, columns: int, glyphs: Glyphs) -> Line:
    """How many are in which state."""
    values = {name: getattr(header, name) for name in _STATES}
    shown = [name for name in _STATES if values[name] or name in ("succeeded", "running", "waiting")]
    if not values["waiting"] and not values["running"]:
        shown = [name for name in shown if values[name]]
    long: list[Span] = []
    short: list[Span] = []
    for name in shown:
        style = name if values[name] or name == "succeeded" else "dim"
        long.append((f" {glyphs.states[name]} {values[name]} {name} ", style))
        short.append((f" {glyphs.states[name]} {values[name]}", style))
    limit = "paused" if header.paused else f"{header.max_parallel} at a time" if header.max_parallel else ""
    parts = [f"{header.total} experiments", limit if header.life == "live" else ""]
    parts.append(f"{count(header.fps)} fps" if header.fps else "")
    whole = f" {glyphs.dot} ".join(part for part in parts if part)
    return spread(
        [
            (long, [(f"{whole} ", "dim")]),
            (long, [(f"{header.total} experiments ", "dim")]),
            (long, [(f"of {header.total} ", "dim")]),
            (short, [(f"{whole} ", "dim")]),
            (short, [(f"of {header.total} ", "dim")]),
        ],
        columns,
        glyphs.ellipsis,
    )


def tiny_line(header: Header, columns: int, rows: int, glyphs: Glyphs) -> list[Line]:
    """All that fits on a terminal that is too small for anything else."""
    failed = f" {header.failed} failed" if header.failed else ""
    text = f"{header.succeeded}/{header.total}{failed} {header.run}"
    lines: list[Line] = [((cut(text, columns, glyphs.ellipsis), "bold"),)]
    return [*lines, *([()] * (rows - 1))][:rows]


def alert_line(alert: Alert | None, columns: int, glyphs: Glyphs) -> Line:
    """The one thing to know now; empty when there is nothing."""
    if alert is None:
        return ()
    mark = {"error": "!", "warning": "!", "note": glyphs.dot, "info": glyphs.dot}[alert.level]
    return ((fit(f" {mark} {alert.text}", columns, glyphs.ellipsis), _ALERT_STYLES[alert.level]),)


def machine_line(machine: Machine, columns: int, glyphs: Glyphs) -> Line:
    """Cores, load and memory of this machine."""
    width = 8 if columns < 100 else 12
    spans: list[Span] = []
    if machine.cpu is not None:
        spans += [(" CPU ", "dim"), *bar(machine.cpu, width, "good", glyphs)]
        spans.append((f" {100 * machine.cpu:3.0f}%", ""))
    of = f" of {machine.cores} core{'s' if machine.cores > 1 else ''}"
    spans.append((f"{of}  " if machine.cpu is not None else f"{of[3:]}  ", "dim"))
    if machine.load is not None:
        spans += [(" load ", "dim"), (f"{machine.load:.1f}  ", "")]
    if machine.memory_total_mb and machine.memory_used_mb is not None:
        used = machine.memory_used_mb / machine.memory_total_mb
        spans += [(" memory ", "dim"), *bar(used, width, _load_style(used), glyphs)]
        spans += [
            (f" {gigabytes(machine.memory_used_mb)}", ""),
            (f" of {gigabytes(machine.memory_total_mb)} GB", "dim"),
        ]
    return cut_line(spans, columns, glyphs.ellipsis)


def gpu_lines(gpus: Sequence[GpuRow], per_row: int, rows: int, columns: int, glyphs: Glyphs) -> list[Line]:
    """The GPU panel. What does not fit is counted in the last cell."""
    width = columns // per_row
    cells = [_gpu_cell(gpu, width, glyphs) for gpu in gpus]
    room = rows * per_row
    if len(cells) > room:
        hidden = gpus[room - 1 :]
        known = [gpu.utilization for gpu in hidden if gpu.utilization is not None]
        busy = f", {100 * sum(known) / len(known):.0f}% busy" if known else ""
        jobs = sum(gpu.jobs for gpu in hidden)
        text = f" and {len(hidden)} GPUs more{busy}, {jobs} experiments"
        cells = [*cells[: room - 1], ((fit(text, width, glyphs.ellipsis), "dim"),)]
    return [
        tuple(span for cell in cells[start : start + per_row] for span in cell)
        for start in range(0, rows * per_row, per_row)
    ]


def _gpu_cell(gpu: GpuRow, width: int, glyphs: Glyphs) -> Line:
    wide = width >= 56
    spans: list[Span] = [(f" {gpu.label if width >= _GPU_LABEL else gpu.label.removeprefix('GPU ')} ", "bold")]
    if gpu.lost:
        spans.append(("lost: the driver no longer reaches it", "failed"))
        return _cell(spans, width, glyphs)
    if wide:
        spans += [(fit(gpu.name, 11, glyphs.ellipsis) + " ", "dim")] if width >= 76 and gpu.name else []
        spans += [(" " * 8, "")] if gpu.utilization is None else bar(gpu.utilization, 8, "running", glyphs)
    known = gpu.utilization is not None
    spans.append(
        (f" {100 * gpu.utilization:3.0f}%" if gpu.utilization is not None else "   ?%", "" if known else "dim")
    )
    if gpu.used_mb is not None and gpu.total_mb:
        full = gpu.used_mb / gpu.total_mb
        style = "full" if full > 0.95 else "busy" if full > 0.8 else ""
        memory = f"{gigabytes(gpu.used_mb)}/{gigabytes(gpu.total_mb)}"
        spans += [(f"{memory:>8} GB" if wide else f" {memory}G", style)]
    if gpu.temperature_c is not None:
        hot = "full" if gpu.temperature_c >= 88 else "busy" if gpu.temperature_c >= 80 else "dim"
        spans.append((f" {gpu.temperature_c}{glyphs.degree}C", hot))
    elif wide:
        spans.append(("  ?" + " " * (1 + len(glyphs.degree)), "dim"))
    if gpu.jobs:
        spans.append((f"  {gpu.jobs} job{'s' if gpu.jobs > 1 else ''}" if wide else f" {gpu.jobs}j", "good"))
    spans += _others(gpu, wide)
    return _cell(spans, width, glyphs)


def _others(gpu: GpuRow, wide: bool) -> list[Span]:
    """Other people's use; a driver's own few hundred MB are nobody's."""
    hidden = gpu.others_mb or 0
    if not gpu.others and hidden <= STRANGER_MB:
        return []
    memory = f" {gigabytes(hidden)} GB" if hidden else ""
    return [(f"  others{memory}" if wide else " +others", "note")]


def _cell(spans: list[Span], width: int, glyphs: Glyphs) -> Line:
    line = cut_line(spans, width, glyphs.ellipsis)
    return (*line, (" " * (width - line_width(line)), ""))


def _load_style(fraction: float) -> str:
    return "full" if fraction > 0.95 else "busy" if fraction > 0.8 else "good"


def footer_line(keys: Sequence[tuple[str, str]], columns: int, glyphs: Glyphs) -> Line:
    """Keys and what they do, the most useful first; the last two are always shown."""
    cells = [((f" {key}", "key"), (f" {label} ", "dim")) for key, label in keys]
    widths = [line_width(cell) for cell in cells]
    chosen = list(range(max(0, len(cells) - 2), len(cells)))
    room = columns - sum(widths[index] for index in chosen)
    for index in range(len(cells) - 2):
        if widths[index] > room:
            break
        room -= widths[index]
        chosen.append(index)
    return cut_line([span for index in sorted(chosen) for span in cells[index]], columns, glyphs.ellipsis)
