"""The guardian: signals between two runners, a runner that cannot start again, who returns to the caller."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sf_runner.linux.kernel import started_up_s
from sf_runner.state.jobs import Running
from tests.runner.harness import ROOT, RunUnderTest, shell, wait_until

Make = Callable[..., RunUnderTest]
_PATIENCE_S = 60.0

CALLER = """
import os, signal, sys, time
from sf_runner.linux import guardian

def body(line):
{body}

{prepare}
try:
    code = guardian.run_guarded(body)
    print("returned", code, flush=True)
except SystemExit:
    print("unwound", flush=True)
finally:
    print("finally", flush=True)
sys.exit(code)
"""


def guarded(body: str, prepare: str = "") -> subprocess.CompletedProcess[str]:
    """A program that calls `run_guarded` with this body."""
    indented = "\n".join("    " + line for line in body.strip().splitlines())
    return subprocess.run(
        [sys.executable, "-c", CALLER.format(body=indented, prepare=prepare)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        start_new_session=True,
    )


@pytest.mark.parametrize(("end", "code"), [("return 7", 7), ("sys.exit(5)", 5), ("raise ValueError('boom')", 1)])
def test_only_the_guardian_goes_on_in_the_caller(end: str, code: int) -> None:
    done = guarded(f"import atexit; atexit.register(print, 'exit function', flush=True)\n{end}")
    assert done.stdout == f"exit function\nreturned {code}\nfinally\n"
    assert done.returncode == code
    assert ("boom" in done.stderr) == (code == 1)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_between_two_runners_reaches_the_next_one_once(name: str) -> None:
    body = f"""
if not line.restarted:
    os.kill(os.getpid(), signal.SIGKILL)
heard = []
signal.signal(signal.{name}, lambda *_: heard.append(1))
signal.pthread_sigmask(signal.SIG_UNBLOCK, guardian.PASSED_ON)
until = time.monotonic() + 20
while not heard and time.monotonic() < until:
    time.sleep(0.01)
time.sleep(0.3)
print("heard", len(heard), flush=True)
return 9
"""
    # When the guardian says that the runner was killed, nobody listens yet.
    prepare = f"guardian.tell = lambda text: os.kill(os.getpid(), signal.{name})"
    done = guarded(body, prepare)
    assert done.stdout == "heard 1\nreturned 9\nfinally\n", done.stderr
    assert done.returncode == 9


def test_a_guardian_whose_runner_cannot_start_again_can_be_ended(make: Make, tmp_path: Path) -> None:
    run = make(shell("a", "until test -e go; do sleep 0.02; done; echo a >> done"))
    process = run.start()
    run.wait_for("a", Running)
    pid = run.pid("a")
    description = run.folder / "description.py"
    text = description.read_text()
    description.write_text("1 / 0\n")
    os.kill(run.runner, signal.SIGKILL)
    wait_until("the guardian to say what it does", lambda: "waiting for experiments" in run.printed())
    assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(_PATIENCE_S) == -signal.SIGINT
    assert started_up_s(pid) is not None, "the experiment goes on"
    description.write_text(text)
    run.start()
    run.wait("a second opening", lambda state: len(state.runners) == 2)
    (tmp_path / "go").touch()
    assert run.finish() == 0
    assert run.job("a").attempts == 1


def test_the_guardian_of_a_runner_that_cannot_start_again_records_how_jobs_end(make: Make, tmp_path: Path) -> None:
    run = make(shell("a", "until test -e go; do sleep 0.02; done; exit 3"))
    process = run.start()
    run.wait_for("a", Running)
    (run.folder / "description.py").write_text("1 / 0\n")
    os.kill(run.runner, signal.SIGKILL)
    wait_until("the guardian to say what it does", lambda: "waiting for experiments" in run.printed())
    (tmp_path / "go").touch()
    assert process.wait(_PATIENCE_S) == 2
    record = run.paths.job(run.job("a").job_id).exit_record
    assert '"exit_code":3' in record.read_text().replace(" ", "")
