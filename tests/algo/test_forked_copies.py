"""A copy of a process that waits for its settings: every case in a process of its own, for the test's has threads."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sf_algo import testing
from sf_algo.processes.copies import ForkedCopy
from tests.algo.training_command import FORK_SETTINGS, TrainingCommand

pytestmark = pytest.mark.skipif(not ForkedCopy.possible(), reason="processes are copied on Linux only")

SCRIPT = (
    FORK_SETTINGS
    + """
import json, os, signal, sys, time
from sf_algo import testing
from sf_algo.processes.copies import ForkedCopy

def body(text, fds):
    names = json.loads(text)
    os.write(fds[names["out"]], os.read(fds[names["source"]], 100).upper())
    return 7

forked_copy = ForkedCopy(body)
"""
)


def run(code: str, *, wait: bool = True) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", SCRIPT + code], stdout=subprocess.PIPE, text=True)
    if wait:
        process.wait(30)
    return process


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    with process.stdout as out:
        return out.read()


def test_it_runs_its_body_with_descriptors_made_after_it() -> None:
    process = run(
        """
source, other = os.pipe()
answer, out = os.pipe()
settings = Settings(source=source, out=out)
assert forked_copy.can_become(settings) and forked_copy.poll() is None
forked_copy.become(settings)
os.write(other, b"hello")
assert os.read(answer, 100) == b"HELLO"
assert forked_copy.wait(20) == forked_copy.poll() == 7
assert not forked_copy.can_become(settings)
print("done")
"""
    )
    assert (said(process), process.returncode) == ("done\n", 0)


def test_one_that_is_not_wanted_ends() -> None:
    process = run("forked_copy.let_go(); print(forked_copy.poll())")
    assert (said(process), process.returncode) == ("0\n", 0)


def test_one_that_was_killed_cannot_be_used() -> None:
    process = run(
        "os.kill(forked_copy.pid, signal.SIGKILL); print(forked_copy.wait(20), forked_copy.can_become(Settings()))"
    )
    assert (said(process), process.returncode) == ("-9 False\n", 0)


def test_it_ends_with_the_process_that_made_it() -> None:
    process = run("print(forked_copy.pid, flush=True); time.sleep(60)", wait=False)
    assert process.stdout is not None
    gone = os.pidfd_open(int(process.stdout.readline()))
    process.send_signal(signal.SIGINT)  # for the group of the command, as from a terminal: it is in its own
    process.kill()
    process.wait()
    assert select.select([gone], [], [], 20)[0]
    os.close(gone)


def test_a_command_that_cannot_begin_leaves_no_process_behind() -> None:
    """Nor a zombie, where it was called as a function."""
    process = run(
        """
from sf_algo.train_appo import main
forked_copy.let_go()
assert main(["--algo=APPO", "--env=CartPole-v7", "--experiment=e", "--serial_mode=False", "--num_workers=2"]) != 0
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("nobody")
"""
    )
    assert said(process) == "nobody\n"


def test_a_training_goes_on_without_it(tmp_path: Path) -> None:
    """Killed before it got its settings: then a new process learns."""
    flags = ("--env=sf_algo.testing:make_slow", "--use_rnn=False", "--hidden_size=16", "--async_rl=True")
    sizes = ("--num_workers=1", "--num_envs_per_worker=4", "--rollout=8", "--batch_size=32")
    places = (f"--train_dir={tmp_path}", "--experiment=e", "--device=cpu", "--train_for_env_steps=64")
    with TrainingCommand(*flags, *sizes, *places, env={testing.START_SECONDS_VARIABLE: "1"}) as training:
        pids: list[int] = []
        while len(pids) < 2:
            pids = training.pids("sf_algo.train_appo")
            assert training.process.poll() is None, training.text
        os.kill(next(pid for pid in pids if pid != training.process.pid), signal.SIGKILL)
        assert training.finish() == 0
        training.wait_until_nothing_is_left()
