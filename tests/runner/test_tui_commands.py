"""Keys: what they ask of the run, what they leave alone, and where the cursor goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sf_runner.basics.paths import RunPaths
from sf_runner.basics.requests import Request
from sf_runner.engine.screen import RunView
from sf_runner.state import events as ev
from sf_runner.state.fold import RunState
from sf_runner.tui.app import App
from sf_runner.tui.pages import failure_lines
from tests.runner import tui_runs as runs
from tests.runner.builders import CAUSE, run_once, started_fresh
from tests.runner.tui_runs import NOW, make_app, middle, name_of, view_of


def press(app: App, view: RunView, keys: str) -> list[Request]:
    found: list[Request] = []
    for key in keys.split():
        found.extend(app.press(key, view).requests)
    return found


def selected(app: App, view: RunView) -> str:
    """The job under the cursor, as the screen shows it."""
    for line in app.frame(view, 100, 40):
        if line and line[0][1].startswith("sel:"):
            return next(text for text, _ in line if "walker" in text).strip()
    return ""


@pytest.fixture
def app(tmp_path: Path) -> App:
    return make_app(runs.run_paths(tmp_path))


@pytest.fixture
def view() -> RunView:
    return view_of(middle())


RUNNING, WAITING, FAILED, RETRYING, DONE = (name_of(number) for number in (5, 9, 3, 4, 2))


@pytest.mark.parametrize(
    ("keys", "requests"),
    [
        ("c y", [Request(action="cancel", jobs=(RUNNING,))]),
        ("c k", [Request(action="kill", jobs=(RUNNING,))]),
        ("c n", []),
        ("c esc", []),
        ("c c", []),
        ("p", [Request(action="pause")]),
        ("+", [Request(action="parallel", number=5)]),
        ("+ + -", [Request(action="parallel", number=number) for number in (5, 6, 5)]),
        ("- - - - -", [Request(action="parallel", number=number) for number in (3, 2, 1)]),
        ("r", []),
        ("q d", [Request(action="detach")]),
        ("q w", [Request(action="drain")]),
        ("q s", [Request(action="stop")]),
        ("q esc", []),
        ("q y", []),
        ("d y", [Request(action="detach")]),
        ("d n", []),
        ("C", []),
        ("paste:cyq", []),
        ("c paste:y", []),
        ("/ c y enter", []),
        ("/ 0 . 0 1 enter C y", [Request(action="cancel", jobs=tuple(map(name_of, (12, 13, 14))))]),
        ("f f R y", [Request(action="retry", jobs=(FAILED,))]),
        ("R y", [Request(action="retry", jobs=(FAILED,))]),
        ("f f r", [Request(action="retry", jobs=(FAILED,))]),
        ("f f c", []),
        ("? c y", []),
        ("enter c y q", []),
    ],
)
def test_what_keys_ask_of_the_run(app: App, view: RunView, keys: str, requests: Sequence[Request]) -> None:
    app.frame(view, 100, 30)
    assert press(app, view, keys) == list(requests)


@pytest.mark.parametrize("keys", ["c y", "r", "R", "p", "+", "f f r"])
def test_nothing_is_asked_of_a_run_without_a_runner(tmp_path: Path, view: RunView, keys: str) -> None:
    app = make_app(runs.run_paths(tmp_path), mode="watch")
    app.life = "gone"
    assert press(app, view, keys) == []


@pytest.mark.parametrize(("key", "leaves"), [("q", True), ("d", True), ("c", False), ("esc", False)])
def test_a_watcher_leaves_without_a_question(tmp_path: Path, view: RunView, key: str, leaves: bool) -> None:
    app = make_app(runs.run_paths(tmp_path), mode="watch")
    outcome = app.press(key, view)
    assert (outcome.leave, outcome.requests) == (leaves, ())


def test_paused_launching_goes_on_again(app: App) -> None:
    view = view_of([*middle(), ev.PaceChanged(t=NOW, paused=True)])
    assert press(app, view, "p") == [Request(action="resume")]


def test_presses_count_from_the_number_asked_for_until_the_run_has_obeyed(app: App, view: RunView) -> None:
    assert press(app, view, "+ +")[-1].number == 6
    later = replace(view, now=view.now + 60)
    assert press(app, later, "+")[-1].number == 5, "whatever was asked then, the run has four"


def test_moving_about(app: App, view: RunView) -> None:
    assert selected(app, view) == "05_walker_l.rat_0.0003_see_2222"
    for keys, job in (
        ("down", 6), ("j j", 8), ("up", 7), ("home", 5), ("end", 0), ("k", 1), ("g", 5), ("G", 0),
        ("pageup pageup", 5), ("up", 5),
    ):  # fmt: skip
        press(app, view, keys)
        assert selected(app, view) == name_of(job).rpartition("/")[2], keys


def _apply(view: RunView, *events: ev.Event) -> RunView:
    view.state.apply_all(events)
    return view


def test_the_cursor_stays_on_its_job_while_others_come_and_go(app: App, view: RunView) -> None:
    press(app, view, "down")
    end = runs.ended(5, NOW, 100.0)
    app.took([end], _apply(view, end))
    assert selected(app, view) == "06_walker_l.rat_0.001_see_0"


def test_the_cursor_stays_in_its_row_when_its_job_ends(app: App, view: RunView) -> None:
    press(app, view, "down")
    end = runs.ended(6, NOW, 100.0)
    app.took([end], _apply(view, end))
    assert selected(app, view) == "07_walker_l.rat_0.001_see_1111"


def test_the_cursor_that_was_never_moved_is_on_the_first_job(app: App, view: RunView) -> None:
    selected(app, view)
    end = runs.ended(5, NOW, 100.0)
    app.took([end], _apply(view, end))
    assert selected(app, view) == "06_walker_l.rat_0.001_see_0"


def test_messages_tell_what_happened(app: App, view: RunView) -> None:
    for events, told in (
        ([ev.PaceChanged(t=NOW, paused=True)], "launching paused"),
        ([ev.PaceChanged(t=NOW, max_parallel=7)], "at most 7 side by side from now on"),
        ([ev.JobCancelled(t=NOW, job=WAITING)], "09_walker_l.rat_0.003_see_0 cancelled"),
        ([ev.JobRequeued(t=NOW, job=FAILED)], "03_walker_l.rat_0.0003_see_0 will be tried again"),
        ([ev.StopRequested(t=NOW, job=RUNNING, attempt=1, reason="cancelled")], "told to end"),
    ):
        app.took(events, _apply(view, *events))
        text = runs.screen_text(app, view, 100, 30)
        assert told in text
    assert "told to end" not in runs.screen_text(app, replace(view, now=NOW + 6), 100, 30).splitlines()[4]


def test_another_journal_in_place_of_the_old_one(app: App, view: RunView) -> None:
    press(app, view, "end")
    press(app, view, "enter")  # the log of an experiment that the other run does not have
    app.frame(view, 100, 30)
    other = RunState()
    other.apply_all(runs.opening(jobs=2))
    app.replaced()
    text = runs.screen_text(app, replace(view, state=other), 100, 30)
    assert "2 experiments" in text
    assert "14_walker" not in text


def test_a_long_list_of_failures_is_cut() -> None:
    state, jobs = started_fresh(120)
    for job in jobs:
        run_once(state, job, "failed")
    paths = RunPaths(train_dir=Path("train"), run_name="study")
    first, *logs, last = ["".join(text for text, _ in line) for line in failure_lines(state, paths)]
    assert (first, last) == (f" 120 x {CAUSE.summary}", "     and 20 more")
    assert len(logs) == 100


def test_metrics_are_shown_in_turn(tmp_path: Path, view: RunView) -> None:
    paths = runs.run_paths(tmp_path)
    runs.middle_files(paths)
    app = make_app(paths)
    assert " reward" in runs.screen_text(app, view, 100, 30)
    press(app, view, "m")
    assert " loss" in runs.screen_text(app, view, 100, 30)
    press(app, view, "m")
    assert " reward" in runs.screen_text(app, view, 100, 30)
