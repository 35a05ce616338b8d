"""status, logs and cancel from another terminal: on a live run, and on one whose runner is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from sf_runner.linux.kernel import started_up_s
from sf_runner.state import events as ev
from sf_runner.state.jobs import Cancelled, Failed, Running, Succeeded
from tests.runner.harness import ROOT, RUN_NAME, RunUnderTest, run_under_test, shell, wait_gone, wait_until

WAIT = "echo ready; until test -e go; do sleep 0.02; done; echo {0} >> done"


def waiting(*names: str) -> list[str]:
    return [shell(name, WAIT.format(name)) for name in names]


def kill_everything(run: RunUnderTest) -> None:
    """The runner and its guardian; its jobs go on."""
    assert run.read().opened is not None
    guardians = [int(handle["pid"]) for handle in run.state.opened.guardians]  # type: ignore[union-attr]
    for pid in (*guardians, run.runner):
        os.kill(pid, signal.SIGKILL)
    assert run.process is not None
    run.process.wait()


def test_a_live_run_can_be_looked_at_and_cancelled_in_part(tmp_path: Path) -> None:
    with run_under_test(tmp_path, *waiting("a", "b", "c")) as run:
        run.start("--max_parallel=2", "--grace=5")
        for name in ("a", "b"):
            run.wait_for(name, Running)
        status = json.loads(run.tool("status", "--json").stdout)
        assert (status["live"], status["counts"]) == (True, {"waiting": 1, "running": 2})
        wait_until("its log", lambda: run.tool("logs", "a_/*").stdout == "ready\n")
        pid = run.pid("a")
        assert run.tool("cancel", "a_/*").stdout == "1 running told to end, 0 waiting cancelled\n"
        run.wait_for("a", Cancelled)
        assert started_up_s(pid) is None
        assert not isinstance(run.job("b").state, Cancelled)
        (tmp_path / "go").touch()
        assert run.finish() == 1
        assert sorted((tmp_path / "done").read_text().split()) == ["b", "c"]
        status = json.loads(run.tool("status", "--json").stdout)
        assert (status["live"], status["counts"]) == (False, {"cancelled": 1, "succeeded": 2})


def test_following_a_log_ends_with_the_job(tmp_path: Path) -> None:
    with run_under_test(tmp_path, *waiting("a")) as run:
        run.start()
        run.wait_for("a", Running)
        follow = subprocess.Popen(
            [sys.executable, "-m", "sf_runner.logs", RUN_NAME, "0", "--follow", f"--train_dir={run.paths.train_dir}"],
            env=run.environ(),
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        assert follow.stdout is not None
        assert follow.stdout.readline() == b"ready\n"
        (tmp_path / "go").touch()
        assert run.finish() == 0
        assert follow.communicate(timeout=60)[0] == b""
        assert follow.returncode == 0


def test_orphaned_jobs_are_ended_by_cancel_and_others_left_alone(tmp_path: Path) -> None:
    with run_under_test(tmp_path, *waiting("a", "b", "c")) as run:
        run.start("--max_parallel=2")
        for name in ("a", "b"):
            run.wait_for(name, Running)
        pids = {name: run.pid(name) for name in ("a", "b")}
        kill_everything(run)
        answer = run.tool_process("cancel", "a_/*", "--grace=5")
        assert (answer.returncode, answer.stdout) == (0, "1 running ended, 0 waiting cancelled\n"), answer.stderr
        assert started_up_s(pids["a"]) is None
        assert started_up_s(pids["b"]) is not None
        run.read()
        assert isinstance(run.job("a").state, Cancelled)
        answer = run.tool_process("cancel", "--kill")
        assert answer.stdout == "1 running ended, 1 waiting cancelled\n"
        run.read()
        assert run.state.count("Cancelled") == 3
        assert run.left() == []
        assert run.start().wait(60) == 1
        assert run.read().count("Cancelled") == 3, "a later start leaves them cancelled"


def test_what_ended_by_itself_keeps_its_result_when_the_rest_is_cancelled(tmp_path: Path) -> None:
    jobs = [*waiting("good"), shell("bad", WAIT.format("bad") + "; exit 5"), *waiting("waits")]
    with run_under_test(tmp_path, *jobs) as run:
        run.start("--max_parallel=2")
        for name in ("good", "bad"):
            run.wait_for(name, Running)
        runner = run.runner
        os.kill(run.guardian, signal.SIGKILL)  # the runner stays for the exit records
        (tmp_path / "go").touch()
        wait_gone([runner])
        answer = run.tool_process("cancel")
        assert answer.stdout == "0 running ended, 1 waiting cancelled\n", answer.stderr
        run.read()
        assert isinstance(run.job("good").state, Succeeded)
        assert isinstance(run.job("bad").state, Failed)
        assert isinstance(run.job("waits").state, Cancelled)
        assert [event.code for event in run.read_events(ev.AttemptEnded, "bad")] == [5]  # type: ignore[attr-defined]


def test_a_mistaken_name_is_one_line(tmp_path: Path) -> None:
    with run_under_test(tmp_path, shell("good_name", "exit 0")) as run:
        assert run.start().wait(60) == 0
        answer = run.tool("cancel", "00_good_nam")
        assert (answer.returncode, answer.stdout) == (2, "")
        assert answer.stderr == "error: no job '00_good_nam'. Did you mean '00_good_name'?\n"


def test_flags_may_stand_between_the_run_and_its_experiments(tmp_path: Path) -> None:
    with run_under_test(tmp_path, shell("a", "exit 0"), shell("b", "echo this is b")) as run:
        assert run.start().wait(60) == 0
        command = [sys.executable, "-m", "sf_runner.logs", RUN_NAME, f"--train_dir={run.paths.train_dir}", "b_/*"]
        done = subprocess.run(command, cwd=tmp_path, env=run.environ(), capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, "this is b\n")
