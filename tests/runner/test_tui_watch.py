"""Looking at a run from another process: the journal followed, requests carried, the terminal given back."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sf_runner.basics.clock import boot_id
from sf_runner.basics.requests import Request, answer, take
from sf_runner.linux.process_tools import handle_of
from sf_runner.state import events as ev
from sf_runner.state.fold import RunState
from sf_runner.store.follower import JournalFollower
from sf_runner.tui.follow import GpuWatch, Liveness, RequestSender, runner_alive
from tests.runner import tui_runs as runs
from tests.runner.pty_run import ROOT, Pty, prepare
from tests.runner.tui_runs import NOW, middle


def lines_of(events: list[ev.Event]) -> bytes:
    return "".join(ev.encode(event) + "\n" for event in events).encode()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.integers(0, 4000), max_size=12))
def test_a_journal_that_grows_in_any_pieces_gives_the_same_state(tmp_path: Path, cuts: list[int]) -> None:
    events = [*middle(), ev.RunClosed(t=NOW, exit_code=1)]
    data = lines_of(events)
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"")
    follower = JournalFollower(path)
    seen: list[ev.Event] = []
    for end in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        with path.open("r+b") as file:
            file.write(data[:end])
        new, replaced = follower.poll()
        assert not replaced
        seen += new
    assert seen == events
    expected = RunState()
    expected.apply_all(events)
    assert follower.state.counts == expected.counts
    assert follower.state.closed == expected.closed
    assert follower.poll() == ([], False)


def test_a_torn_line_that_is_cut_off_and_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    events = middle()
    path.write_bytes(lines_of(events) + b'{"e":"ended","t":17')
    follower = JournalFollower(path)
    assert len(follower.poll()[0]) == len(events)
    path.write_bytes(lines_of([*events, ev.RunClosed(t=NOW, exit_code=1)]))
    assert follower.poll() == ([ev.RunClosed(t=NOW, exit_code=1)], False)


def test_another_journal_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(lines_of(middle()))
    follower = JournalFollower(path)
    follower.poll()
    old = follower.state
    path.unlink()
    assert follower.poll() == ([], False)
    assert "No such file" in follower.trouble
    path.write_bytes(lines_of(runs.opening(jobs=2)))
    new, replaced = follower.poll()
    assert (len(new), replaced, follower.trouble) == (3, True, "")
    assert follower.state is not old
    assert follower.state.total == 2


def state_of(*more: ev.Event, events: list[ev.Event] | None = None) -> RunState:
    state = RunState()
    state.apply_all([*(middle() if events is None else events), *more])
    return state


def test_whether_a_runner_is_at_work() -> None:
    alive: list[bool | None] = [True]
    liveness = Liveness(lambda opened: alive[0], lambda: False)
    state = state_of()
    assert liveness.check(state, NOW, NOW) == "live"
    alive[0] = False
    assert liveness.check(state, NOW + 0.5, NOW + 0.5) == "live", "asked once a second at most"
    assert liveness.check(state, NOW + 2.0, NOW + 2.0) == "live", "its guardian may be starting it again"
    assert liveness.check(state, NOW + 5.0, NOW + 5.0) == "gone"
    alive[0] = True
    assert state.opened is not None
    state.apply(replace(state.opened, t=NOW + 6, pid=1))
    assert liveness.check(state, NOW + 5.1, NOW + 5.1) == "live", "another runner has opened it"
    state.apply(ev.RunClosed(t=NOW + 7, exit_code=0))
    assert liveness.check(state, NOW + 7, NOW + 7) == "finished"


def test_whether_a_runner_is_at_work_on_another_machine() -> None:
    held = [True]
    liveness = Liveness(lambda opened: None, lambda: held[0])
    state = state_of()
    assert liveness.check(state, NOW, NOW) == "live"
    held[0] = False
    assert liveness.check(state, NOW + 5, NOW + 5) == "live", "the lock is looked at seldom"
    assert liveness.check(state, NOW + 20, NOW + 20) == "unknown", "not every file system tells who holds a lock"
    assert liveness.check(state, NOW + 7200, NOW + 7200) == "gone"


def test_a_detached_run_is_not_finished() -> None:
    closed = (ev.RunDraining(t=NOW, reason="detached"), ev.RunClosed(t=NOW, exit_code=1))
    assert Liveness(lambda opened: False, lambda: False).check(state_of(*closed), NOW, NOW) == "gone"
    assert Liveness(lambda opened: False, lambda: False).check(RunState(), NOW, NOW) == "gone"


def test_a_runner_is_known_by_more_than_its_pid() -> None:
    own = handle_of(os.getpid())
    opened = ev.RunOpened(
        t=NOW, pid=os.getpid(), up=own["up"], host=socket.gethostname(), backend="processes", boot_id=boot_id()
    )
    assert runner_alive(opened)
    assert runner_alive(replace(opened, up=own["up"] - 3600)) is False, "another process with that pid"
    assert runner_alive(replace(opened, boot_id="another")) is False
    assert runner_alive(replace(opened, host="elsewhere")) is None


def test_requests_are_carried_and_answers_brought(tmp_path: Path) -> None:
    courier = RequestSender(directory=tmp_path / "requests")
    assert courier.send(Request(action="cancel", jobs=("a",)), NOW) == ""
    assert courier.send(Request(action="pause"), NOW) == ""
    assert courier.replies(NOW) == []
    first, second = take(tmp_path / "requests")
    assert (first.action, list(first.jobs), second.action) == ("cancel", ["a"], "pause")
    answer(second, "launching paused")
    assert courier.replies(NOW + 1) == ["launching paused"]
    answer(first, "told to end")
    assert courier.replies(NOW + 2) == ["told to end"]
    assert courier.replies(NOW + 99) == []


def test_a_request_that_nobody_takes_is_withdrawn(tmp_path: Path) -> None:
    courier = RequestSender(directory=tmp_path)
    courier.send(Request(action="stop"), NOW)
    (text,) = courier.replies(NOW + 16)
    assert "did not answer within 15 s" in text
    assert take(tmp_path) == []


def test_requests_that_cannot_be_left_say_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot leave a request" in RequestSender(directory=tmp_path / "file").send(Request(action="pause"), NOW)


def test_gpus_are_not_asked_for_by_a_run_without_any() -> None:
    assert GpuWatch().read(state_of(), "live", NOW).gpus == ()
    assert GpuWatch().read(state_of(events=middle(gpus=True)), "gone", NOW).gpus == ()


# ---- on terminals ------------------------------------------------------------------------------------------------


def watch_command() -> list[str]:
    return [sys.executable, "-m", "sf_runner.status", "demo", "--watch"]


def last_runner(folder: Path) -> int:
    journal = folder / "train_dir" / "demo" / ".runner" / "journal.jsonl"
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    return int([event["pid"] for event in events if event["e"] == "run_opened"][-1])


def test_two_watchers_of_a_run_whose_runner_is_killed(tmp_path: Path) -> None:
    with Pty([*prepare(tmp_path), "--ui=plain"], tmp_path) as run:
        run.wait_for("started    b")
        with (
            Pty(watch_command(), tmp_path) as one,
            Pty(watch_command(), tmp_path, size=(80, 24)) as two,
        ):
            for term in (one, two):
                term.wait_for("2 running")
            one.send("p")
            two.wait_for("launching paused")
            two.send("p")
            one.wait_for("launching resumed")
            one.send("+")
            two.wait_for("3 running")
            two.send("Gcy")  # the last one, which waits
            one.wait_for("1 cancelled")
            os.kill(last_runner(tmp_path), signal.SIGKILL)
            run.wait_for("starting it again")
            run.wait_for("going on")
            (tmp_path / "go").touch()
            for term in (one, two):
                term.wait_for("the run has ended: 2 of 4 succeeded")
                assert term.vt.on_alternate, "who looks at it may go on looking"
            assert run.wait_exit() == 1
            one.send("c")
            one.wait_for("no runner is at work on this run")
            for term, key in ((one, "q"), (two, "\x03")):
                term.send(key)
                assert term.wait_exit() == 0
                term.assert_given_back()


@pytest.mark.parametrize("victim", ["program", "guard"])
def test_a_watcher_killed_while_it_has_the_terminal(tmp_path: Path, victim: str) -> None:
    folder = tmp_path / "train_dir" / "demo" / ".runner"
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_bytes(lines_of(middle()))
    with Pty(watch_command(), tmp_path) as term:
        term.wait_for("no runner is at work on it")
        children = Path(f"/proc/{term.pid}/task/{term.pid}/children").read_text().split()
        os.kill(int(children[0]) if victim == "program" else term.pid, signal.SIGKILL)
        assert term.wait_exit() == (137 if victim == "program" else -signal.SIGKILL)
        term.wait_for(lambda vt: not vt.on_alternate)
        if victim == "program":  # else the modes are the shell's business, which sees it die
            term.assert_given_back()


def test_plain_lines_for_a_pipe(tmp_path: Path) -> None:
    folder = tmp_path / "train_dir" / "walker_study" / ".runner"
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_bytes(lines_of(runs.finished(failed=True)))

    def status(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sf_runner.status", *more],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    shown = status("walker_study", "--watch")
    assert shown.returncode == 0, shown.stderr
    assert "run walker_study: 6 experiments" in shown.stdout
    assert "4 of 6 succeeded, 2 failed" in shown.stdout
    assert status("walker_study", "--watch", "--ui=rich").stderr.startswith("--ui=rich: standard input and output")
    assert "--watch needs the RUN" in status("--watch").stderr
    assert status("--watch").returncode == 2
    (folder / "journal.jsonl").unlink()
    assert "has no journal yet" in status("walker_study", "--watch").stderr


def test_the_clock_of_a_run_on_another_machine_may_be_off() -> None:
    """What is added to its journal is a sign of life, whatever time it bears."""
    liveness = Liveness(lambda opened: None, lambda: False)
    state, off = state_of(), 7200.0
    assert liveness.check(state, NOW + off, 0.0) == "gone"
    state.apply(ev.Note(t=NOW + 1, text="something happens"))
    assert liveness.check(state, NOW + off + 2, 2.0) == "unknown"
    assert liveness.check(state, NOW + off + 3599, 3599.0) == "unknown"
    assert liveness.check(state, NOW + off + 3700, 3700.0) == "gone"


def test_a_clock_that_is_set_neither_freezes_nor_hurries_a_watcher(tmp_path: Path) -> None:
    alive = [True]
    liveness = Liveness(lambda opened: alive[0], lambda: False)
    sender = RequestSender(directory=tmp_path)
    assert liveness.check(state_of(), NOW, 0.0) == "live"
    assert sender.send(Request(action="pause"), 0.0) == ""
    alive[0] = False
    assert liveness.check(state_of(), NOW - 600.0, 5.0) == "gone"
    assert sender.replies(5.0) == []
    (text,) = sender.replies(16.0)
    assert "did not answer" in text
