"""The screen without its terminal: events and keys in, lines and requests out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace

from sf_runner.basics.clock import steady_s
from sf_runner.basics.paths import RunPaths
from sf_runner.engine.screen import RunView
from sf_runner.state import events as ev
from sf_runner.state.estimate import Estimate, estimate
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import JobRecord
from sf_runner.tui import pages, render
from sf_runner.tui.alerts import make_alert, message_of
from sf_runner.tui.commands import Outcome, Scene, press
from sf_runner.tui.follow import is_here
from sf_runner.tui.layout import MIN_COLUMNS, MIN_ROWS, Columns, Layout, make_columns, make_layout
from sf_runner.tui.log_pager import LogTail
from sf_runner.tui.log_view import LogView
from sf_runner.tui.machine import GpuRow, GpuRows, MachineProbe
from sf_runner.tui.order import JobOrder
from sf_runner.tui.panels import tiny_line
from sf_runner.tui.sampler import Sampler
from sf_runner.tui.survey import Survey
from sf_runner.tui.text import Line, wrap
from sf_runner.tui.theme import Theme
from sf_runner.tui.ui_state import Mode, Pin, UiState, group_of
from sf_runner.tui.view_model import Alert, Header, JobRow, Life, make_header, make_rows, short_name, window

_MESSAGE_S = 5.0
_RECENT_PRESS_S = 3.0
_LEAST_NAME = 26
"""Room for what the head of the column says."""
_SAMPLES_PER_FRAME = 200


class App:
    """One person's view of a run. Reads progress files, logs and /proc; never writes anything.

    `local`: whether the jobs run on this machine; None: as the run itself says.
    """

    def __init__(
        self,
        run_paths: RunPaths,
        theme: Theme,
        mode: Mode,
        *,
        local: bool | None = None,
        machine: MachineProbe | None = None,
    ) -> None:
        self.ui = UiState()
        self.life: Life = "live"
        self._paths = run_paths
        self._glyphs = theme.glyphs
        self._mode: Mode = mode
        self._local = local
        self._order = JobOrder()
        self._sampler = Sampler(run_paths)
        self._machine = machine or MachineProbe()
        self._gpus = GpuRows()
        self._tail = LogTail()
        self._log: LogView | None = None
        self._survey = Survey()
        self._version = 0
        self._size = (80, 24)
        self._message, self._message_until = "", 0.0
        self._asked_parallel, self._asked_at = 0, 0.0
        self._shown: dict[str, int] = {"slot": 0, "fps": 0, "value": 0}

    # ---- what happens --------------------------------------------------------------------------------------

    def took(self, events: Sequence[ev.Event], view: RunView) -> None:
        """Events that are already part of the state."""
        if not events:
            return
        self._version += 1
        self._order.took(events, self._version)
        self._survey.took(events)
        message = message_of(events, view.state.total)
        if message:
            self.say(message, view.at)

    def replaced(self) -> None:
        """The state is another one now, not just a later one."""
        self._version += 1
        self._survey = Survey()
        self._order = JobOrder()
        self._sampler = Sampler(self._paths)
        self._log, self.ui = None, UiState()

    def say(self, message: str, now: float) -> None:
        """Show a message for a moment. `now`: `RunView.at`."""
        self._message, self._message_until = message, now + _MESSAGE_S

    def press(self, key: str, view: RunView) -> Outcome:
        """Act on a key. What concerns the terminal or the run is left to the caller."""
        if self.ui.page == "log" and self._log is not None and key not in ("ctrl-l", "ctrl-z"):
            if not self._log.press(key):
                self.ui, self._log = replace(self.ui, page="jobs"), None
            return Outcome(ui=self.ui)
        scene = self._scene(view)
        outcome = press(self.ui, key, scene)
        self.ui = outcome.ui
        if outcome.message:
            self.say(outcome.message, view.at)
        if self.ui.page == "log" and self._log is None and scene.job is not None:
            self._log = LogView(self._paths, scene.job)
        for request in outcome.requests:
            if request.action == "parallel":
                self._asked_parallel, self._asked_at = request.number, view.at
        return outcome

    def _scene(self, view: RunView) -> Scene:
        listed = self._listed(view.state)
        state = view.state
        # Several presses in a row count from what was asked for last: the run may not have obeyed yet.
        recent = view.at - self._asked_at < _RECENT_PRESS_S
        text_page = self.ui.page in ("help", "failures", "messages")
        return Scene(
            mode=self._mode,
            alive=self.life in ("live", "unknown"),
            listed=listed,
            row=self._row(listed),
            page_rows=max(1, self._size[1] - 2) if text_page else self._layout(view, len(listed)).jobs,
            metrics=tuple(self._sampler.metrics),
            metric=self.metric,
            paused=state.paused,
            parallel=self._asked_parallel if recent else state.max_parallel,
            text_lines=len(self._text(view)[1]) if text_page else 0,
        )

    @property
    def metric(self) -> str:
        """The metric that is shown."""
        return self.ui.metric or self._sampler.metric

    # ---- what is shown -------------------------------------------------------------------------------------

    def frame(self, view: RunView, columns: int, rows: int) -> list[Line]:
        """The screen as it should look now: `rows` lines, none wider than `columns`."""
        self._size = (columns, rows)
        self._survey.look(view.state)
        if columns < MIN_COLUMNS or rows < MIN_ROWS:
            return tiny_line(self._header(view), columns, rows, self._glyphs)
        if self.ui.page == "log" and self._log is not None:
            record = view.state.jobs.get(self._log.job)
            if record is not None:
                return self._log.lines(record, view.now, columns, rows, self._glyphs)
        if self.ui.page in ("help", "failures", "messages"):
            title, body = self._text(view)
            back = [("esc", "back")]
            return render.text_page(title, body, self.ui.scroll, back, columns, rows, self._glyphs)
        return self._jobs_page(view, columns, rows)

    def _jobs_page(self, view: RunView, columns: int, rows: int) -> list[Line]:
        state, ui = view.state, self.ui
        listed = self._listed(state)
        layout = self._layout(view, len(listed))
        row = self._row(listed)
        top = window(layout.jobs, len(listed), ui.top, row)
        self.ui = ui = replace(ui, top=top)
        visible = listed[top : top + layout.jobs]
        metric = self.metric
        self._sampler.look(state, visible, view.at, metric=metric, courses=columns >= 90)
        job_rows = make_rows(
            listed, top, layout.jobs, row, view.now, metric, self._sampler.progress, self._sampler.course
        )
        selected = listed[row] if row < len(listed) else None
        title, log = self._log_panel(selected, layout.log, view.now) if layout.log else ("", ())
        screen = render.JobsScreen(
            header=self._header(view),
            alert=self._alert(view),
            machine=self._machine.read(view.at) if layout.machine else None,
            gpus=self._gpu_rows(view),
            columns=self._columns(job_rows, columns),
            rows=job_rows,
            position=self._position(top, len(job_rows), len(listed), state.total),
            sorted_by=ui.sort,
            metric=metric,
            empty="no experiment matches the filter (esc drops it)" if state.total else "no experiments yet",
            log_title=title,
            log=log,
            keys=pages.footer_keys(
                self._mode, alive=self.life in ("live", "unknown"), sort=ui.sort, paused=state.paused
            ),
            prompt=ui.filter if ui.typing else None,
            dialog=self._dialog(state),
        )
        return render.jobs_page(screen, layout, self._glyphs)

    def _alert(self, view: RunView) -> Alert | None:
        message = self._message if view.at < self._message_until else ""
        return make_alert(view, self.life, message, self._survey.failures, own=self._mode == "runner")

    def _dialog(self, state: RunState) -> tuple[Line, ...]:
        if self.ui.dialog is None:
            return ()
        running = state.count("Submitted", "Running", "Stopping")
        return tuple(pages.dialog_lines(self.ui.dialog, running=running, waiting=state.count("Waiting")))

    def _text(self, view: RunView) -> tuple[str, list[Line]]:
        """Title and lines of the page of text that is shown."""
        if self.ui.page == "help":
            title, lines = "help", pages.help_lines(self._mode)
        elif self.ui.page == "failures":
            title, lines = f"failures of {view.state.run_name}", pages.failure_lines(view.state, self._paths)
        else:
            title, lines = f"messages of {view.state.run_name}", pages.message_lines(view.state)
        return title, [part for line in lines for part in wrap(line, self._size[0])]

    def _header(self, view: RunView) -> Header:
        state = view.state
        return make_header(
            state,
            view.now,
            left=self._estimate(view),
            running_done=self._sampler.done_fraction(state),
            fps=self._sampler.fps(state),
            retrying=self._survey.retrying,
            life=self.life,
        )

    def _estimate(self, view: RunView) -> Estimate | None:
        if self.life not in ("live", "unknown") or view.state.draining is not None:
            return None
        return estimate(view.state, view.now, self._sampler.etas_s(view.state))

    def _log_panel(self, record: JobRecord | None, lines: int, now: float) -> tuple[str, tuple[str, ...]]:
        if record is None:
            return "", ()
        if not record.attempts:
            return f"{short_name(record.job_id)}  not started yet", (shlex.join(record.argv),)
        text = self._tail.read(self._paths.job(record.job_id).attempt_log(record.attempts), lines)
        title = render.log_panel_title(short_name(record.job_id), record.attempts, record.attempts, text, now)
        return title, text.lines

    # ---- the list ------------------------------------------------------------------------------------------

    def _listed(self, state: RunState) -> list[JobRecord]:
        if self.ui.sort in ("progress", "fps", "metric"):
            self._sampler.look_at_all(state.jobs.values(), steady_s(), at_most=_SAMPLES_PER_FRAME)
        return self._order.listed(state, self._version, self.ui, self._sampler, self.metric)

    def _row(self, listed: Sequence[JobRecord]) -> int:
        """Where the cursor is; follows the pinned job, unless it went to another part of the list."""
        pin = self.ui.pin
        if pin is None or not listed:
            return 0
        row = self._order.row_of(pin.job, pin.row)
        if row is None or (self.ui.sort == "state" and group_of(listed[row]) != pin.group):
            row = min(pin.row, len(listed) - 1)
        record = listed[row]
        self.ui = replace(self.ui, pin=Pin(job=record.job_id, group=group_of(record), row=row))
        return row

    def _columns(self, rows: Sequence[JobRow], columns: int) -> Columns:
        """A column stays once there was something in it: a list that jumps about cannot be read."""
        shown = self._shown
        shown["slot"] = max(shown["slot"], *(len(row.slot) for row in rows), 0)
        shown["fps"] |= any(row.fps for row in rows)
        shown["value"] |= any(row.value is not None for row in rows)
        return make_columns(
            columns,
            name=max(_LEAST_NAME, self._survey.longest_name),
            slot=shown["slot"],
            attempts=self._survey.attempts,
            fps=bool(shown["fps"]),
            value=bool(shown["value"]),
        )

    def _position(self, top: int, shown: int, listed: int, total: int) -> str:
        ui = self.ui
        asked = ", ".join(part for part in (ui.show, f"'{ui.filter}'" if ui.filter else "") if part)
        what = f"{listed} of {total} ({asked})" if asked else str(total)
        return f"{top + 1}-{top + shown} of {what}" if shown < listed else what

    # ---- the machine ---------------------------------------------------------------------------------------

    def _here(self, state: RunState) -> bool:
        """Whether the run's jobs run on this machine."""
        if self._local is None and state.opened is not None:
            self._local = is_here(state)
        return bool(self._local) and self.life in ("live", "unknown")

    def _gpu_rows(self, view: RunView) -> tuple[GpuRow, ...]:
        if not view.gpus.gpus or not self._here(view.state):
            return ()
        return self._gpus.rows(view.gpus, view.state, self._version)

    def _layout(self, view: RunView, listed: int) -> Layout:
        here = self._here(view.state)
        gpus = len(view.gpus.gpus) if here else 0
        columns, rows = self._size
        return make_layout(columns, rows, gpus=gpus, machine=here, jobs=max(listed, 1))
