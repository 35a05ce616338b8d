"""A second runner is kept out even where every lock succeeds, and a journal that two wrote at once can be read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sf_runner.basics.paths import RunPaths
from sf_runner.state.jobs import Cancelled, Running
from sf_runner.store import claim as claim_module
from sf_runner.store.claim import Claim, ClaimedError, is_claimed, machine, read_holder
from sf_runner.store.lock import RunBusyError, is_held, run_lock
from tests.runner.harness import RunUnderTest, shell, wait_gone, wait_until

Make = Callable[..., RunUnderTest]

EVERY_LOCK_SUCCEEDS = "import fcntl\nfcntl.flock = lambda fd, operation: None\n"


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    paths = RunPaths(train_dir=tmp_path, run_name="study")
    paths.runner_dir.mkdir(parents=True)
    return paths


@pytest.fixture
def lying(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system on which every lock succeeds."""
    monkeypatch.setattr("fcntl.flock", lambda fd, operation: None)


def lying_locks(run: RunUnderTest) -> None:
    folder = run.folder / "patched"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(EVERY_LOCK_SUCCEEDS)
    run.python_path.append(folder)


# ---- runners ----------------------------------------------------------------------------------------------------


def test_a_second_runner_is_refused_where_every_lock_succeeds(make: Make, tmp_path: Path) -> None:
    run = make(shell("a", "echo a >> ran; until test -e go; do sleep 0.02; done"))
    lying_locks(run)
    first = run.start()
    run.wait_for("a", Running)
    second = subprocess.run(run.command(), cwd=run.folder, env=run.environ(), capture_output=True, text=True)
    assert second.returncode == 3
    assert f"error: run 'chaos' is already being run by pid {first.pid} on " in second.stderr
    assert run.tool_process("cancel").stdout == "1 running told to end, 0 waiting cancelled\n"
    assert first.wait(60) == 1
    assert isinstance(run.read() and run.job("a").state, Cancelled)
    assert (tmp_path / "ran").read_text() == "a\n"
    assert not run.paths.lock_holder.exists()


def test_the_next_start_takes_over_from_a_killed_one_at_once(make: Make, tmp_path: Path) -> None:
    run = make(shell("a", "echo a >> ran; until test -e go; do sleep 0.02; done"))
    lying_locks(run)
    run.start()
    run.wait_for("a", Running)
    for pid in (run.guardian, run.runner):
        os.kill(pid, signal.SIGKILL)
    wait_gone([run.runner])
    (tmp_path / "go").touch()
    run.start()
    assert run.finish() == 0
    assert not run.paths.lock_holder.exists()


def test_a_runner_whose_guardian_was_killed_is_waited_for(make: Make, tmp_path: Path) -> None:
    run = make(shell("a", "echo a >> ran; until test -e go; do sleep 0.02; done"))
    lying_locks(run)
    run.start()
    run.wait_for("a", Running)
    os.kill(run.guardian, signal.SIGKILL)
    run.start()
    run.wait("the next runner", lambda state: len(state.runners) == 2)
    (tmp_path / "go").touch()
    assert run.finish() == 0
    assert (tmp_path / "ran").read_text() == "a\n"


def test_two_that_start_at_once(make: Make, tmp_path: Path) -> None:
    run = make(*(shell(f"job{number}", f"echo {number} >> ran; sleep 0.05") for number in range(20)))
    lying_locks(run)
    starts = [
        subprocess.Popen(
            run.command(), cwd=run.folder, env=run.environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    codes = sorted(process.wait(60) for process in starts)
    for process in starts:
        process.communicate()
    assert codes[0] == 0
    assert set(codes) <= {0, 3}  # one that comes when another has ended finds nothing to do
    assert sorted(map(int, (tmp_path / "ran").read_text().split())) == list(range(20))


def test_a_runner_gives_way_to_one_that_took_over(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(shell("a", "sleep 1000"))
    lying_locks(run)
    (run.folder / "patched" / "sitecustomize.py").write_text(
        EVERY_LOCK_SUCCEEDS + "from sf_runner.store import claim\nclaim.BEAT_S = 0.05\n"
    )
    run.start("--grace=1")
    run.wait_for("a", Running)
    size = run.paths.journal.stat().st_size
    run.paths.lock_holder.write_text(json.dumps({"token": "another", "host": "elsewhere", "machine": ["elsewhere"]}))
    assert run.finish() == 1
    assert "another runner has taken over this run; this one ends, and so do its experiments" in run.printed()
    assert run.paths.journal.stat().st_size == size, "it writes nothing any more"
    assert run.left() == []
    assert "another" in run.paths.lock_holder.read_text()


# ---- the file ---------------------------------------------------------------------------------------------------


def test_it_is_there_while_the_run_is_held(paths: RunPaths, lying: None) -> None:
    assert not is_held(paths)
    with run_lock(paths):
        assert is_held(paths)
        with pytest.raises(RunBusyError, match=rf"already being run by pid {os.getpid()} on "), run_lock(paths):
            pass
        assert is_held(paths)
    assert not is_held(paths)
    assert sorted(path.name for path in paths.runner_dir.iterdir()) in ([], ["lock"])


def test_one_of_many_gets_it(paths: RunPaths) -> None:
    got: list[Claim] = []
    refused: list[ClaimedError] = []

    def take() -> None:
        claim = Claim(paths.lock_holder, os.getpid())
        try:
            claim.take(0.0, print)
        except ClaimedError as exc:
            refused.append(exc)
        else:
            got.append(claim)

    stale = {"token": "old", "machine": machine(), "owner": {"pid": os.getpid(), "up": -9.0}, "guardians": []}
    for _ in range(20):
        paths.lock_holder.write_text(json.dumps(stale))
        threads = [threading.Thread(target=take) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(got), len(refused)) == (1, 5)
        got.pop().give_back()
        refused.clear()
        assert not paths.lock_holder.exists()


def test_where_there_are_no_links(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    first, second = Claim(paths.lock_holder, os.getpid()), Claim(paths.lock_holder, os.getpid())
    first.take(0.0, print)
    with pytest.raises(ClaimedError):
        second.take(0.0, print)
    first.give_back()
    second.take(0.0, print)
    second.give_back()
    assert list(paths.runner_dir.iterdir()) == []


def test_a_full_disk_does_not_keep_a_runner_out(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(claim_module, "create_once", full)
    with run_lock(paths):
        assert is_held(paths)  # by the lock


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1, "host": "box", "since": "today", "guardians": []}'])
def test_what_an_older_version_or_a_crash_left_is_replaced(
    paths: RunPaths, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim_module, "_HALF_WRITTEN_S", 0.0)
    paths.lock_holder.write_text(content)
    assert not is_claimed(paths.lock_holder)
    with run_lock(paths):
        assert is_claimed(paths.lock_holder)


def elsewhere(path: Path) -> dict[str, Any]:
    body = {"token": "other", "pid": 7, "host": "far", "since": "today", "machine": ["far", "boot", 1]}
    path.write_text(json.dumps(body))
    return body


def age(path: Path, seconds: float) -> None:
    at = time.time() - seconds
    os.utime(path, (at, at))


def test_a_holder_on_another_machine_that_touches_the_file_is_alive(paths: RunPaths) -> None:
    elsewhere(paths.lock_holder)
    age(paths.lock_holder, 3.0)
    assert is_held(paths)
    said: list[str] = []

    def touch(text: str) -> None:
        said.append(text)
        os.utime(paths.lock_holder)

    claim = Claim(paths.lock_holder, os.getpid())
    # It is looked at before somebody is told of the wait.
    with pytest.raises(ClaimedError, match="by pid 7 on far since today"):
        claim.take(0.0, touch)
    assert said == ["looking for up to 30 s whether the runner by pid 7 on far since today is alive"]


def test_one_that_has_not_touched_it_for_long_is_dead(paths: RunPaths) -> None:
    elsewhere(paths.lock_holder)
    age(paths.lock_holder, 31.0)
    assert not is_held(paths)
    with run_lock(paths) as claim:
        assert read_holder(paths.lock_holder) != "other"
        assert not claim.lost


def test_the_clock_of_the_file_server_counts(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere(paths.lock_holder)
    monkeypatch.setattr(time, "time", lambda: 1e9)  # this machine's is years behind
    assert is_held(paths)


def test_a_holder_touches_its_file_and_writes_it_again(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim_module, "BEAT_S", 0.01)
    claim = Claim(paths.lock_holder, os.getpid())
    claim.take(0.0, print)
    age(paths.lock_holder, 100.0)
    wait_until("a touch", lambda: time.time() - paths.lock_holder.stat().st_mtime < 50.0)
    paths.lock_holder.unlink()  # somebody cleaned up
    wait_until("it to be there", paths.lock_holder.exists)
    elsewhere(paths.lock_holder)
    wait_until("it to be noticed", lambda: claim.lost)
    claim.give_back()
    assert json.loads(paths.lock_holder.read_text())["token"] == "other"
