"""The log of one experiment on the whole screen."""

from __future__ import annotations

import shlex

from sf_runner.basics.paths import RunPaths
from sf_runner.engine.snapshot import state_name
from sf_runner.state.estimate import format_duration
from sf_runner.state.jobs import JobRecord
from sf_runner.tui.log_pager import LogPager, LogText
from sf_runner.tui.render import log_page, rule
from sf_runner.tui.text import Line
from sf_runner.tui.theme import Glyphs
from sf_runner.tui.view_model import job_row, remark_on, short_name

_HEAD_ROWS_FROM = 16
_SIDEWAYS = 20


class LogView:
    """Remembers where in which attempt's log the window is."""

    def __init__(self, run_paths: RunPaths, record: JobRecord) -> None:
        self.job = record.job_id
        self._paths = run_paths.job(record.job_id)
        self._attempt = record.attempts
        self._pager = LogPager(self._paths.attempt_log(record.attempts))
        self._rows = 10

    def press(self, key: str) -> bool:
        """Move; False when the person has had enough."""
        pager = self._pager
        if key in ("esc", "q", "enter", "l"):
            return False
        if key == "a":
            logs = self._paths.attempt_logs()
            if len(logs) > 1:
                at = logs.index(pager.path) if pager.path in logs else 0
                self._pager = LogPager(logs[(at - 1) % len(logs)])
        moves = {
            "up": -1, "k": -1, "down": 1, "j": 1, "pageup": -self._rows, "b": -self._rows, "pagedown": self._rows,
            "space": self._rows,
        }  # fmt: skip
        if key in moves:
            pager.move(moves[key])
        elif key in ("left", "right"):
            pager.sideways(_SIDEWAYS if key == "right" else -_SIDEWAYS)
        elif key in ("home", "g"):
            pager.to_start()
        elif key in ("end", "G"):
            pager.to_end()
        elif key == "F":
            pager.toggle_follow()
        return True

    def lines(self, record: JobRecord, now: float, columns: int, rows: int, glyphs: Glyphs) -> list[Line]:
        """The page."""
        if record.attempts != self._attempt and self._pager.following:
            # A new attempt has begun: whoever follows wants to see it.
            self._attempt = record.attempts
            self._pager = LogPager(self._paths.attempt_log(record.attempts))
        head = self._head(record, now, columns, rows, glyphs)
        self._rows = max(1, rows - len(head) - 1)
        text = self._pager.page(self._rows)
        return log_page(head, text, self._pager.column, self._keys(record, text), columns, rows, glyphs)

    def _head(self, record: JobRecord, now: float, columns: int, rows: int, glyphs: Glyphs) -> list[Line]:
        row = job_row(record, now, None, (), "", selected=False)
        took = f"  {format_duration(row.elapsed_s)}" if row.elapsed_s is not None else ""
        slot = f"  {row.slot}" if row.slot else ""
        attempt = self._pager.path.stem.removeprefix("attempt_")
        tries = f"  attempt {attempt} of {record.attempts}" if record.attempts > 1 else ""
        lines: list[Line] = [
            (
                (f" {glyphs.states[state_name(record)]} {state_name(record)}", state_name(record)),
                (f"  {short_name(record.job_id)}", "title"),
                (f"{took}{slot}{tries}", "dim"),
            )
        ]
        remark = remark_on(record, now)
        if remark:
            lines.append(((f" {remark}", "cause"),))
        if rows >= _HEAD_ROWS_FROM:
            lines.append(((" command  ", "dim"), (shlex.join(record.argv), "")))
            lines.append(((" folder   ", "dim"), (str(self._paths.experiment_dir), "")))
        lines.append(rule(self._pager.path.name, columns, glyphs))
        return lines

    def _keys(self, record: JobRecord, text: LogText) -> list[tuple[str, str]]:
        where = "following" if self._pager.following else "F follow" if self._pager.at_end else "end to follow"
        if text.size and not self._pager.following:
            where = f"{100 * self._pager.top // text.size}%, {where}"
        other = [("a", "other attempts")] if record.attempts > 1 else []
        return [
            ("", where),
            ("pgup pgdn", "scroll"),
            ("left right", "sideways"),
            *other,
            ("F", "follow"),
            ("esc", "back"),
        ]
