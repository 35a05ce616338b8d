"""The process that forks rollout workers: every case in a process of its own, for the test's has threads."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sf_algo.processes.copies import ForkedCopy
from tests.algo.training_command import FORK_SETTINGS, TrainingCommand

pytestmark = pytest.mark.skipif(not ForkedCopy.possible(), reason="processes are forked on Linux only")

SCRIPT = (
    FORK_SETTINGS
    + """
import json, os, signal, sys, threading, time
from sf_algo.processes.copies import ForkedCopy
from sf_algo.processes.fork_server import ForkServer

word = ["unset"]

def body(text, fds):
    names = json.loads(text)
    said = os.read(fds[names["source"]], 100)
    os.write(fds[names["out"]], said.upper() + word[0].encode())
    return 7

word[0] = "!"  # what the program has made before the server is forked
server = ForkServer(body, [ForkedCopy(body)])
word[0] = "later"
source, other = os.pipe()
answer, out = os.pipe()
settings = Settings(source=source, out=out)
"""
)


def run(code: str) -> tuple[str, int]:
    done = subprocess.run([sys.executable, "-c", SCRIPT + code], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr, done.returncode


def test_children_one_after_the_other_and_at_once() -> None:
    code = """
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
first, second = server.start(settings), server.start(settings)
assert first.poll() is None and first.wait(0.05) is None
os.write(other, b"hello")
assert os.read(answer, 100) == b"HELLO!"
while first.poll() is None and second.poll() is None: time.sleep(0.01)
ended, running = (first, second) if first.poll() is not None else (second, first)
assert ended.poll() == 7 and running.poll() is None
os.kill(running.pid, signal.SIGKILL)
assert running.wait(20) == -9
third = server.start(settings)
os.write(other, b"again")
assert third.wait() == 7
server.close(); server.close()
print("done")
"""
    assert run(code) == ("done\n", 0)


def test_a_server_that_is_gone() -> None:
    """A child that it has forked is still seen to end; another one cannot be had."""
    code = """
child = server.start(settings)
os.kill(server.pid, signal.SIGKILL)
os.waitpid(server.pid, 0)
assert child.wait(0.2) is None
os.write(other, b"hello")
assert child.wait(20) == 1
try:
    server.start(settings)
except OSError as error:
    print("refused")
server.close()
"""
    assert run(code) == ("refused\n", 0)


def test_it_ends_with_the_process_that_made_it() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT + "print(server.pid, flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        gone = os.pidfd_open(int(process.stdout.readline()))
        process.kill()
    assert select.select([gone], [], [], 20)[0]
    os.close(gone)


ORPHANS = """
word = int(sys.argv[1])

def wait_for_word(text, fds):
    os.read(word, 1)
    return 0

def clean_up():
    print("cleaned up", flush=True)

copy = ForkedCopy(wait_for_word)
server = ForkServer(wait_for_word, [copy], clean_up)
copy.become(settings)
child = server.start(settings)
print(server.pid, flush=True)
"""


def test_who_is_left_when_the_main_process_is_killed_is_awaited_and_cleaned_up_after() -> None:
    heard, said = os.pipe()
    code = SCRIPT + ORPHANS + "time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(heard)], stdout=subprocess.PIPE, text=True, pass_fds=[heard]
    )
    os.close(heard)
    with process:
        assert process.stdout is not None
        gone = os.pidfd_open(int(process.stdout.readline()))
        process.kill()
        process.wait()
        assert not select.select([process.stdout, gone], [], [], 0.5)[0], "a copy and a child are at work"
        os.close(said)
        assert process.stdout.readline() == "cleaned up\n"
        assert select.select([gone], [], [], 20)[0]
        os.close(gone)


def test_who_closes_the_server_cleans_up_by_himself() -> None:
    heard, said = os.pipe()
    code = SCRIPT + ORPHANS + "server.close(); print('closed')"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(heard)], stdout=subprocess.PIPE, text=True, pass_fds=[heard]
    ) as process:
        os.close(heard)
        assert process.wait(20) == 0
        os.close(said)
        assert process.stdout is not None
        assert process.stdout.read().splitlines()[1:] == ["closed"]


PROGRAM = """
import sys
from sf_algo import testing, train_appo
from sf_algo.own.additions import Additions

def make_here(delay=2):
    return testing.MemoryEnv(delay=delay)

def build(delay):
    made = {"delay": delay}
    return lambda: testing.MemoryEnv(**made)

if __name__ == "__main__":
    sys.exit(train_appo.main(additions=Additions(envs={"closure": build(3)})))
"""


@pytest.mark.parametrize("env", ["__main__:make_here", "closure"])
def test_makers_without_an_import_path_are_found_by_workers_that_replace_others(tmp_path: Path, env: str) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    sizes = ("--num_workers=2", "--num_envs_per_worker=4", "--rollout=8", "--batch_size=64", "--hidden_size=16")
    places = (f"--train_dir={tmp_path}", "--experiment=e", "--device=cpu", "--train_for_seconds=60")
    flags = (f"--env={env}", *sizes, *places, "--status_interval=0.2", "--serial_mode=False")
    with TrainingCommand(*flags, program=[str(script)], cwd=tmp_path) as training:
        training.wait_for(r"frames \(|frames \|")
        for _ in range(2):  # the second one was forked by the server
            os.kill(training.pids("sf_worker")[0], signal.SIGKILL)
            training.wait_for("killed by SIGKILL.*it is started again")
            training.wait_for("frames")
        training.process.send_signal(signal.SIGINT)
        assert training.finish() == 130, training.text
        assert "error" not in training.text
        training.wait_until_nothing_is_left()


APP = """
import sys
from sf_algo import App, testing

delay = [2]
app = App(envs={"mine": lambda size=1: testing.MemoryEnv(delay=delay[0] * size)})
delay[0] = 3  # what stands here when processes are forked

if __name__ == "__main__":
    sys.exit(app.main())
"""


@pytest.mark.slow
def test_an_app_that_no_path_leads_to(tmp_path: Path) -> None:
    """Trained, watched and measured from its script alone, with a lambda as its maker."""
    (tmp_path / "program.py").write_text(APP)

    def run_app(*words: str) -> str:
        command = [sys.executable, "program.py", *words, "--experiment=e"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run_app("dummy", "--env=mine", "--size=2", "--num_workers=2", "--sample_env_frames=500")
    sizes = ("--num_workers=2", "--serial_mode=False", "--rollout=8", "--batch_size=64", "--hidden_size=16")
    run_app("train", "--env=mine", "--size=2", *sizes, "--train_for_env_steps=500")
    assert "2 episodes" in run_app("enjoy", "--no_render", "--max_num_episodes=2")
