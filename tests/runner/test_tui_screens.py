"""Golden screens: every state of a run and every page, at every size. UPDATE_GOLDEN=1 writes them anew."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sf_runner.basics.paths import RunPaths
from sf_runner.engine.screen import RunView
from sf_runner.state import events as ev
from sf_runner.tui.app import App
from sf_runner.tui.text import line_width
from tests.runner import tui_runs as runs
from tests.runner.tui_runs import NOW, make_app, middle, middle_files, name_of, screen_text, view_of

GOLDEN = Path(__file__).parents[1] / "golden" / "screens"
SIZES = ((80, 24), (120, 40), (200, 60), (40, 10))
NOTE = ev.Note(t=NOW - 5, text="its GPU was lost; it is started again elsewhere", job=name_of(5))
Scene = Callable[[RunPaths], tuple[App, RunView]]


def _scene(events: list[ev.Event], *, files: bool = False, **more: object) -> Scene:
    def build(paths: RunPaths) -> tuple[App, RunView]:
        if files:
            middle_files(paths)
        return make_app(paths), view_of(events, **more)

    return build


def _pressed(keys: str, *, size: tuple[int, int] = (80, 24), **more: object) -> Scene:
    """The run in the middle of things after some keys, each given by name."""

    def build(paths: RunPaths) -> tuple[App, RunView]:
        app, view = _scene(middle(), files=True, **more)(paths)
        app.frame(view, *size)
        for key in keys.split():
            app.press(key, view)
        return app, view

    return build


def _watching(events: list[ev.Event], life: str, *, files: bool = False) -> Scene:
    def build(paths: RunPaths) -> tuple[App, RunView]:
        if files:
            middle_files(paths)
        app = make_app(paths, mode="watch")
        app.life = life  # type: ignore[assignment]
        return app, view_of(events)

    return build


def _ascii(paths: RunPaths) -> tuple[App, RunView]:
    middle_files(paths)
    return make_app(paths, unicode=False), view_of(middle())


def _huge(paths: RunPaths) -> tuple[App, RunView]:
    entries = [
        {"id": f"grid_/{n:05}_grid", "index": n, "rank": float(n), "fp": "", "config": ""} for n in range(10_000)
    ]
    events = [*runs.opening()[:2], ev.JobsPlanned(t=NOW - 900, jobs=entries)]
    app, view = make_app(paths), view_of(events)
    app.press("end", view)
    return app, view


SCENES: dict[str, Scene] = {
    "all_waiting": _scene(runs.opening(NOW - 1), hold="no GPU has 6144 MB of memory left"),
    "in_the_middle": _scene(middle(), files=True),
    "on_gpus": _scene(middle(gpus=True), files=True, gpus=runs.four_gpus()),
    "warning": _scene([*middle(), NOTE], files=True),
    "paused": _scene([*middle(), ev.PaceChanged(t=NOW - 20, paused=True)], files=True),
    "draining": _scene([*middle(), ev.RunDraining(t=NOW - 2, reason="interrupted")], files=True),
    "disk_full": _scene(middle(), files=True, trouble="cannot write journal.jsonl: No space left on device"),
    "finished": _watching(runs.finished(failed=False), "finished"),
    "finished_with_failures": _watching(runs.finished(failed=True), "finished"),
    "runner_gone": _watching(middle(), "gone", files=True),
    "ascii": _ascii,
    "ten_thousand": _huge,
}
PAGES: dict[str, Scene] = {
    "cursor_moved": _pressed("down down j"),
    "filter_typed": _pressed("/ 0 . 0 0 1 space ! 2 2 2 2"),
    "only_failed": _pressed("f f"),
    "sorted_by_metric": _pressed("s s s s s"),
    "nothing_matches": _pressed("/ x x x enter"),
    "ask_cancel": _pressed("c"),
    "ask_quit": _pressed("q"),
    "cannot_retry": _pressed("r"),
    "log": _pressed("enter"),
    "log_scrolled": _pressed("enter home down"),
    "help": _pressed("?"),
    "help_scrolled": _pressed("? pagedown"),
    "failures": _pressed("e"),
    "messages": _scene([*middle(), NOTE], files=True),
}


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.chdir(tmp_path)


def check(name: str, shown: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(shown, encoding="utf-8")
    assert shown == path.read_text(encoding="utf-8"), f"{path} differs; look at it, then UPDATE_GOLDEN=1"


def render(scene: Scene, sizes: tuple[tuple[int, int], ...]) -> str:
    paths = RunPaths(train_dir=Path("train_dir"), run_name="walker_study")
    app, view = scene(paths)
    if scene is PAGES["messages"]:
        app.press("n", view)
    shown = ""
    for columns, rows in sizes:
        lines = app.frame(view, columns, rows)
        assert len(lines) == rows
        assert max(map(line_width, lines)) <= columns
        lines = app.frame(view, columns, rows)  # columns that appeared with what was found are settled now
        assert max(map(line_width, lines)) <= columns
        shown += f"=== {columns} x {rows}\n{screen_text(app, view, columns, rows)}"
    return shown


@pytest.fixture(autouse=True)
def _processes_of_the_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sf_runner.tui.machine.owner_of", runs.owned_by_its_leader)


@pytest.mark.parametrize("name", SCENES)
def test_every_state_of_a_run(name: str) -> None:
    check(name, render(SCENES[name], SIZES))


@pytest.mark.parametrize("name", PAGES)
def test_every_page(name: str) -> None:
    check(name, render(PAGES[name], ((80, 24), (120, 40))))


@pytest.mark.parametrize("size", [(1, 1), (10, 3), (23, 4), (24, 5), (30, 6), (59, 7), (60, 8), (79, 15), (500, 120)])
@pytest.mark.parametrize("name", ["in_the_middle", "on_gpus", "finished_with_failures", "ascii"])
def test_no_size_breaks_it(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    app, view = SCENES[name](runs.run_paths(tmp_path))
    for key in ("", "c", "esc", "enter", "esc", "?", "esc", "/", "enter"):
        if key:
            app.press(key, view)
        lines = app.frame(view, *size)
        assert len(lines) == size[1]
        assert max(map(line_width, lines)) <= size[0]


def test_styles_tell_the_states(tmp_path: Path) -> None:
    app, view = SCENES["in_the_middle"](runs.run_paths(tmp_path))
    lines = app.frame(view, 120, 40)
    style_of = {
        text.split()[1]: style for line in lines for text, style in line if text[:1] in "▶✗↻·✓◼" and " " in text
    }
    assert style_of["failed"] == "failed"
    assert style_of["retrying"] == "retrying"
    assert style_of["waiting"] == "waiting"
    selected = [line for line in lines if line and all(style.startswith("sel:") for _, style in line)]
    assert len(selected) == 1
    assert line_width(selected[0]) == 120
