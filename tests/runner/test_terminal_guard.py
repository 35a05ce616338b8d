"""Signals: the guard of a program with a full-screen UI, and those that come twice."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from sf_runner.linux import signals
from sf_runner.linux.signals import SignalInbox
from tests.runner.harness import ROOT

_PROGRAM = """
import os, signal
from sf_runner.linux import terminal_guard

class Terminal:
    def give_back(self, pid): pass

terminal_guard.SavedTerminal.save = staticmethod(Terminal)
wait, told = os.waitpid, []

def wait_and_be_told(pid, options):
    answer = wait(pid, options)
    os.kill = lambda pid, signum: told.append((pid, signum))
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.raise_signal(signum)  # the child's number may be anybody's by now
    return answer

os.waitpid = wait_and_be_told
print(terminal_guard.run_with_guard(lambda guard: 7), told)
"""


def test_a_signal_that_comes_when_the_program_has_ended_goes_to_nobody() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert (shown.stdout, shown.stderr) == ("7 []\n", "")


def test_term_that_comes_twice_at_once_is_one_and_ctrl_c_is_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who ends a tree of processes signals the runner, and so does its guardian."""
    now = 100.0
    monkeypatch.setattr(signals, "steady_s", lambda: now)
    with SignalInbox() as inbox:
        for signum in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGINT):
            signal.raise_signal(signum)
        assert inbox.take() == [signal.SIGTERM, signal.SIGINT, signal.SIGINT]
        now = 101.0
        signal.raise_signal(signal.SIGTERM)
        assert inbox.take() == [signal.SIGTERM]
