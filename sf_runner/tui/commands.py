"""What keys do: (what is looked at, key) -> what to look at next, and requests to the run. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sf_runner.basics.requests import Action, Request
from sf_runner.state.jobs import ACTIVE, Cancelled, Failed, JobRecord, Waiting
from sf_runner.tui.keys import PASTE
from sf_runner.tui.ui_state import SHOWS, SORTS, Dialog, Mode, Page, Pin, UiState, group_of

_MAX_FILTER = 200
_DEAD = "no runner is at work on this run; give its command again to go on with it"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What keys act upon. `row`: where the cursor is; `page_rows`: rows of the list; `alive`: somebody is there who
    obeys; `parallel`: experiments side by side, as last asked for."""

    mode: Mode
    alive: bool
    listed: Sequence[JobRecord]
    row: int
    page_rows: int
    metrics: Sequence[str]
    metric: str
    paused: bool
    parallel: int
    text_lines: int = 0
    """Lines of the page of text that is shown."""

    @property
    def job(self) -> JobRecord | None:
        return self.listed[self.row] if 0 <= self.row < len(self.listed) else None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What follows from a key. `message`: to be shown for a moment; `leave`: the watcher wants to go."""

    ui: UiState
    requests: tuple[Request, ...] = ()
    message: str = ""
    leave: bool = False
    suspend: bool = False
    redraw: bool = False


Command = Callable[[UiState, Scene], Outcome]


def press(ui: UiState, key: str, scene: Scene) -> Outcome:
    """Any page but the log, whose keys move through a file."""
    if key == "ctrl-l":
        return Outcome(ui=ui, redraw=True)
    if key == "ctrl-z":
        return Outcome(ui=ui, suspend=True)
    if ui.typing:
        return Outcome(ui=_type(ui, key))
    if key.startswith(PASTE):
        return Outcome(ui=ui, message="pasted text is ignored here")
    if ui.dialog is not None:
        return _answer(ui, ui.dialog, key)
    if ui.page in ("help", "failures", "messages"):
        return Outcome(ui=_read_on(ui, key, scene))
    if key in _MOVES:
        return Outcome(ui=move_to(ui, scene, _MOVES[key](scene)))
    command = _COMMANDS.get(key)
    return command(ui, scene) if command is not None else Outcome(ui=ui)


def move_to(ui: UiState, scene: Scene, row: int) -> UiState:
    """Put the cursor on a row; the first one, reached from below, is where it stays whatever is there."""
    if not scene.listed:
        return ui
    row = max(0, min(row, len(scene.listed) - 1))
    if row == 0:
        return replace(ui, pin=None)
    record = scene.listed[row]
    return replace(ui, pin=Pin(job=record.job_id, group=group_of(record), row=row))


_MOVES: Mapping[str, Callable[[Scene], int]] = {
    "up": lambda s: s.row - 1,
    "k": lambda s: s.row - 1,
    "down": lambda s: s.row + 1,
    "j": lambda s: s.row + 1,
    "pageup": lambda s: s.row - max(1, s.page_rows - 1),
    "pagedown": lambda s: s.row + max(1, s.page_rows - 1),
    "space": lambda s: s.row + max(1, s.page_rows - 1),
    "home": lambda s: 0,
    "g": lambda s: 0,
    "end": lambda s: len(s.listed) - 1,
    "G": lambda s: len(s.listed) - 1,
}


# ---- pages, filter, sorting ----------------------------------------------------------------------------------


def _read_on(ui: UiState, key: str, scene: Scene) -> UiState:
    if key in ("esc", "q", "enter", "?", "e", "n", "f1"):
        return replace(ui, page="jobs", scroll=0)
    room = max(1, scene.page_rows)
    last = max(0, scene.text_lines - room)
    steps = {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -room, "b": -room, "pagedown": room, "space": room}
    if key in ("home", "g"):
        return replace(ui, scroll=0)
    if key in ("end", "G"):
        return replace(ui, scroll=last)
    return replace(ui, scroll=max(0, min(ui.scroll + steps.get(key, 0), last)))


def _type(ui: UiState, key: str) -> UiState:
    if key == "enter":
        return replace(ui, typing=False)
    if key == "esc":
        return replace(ui, typing=False, filter=ui.typed_over)
    text = ui.filter
    if key == "backspace":
        text = text[:-1]
    elif key == "ctrl-u":
        text = ""
    elif key == "ctrl-w":
        text = text.rstrip().rpartition(" ")[0]
    elif key.startswith(PASTE):
        text += " ".join("".join(c if c.isprintable() else " " for c in key[len(PASTE) :]).split())
    elif key == "space":
        text += " "
    elif len(key) == 1:
        text += key
    return replace(ui, filter=text[:_MAX_FILTER], top=0, pin=None)


def _filter(ui: UiState, scene: Scene) -> Outcome:
    return Outcome(ui=replace(ui, typing=True, typed_over=ui.filter))


def _drop_filter(ui: UiState, scene: Scene) -> Outcome:
    return Outcome(ui=replace(ui, filter="", show=""))


def _show_next(ui: UiState, scene: Scene) -> Outcome:
    show = SHOWS[(SHOWS.index(ui.show) + 1) % len(SHOWS)]
    return Outcome(ui=replace(ui, show=show, top=0, pin=None), message=f"showing {show or 'all'} experiments")


def _sort_next(ui: UiState, scene: Scene) -> Outcome:
    sort = SORTS[(SORTS.index(ui.sort) + 1) % len(SORTS)]
    if sort == "metric" and not scene.metric:
        sort = SORTS[0]
    by = scene.metric if sort == "metric" else sort
    return Outcome(ui=replace(ui, sort=sort, reverse=False, pin=None, top=0), message=f"sorted by {by}")


def _reverse(ui: UiState, scene: Scene) -> Outcome:
    return Outcome(ui=replace(ui, reverse=not ui.reverse, pin=None, top=0), message="order turned round")


def _metric_next(ui: UiState, scene: Scene) -> Outcome:
    if not scene.metrics:
        return Outcome(ui=ui, message="no experiment has reported a metric yet")
    at = scene.metrics.index(scene.metric) if scene.metric in scene.metrics else -1
    name = scene.metrics[(at + 1) % len(scene.metrics)]
    return Outcome(ui=replace(ui, metric=name), message=f"showing {name}")


def _open_log(ui: UiState, scene: Scene) -> Outcome:
    if scene.job is None:
        return Outcome(ui=ui)
    if not scene.job.attempts:
        return Outcome(ui=ui, message="it has not started yet; it has no log")
    return Outcome(ui=replace(ui, page="log"))


# ---- steering --------------------------------------------------------------------------------------------------


def _cancel(ui: UiState, scene: Scene) -> Outcome:
    return _ask(ui, scene, "cancel", [scene.job] if scene.job else [], "it has already ended")


def _cancel_all(ui: UiState, scene: Scene) -> Outcome:
    if not (ui.filter or ui.show):
        return Outcome(ui=ui, message="C cancels what a filter leaves: set one first (/ or f)")
    return _ask(ui, scene, "cancel", scene.listed, "all of them have already ended")


def _retry(ui: UiState, scene: Scene) -> Outcome:
    outcome = _ask(ui, scene, "retry", [scene.job] if scene.job else [], "it neither failed nor was it cancelled")
    if outcome.ui.dialog is None:
        return outcome
    return _answer(outcome.ui, outcome.ui.dialog, "y")  # harmless: no question is needed for one


def _retry_all(ui: UiState, scene: Scene) -> Outcome:
    return _ask(ui, scene, "retry", scene.listed, "none of them failed or was cancelled")


def _ask(
    ui: UiState, scene: Scene, kind: Literal["cancel", "retry"], records: Sequence[JobRecord], why_not: str
) -> Outcome:
    if not scene.alive:
        return Outcome(ui=ui, message=_DEAD)
    states = (*ACTIVE, Waiting) if kind == "cancel" else (Failed, Cancelled)
    jobs = tuple(record.job_id for record in records if isinstance(record.state, states))
    if not jobs:
        return Outcome(ui=ui, message=why_not)
    return Outcome(ui=replace(ui, dialog=Dialog(kind=kind, jobs=jobs)))


def _pause(ui: UiState, scene: Scene) -> Outcome:
    if not scene.alive:
        return Outcome(ui=ui, message=_DEAD)
    return Outcome(ui=ui, requests=(Request(action="resume" if scene.paused else "pause"),))


def _parallel(change: int) -> Command:
    def command(ui: UiState, scene: Scene) -> Outcome:
        if not scene.alive:
            return Outcome(ui=ui, message=_DEAD)
        number = scene.parallel + change
        if number < 1:
            return Outcome(ui=ui, message="at least one at a time; p pauses")
        return Outcome(ui=ui, requests=(Request(action="parallel", number=number),))

    return command


def _leave(kind: Literal["quit", "detach"]) -> Command:
    def command(ui: UiState, scene: Scene) -> Outcome:
        if scene.mode == "watch":
            return Outcome(ui=ui, leave=True)
        return Outcome(ui=replace(ui, dialog=Dialog(kind=kind)))

    return command


_ANSWERS: Mapping[tuple[str, str], Action] = {
    ("cancel", "y"): "cancel",
    ("cancel", "k"): "kill",
    ("retry", "y"): "retry",
    ("detach", "y"): "detach",
    ("quit", "d"): "detach",
    ("quit", "w"): "drain",
    ("quit", "s"): "stop",
}


def _answer(ui: UiState, dialog: Dialog, key: str) -> Outcome:
    """Only the keys the question names do something; any other one closes it."""
    action = _ANSWERS.get((dialog.kind, key))
    requests = (Request(action=action, jobs=dialog.jobs),) if action is not None else ()
    return Outcome(ui=replace(ui, dialog=None), requests=requests)


def _page(name: Page) -> Command:
    return lambda ui, scene: Outcome(ui=replace(ui, page=name, scroll=0))


_COMMANDS: Mapping[str, Command] = {
    "enter": _open_log,
    "l": _open_log,
    "right": _open_log,
    "c": _cancel,
    "C": _cancel_all,
    "r": _retry,
    "R": _retry_all,
    "p": _pause,
    "+": _parallel(1),
    "=": _parallel(1),
    "-": _parallel(-1),
    "s": _sort_next,
    "S": _reverse,
    "/": _filter,
    "f": _show_next,
    "m": _metric_next,
    "e": _page("failures"),
    "n": _page("messages"),
    "?": _page("help"),
    "f1": _page("help"),
    "esc": _drop_filter,
    "d": _leave("detach"),
    "q": _leave("quit"),
}
