"""Which panel gets how many rows, and which columns the list of jobs has, for a terminal of a given size. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MIN_COLUMNS, MIN_ROWS = 24, 5
"""Below this there is room for one sentence."""

_MAX_BAR = 48
_GPU_CELL, _GPU_CELL_SHORT = 60, 36


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Rows of each panel, from the top down; 0: not shown. They add up to `rows`."""

    columns: int
    rows: int
    title: int
    bar: int
    counts: int
    panel: int
    alert: int
    head: int
    jobs: int
    log_title: int
    log: int
    footer: int
    gpus_per_row: int
    machine: bool
    """Whether the panel's last row is about cores and memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Widths of the columns of the job list; 0: not shown."""

    state: int
    name: int
    slot: int
    attempt: int
    time: int
    bar: int
    percent: int
    left: int
    fps: int
    value: int
    spark: int

    @property
    def numbers(self) -> tuple[int, ...]:
        """The columns that tell how far a job is; a remark can take their place."""
        return tuple(w for w in (self.bar, self.percent, self.left, self.fps, self.value, self.spark) if w)


def make_layout(columns: int, rows: int, *, gpus: int, machine: bool, jobs: int) -> Layout:
    """`gpus`: how many there are to show; `machine`: whether cores and memory of this machine can be shown; `jobs`:
    how many the list may hold: what it does not need goes to the log."""
    title, bar, footer = 1, int(rows >= 6), int(rows >= 7)
    counts, head, alert = int(rows >= 8), int(rows >= 8), int(rows >= 10)
    per_row = max(1, columns // _GPU_CELL)
    most = max(1, rows // 6) if rows >= 20 else 0
    if -(-gpus // per_row) > most:
        per_row = max(1, columns // _GPU_CELL_SHORT)
    panel = min(-(-gpus // per_row), most)
    with_machine = machine and rows >= (30 if gpus else 20)
    panel += with_machine
    left = rows - title - bar - counts - alert - head - footer - panel
    log = max(3, (left - 1) * 3 // 10, left - 1 - jobs) if rows >= 16 else 0
    return Layout(
        columns=columns, rows=rows, title=title, bar=bar, counts=counts, alert=alert, panel=panel, head=head,
        jobs=left - log - int(log > 0), log_title=int(log > 0), log=log, footer=footer, gpus_per_row=per_row,
        machine=with_machine,
    )  # fmt: skip


def make_columns(columns: int, *, attempts: bool, slots: bool, fps: bool, value: bool, name: int) -> Columns:
    """`attempts`, `slots`, `fps`, `value`: whether some job has one to show. `name`: cells that names would like."""
    wide, widest = columns >= 110, columns >= 160
    state = 11 if columns >= 60 else 1
    slot = (12 if wide else 6) if slots and columns >= 70 else 0
    attempt = 3 if attempts and columns >= 70 else 0
    time = 6 if columns >= 36 else 0
    bar = 0 if columns < 60 else 8 if not wide else 14 if not widest else 24
    percent = 4
    left = 6 if wide else 0
    speed = 5 if fps and columns >= 70 else 0
    number = 8 if value and columns >= 50 else 0
    spark = (0 if columns < 96 else 10 if not wide else 16 if not widest else 24) if value else 0
    fixed = [state, slot, attempt, time, bar, percent, left, speed, number, spark]
    room = max(8, columns - 3 - sum(width + 1 for width in fixed if width))
    if wide and room > name:  # what names do not need makes bars and sparklines longer
        spare, room = room - name, name
        longer = min(spare // 2, _MAX_BAR - spark) if spark else 0
        bar, spark = min(bar + spare - longer, _MAX_BAR), spark + longer
    return Columns(
        state=state, name=room, slot=slot, attempt=attempt, time=time, bar=bar, percent=percent, left=left, fps=speed,
        value=number, spark=spark,
    )  # fmt: skip
