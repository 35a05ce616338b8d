"""What people ask of a run is written down before it is done, and what is not done is refused in plain words."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sf_runner import cancel
from sf_runner.basics import requests
from sf_runner.basics.requests import NobodyAnswersError, Request, send, take, wait_for_reply
from sf_runner.state.jobs import Cancelled, Failed, Running, Waiting
from tests.runner.harness import RunUnderTest, shell, wait_until

Make = Callable[..., RunUnderTest]

KILLED_AS_IT_SIGNALS = """\
import os, signal, sys
real = os.killpg
def killpg(pgid, signum):
    real(pgid, signum)
    if signum == signal.SIGTERM and not os.path.exists({marker!r}):
        open({marker!r}, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
os.killpg = killpg
"""
WAITS = "until test -e go; do sleep 0.02; done"


def killed_as_it_signals(run: RunUnderTest) -> None:
    """The runner dies right after it has told the first job to end."""
    folder = run.folder / "patched"
    folder.mkdir()
    marker = str(run.folder / "was_killed")
    (folder / "sitecustomize.py").write_text(KILLED_AS_IT_SIGNALS.format(marker=marker))
    run.python_path.append(folder)


def test_a_cancel_is_written_down_before_the_job_is_told(make: Make) -> None:
    run = make(shell("a", WAITS))
    killed_as_it_signals(run)
    run.start("--grace=30")
    run.wait_for("a", Running)
    send(run.paths.requests_dir, Request(action="cancel"))
    assert run.finish() == 1
    assert (run.folder / "was_killed").exists()
    assert len(run.state.runners) == 2
    assert isinstance(run.job("a").state, Cancelled)


def test_so_is_the_end_of_a_run(make: Make) -> None:
    run = make(shell("a", WAITS))
    killed_as_it_signals(run)
    run.start("--grace=30")
    run.wait_for("a", Running)
    os.kill(run.guardian, signal.SIGTERM)
    run.finish()
    assert (run.folder / "was_killed").exists()
    assert isinstance(run.job("a").state, Waiting)
    assert run.job("a").failures == 0


def ask(run: RunUnderTest, request: Request) -> str:
    return wait_for_reply(send(run.paths.requests_dir, request), timeout_s=60.0)


def test_nothing_is_tried_again_while_the_run_is_ending(make: Make, tmp_path: Path) -> None:
    run = make(shell("bad", "test -e again || exit 3"), shell("a", WAITS), shell("never", "exit 0"))
    run.start("--max_parallel=1", "--max_failures=0")
    run.wait_for("bad", Failed)
    run.wait_for("a", Running)
    assert ask(run, Request(action="retry", jobs=[run.job("a").job_id])).startswith("nothing to try again")
    assert ask(run, Request(action="cancel", jobs=[run.job("never").job_id])) == (
        "0 running told to end, 1 waiting cancelled"
    )
    os.kill(run.guardian, signal.SIGINT)
    run.wait("it to drain", lambda state: state.draining is not None)
    bad, never = run.job("bad").job_id, run.job("never").job_id
    text = "not tried again: the run is ending and starts nothing any more; give its command again with"
    assert ask(run, Request(action="retry", jobs=[bad])) == f"{text} --retry_failed"
    assert ask(run, Request(action="retry", jobs=[bad, never])) == f"{text} --retry_failed --retry_cancelled"
    for request in (Request(action="resume"), Request(action="parallel", number=3)):
        assert ask(run, request) == "nothing is started any more: the run is ending"
    (tmp_path / "go").touch()
    run.finish()
    assert isinstance(run.job("bad").state, Failed)
    (tmp_path / "again").touch()
    assert run.start("--retry_failed", "--retry_cancelled").wait(60) == 0


def test_what_is_asked_as_the_last_experiment_ends_runs(make: Make, tmp_path: Path) -> None:
    run = make(shell("bad", "test -e again || exit 3"), shell("a", WAITS))
    run.start("--max_parallel=2", "--max_failures=0")
    run.wait_for("bad", Failed)
    (tmp_path / "again").touch()
    assert ask(run, Request(action="retry")) == "1 will be tried again"
    (tmp_path / "go").touch()
    assert run.finish() == 0


def test_while_launching_is_paused_it_says_so(make: Make, tmp_path: Path) -> None:
    run = make(shell("bad", "test -e again || exit 3"), shell("a", WAITS))
    run.start("--max_parallel=2", "--max_failures=0")
    run.wait_for("bad", Failed)
    (tmp_path / "again").touch()
    ask(run, Request(action="pause"))
    assert ask(run, Request(action="retry")) == "1 will be tried again when launching is resumed"
    ask(run, Request(action="resume"))
    (tmp_path / "go").touch()
    assert run.finish() == 0


def test_whoever_asks_when_the_run_has_ended_is_told(make: Make) -> None:
    run = make(shell("a", "exit 0"))
    late = send(run.paths.requests_dir, Request(action="pause"))
    requests_dir = run.paths.requests_dir
    hidden = requests_dir.with_name("hidden")
    requests_dir.rename(hidden)  # it comes when the loop has looked for the last time
    folder = run.folder / "patched"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import os\nfrom sf_runner.state import history\nreal = history.save_history\n"
        f"def save(*args):\n    os.rename({str(hidden)!r}, {str(requests_dir)!r})\n    real(*args)\n"
        "history.save_history = save\n"
    )
    run.python_path.append(folder)
    assert run.start().wait(60) == 0
    assert wait_for_reply(late, timeout_s=60.0) == "nothing is done any more: the run has ended"


# ---- a runner that is gone before it answers ---------------------------------------------------------------------


def test_a_request_to_a_runner_that_is_gone_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "_GONE_AFTER_S", 0.0)
    path = send(tmp_path, Request(action="pause"))
    with pytest.raises(NobodyAnswersError):
        wait_for_reply(path, 60.0, is_there=lambda: False)
    assert list(tmp_path.iterdir()) == []


def test_one_that_was_taken_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "_GONE_AFTER_S", 0.0)
    path = send(tmp_path, Request(action="pause"))
    (request,) = take(tmp_path)
    looks: list[bool] = []

    def answer_then() -> None:
        wait_until("a look", lambda: looks)
        requests.answer(request, "paused")

    thread = threading.Thread(target=answer_then)
    thread.start()
    assert wait_for_reply(path, 60.0, is_there=lambda: looks.append(True) or False) == "paused"
    thread.join()


def test_cancel_does_it_itself_when_the_runner_is_gone(
    make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(requests, "_GONE_AFTER_S", 0.0)
    run = make(shell("a", "exit 0"))
    assert run.start().wait(60) == 0
    looks: list[int] = []
    monkeypatch.setattr(cancel, "is_held", lambda paths: looks.append(1) or len(looks) == 1)
    monkeypatch.setattr(cancel, "cancel_offline", lambda paths, jobs, **more: f"{paths.run_name}: done here")
    assert cancel.main([run.paths.run_name, f"--train_dir={run.paths.train_dir}"]) == 0
    assert capsys.readouterr().out == f"{run.paths.run_name}: done here\n"
    assert list(run.paths.requests_dir.iterdir()) == []
