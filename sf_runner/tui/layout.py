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


def make_columns(columns: int, *, name: int, slot: int, attempts: bool, fps: bool, value: bool) -> Columns:
    """`name`, `slot`: cells that the longest one would like; `attempts`, `fps`, `value`: whether some job has one to
    show. The most important columns come first; then names get what they need; then bars and sparklines grow."""
    least_name = min(name, max(16, columns * 3 // 10))
    room = columns - 4 - least_name
    widths: dict[str, int] = {}
    for column, width, wanted in (
        ("state", 1 if columns < 60 else 8 if columns < 100 else 11, True),
        ("percent", 4, True),
        ("time", 6, True),
        ("value", 8, value and columns >= 50),
        ("bar", 8, True),
        ("fps", 5, fps),
        ("slot", min(slot, 6 if columns < 110 else 14), slot > 0),
        ("attempt", 3, attempts),
        ("left", 6, columns >= 100),
        ("spark", 8, value and columns >= 90),
    ):
        widths[column] = width if wanted and width + 1 <= room else 0
        room -= widths[column] + (1 if widths[column] else 0)
    wide_name = min(name, least_name + room)
    room -= wide_name - least_name
    growing = [column for column in ("bar", "spark") if widths[column]]
    for index, column in enumerate(growing):
        more = min(room // (len(growing) - index), _MAX_BAR - widths[column])
        widths[column] += more
        room -= more
    return Columns(name=wide_name, **widths)
