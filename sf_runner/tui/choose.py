"""Which screen a run gets: `--ui` and what the terminal can do."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from sf_runner.basics.paths import RunPaths
from sf_runner.engine.screen import Screen
from sf_runner.linux.terminal_state import SavedTerminal, in_foreground
from sf_runner.tui.plain import PlainScreen, SilentScreen
from sf_runner.tui.theme import choose_theme, is_dumb
from sf_runner.tui.ui_state import Mode


def why_not_rich(terminal: SavedTerminal | None, environ: Mapping[str, str], *, asked: bool, background: bool) -> str:
    """Why there is no full-screen UI; empty when there can be one. `asked`: somebody wants it by name."""
    if terminal is None:
        return "standard input and output are no terminal"
    if is_dumb(environ):
        return f"the terminal cannot move its cursor (TERM={environ.get('TERM', '')})"
    if environ.get("CI", "").lower() not in ("", "0", "false") and not asked:
        return "CI is set"
    if background and not asked:
        return "the command was started in the background"
    return ""


def make_screen(ui: str, run_paths: RunPaths, *, every_s: float, leader_pid: int, mode: Mode = "runner") -> Screen:
    """`ui`: auto, rich, plain or none. `leader_pid`: the process the shell waits for."""
    if ui == "none":
        return SilentScreen()
    if ui != "plain":
        terminal = SavedTerminal.save()
        background = not in_foreground(leader_pid)
        why = why_not_rich(terminal, os.environ, asked=ui == "rich", background=background)
        if not why and terminal is not None:
            # Only now: the plain screen does without the libraries behind this.
            from sf_runner.tui.live import LiveScreen
            from sf_runner.tui.terminal import Terminal

            theme = choose_theme(encoding=sys.stdout.encoding or "ascii")
            return LiveScreen(run_paths, Terminal(terminal), theme, mode=mode, leader_pid=leader_pid)
        if ui == "rich":
            print(f"--ui=rich: {why}; showing plain lines", file=sys.stderr)
    return PlainScreen(run_paths, every_s=every_s)
