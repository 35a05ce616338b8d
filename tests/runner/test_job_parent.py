"""Starting jobs: which program it is that is started."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from sf_runner.linux.exit_record import read_record
from sf_runner.linux.job_parent import JobEnd, JobParent, SpawnRequest
from sf_runner.linux.kernel import TAG_VARIABLE, make_subreaper
from tests.runner.harness import wait_until


def program(folder: Path, code: int) -> None:
    """A program called `prog` that ends with `code`."""
    folder.mkdir(exist_ok=True)
    path = folder / "prog"
    path.write_text(f"#!/bin/sh\nexit {code}\n")
    path.chmod(0o755)


def run(parent: JobParent, folder: Path) -> int:
    """Its exit code."""
    folder.mkdir(exist_ok=True)
    request = SpawnRequest(
        job="job",
        attempt=1,
        argv=["prog"],
        env=dict(os.environ),
        log=str(folder / "log"),
        exit_record=str(folder / "exit.json"),
    )
    parent.spawn(request)
    wait_until("its end", lambda: parent.poll() and not parent.busy)
    record = read_record(request.exit_record, 1)
    assert record is not None
    return int(record["exit_code"])


def test_a_program_that_moves_along_path_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    program(first, 1)
    program(second, 2)
    monkeypatch.setenv("PATH", f"{first}:{second}:{os.environ['PATH']}")
    parent = JobParent(0.1)
    assert [run(parent, tmp_path / "job") for _ in range(2)] == [1, 1]
    (first / "prog").unlink()
    assert [run(parent, tmp_path / "job") for _ in range(2)] == [2, 2]
    (second / "prog").chmod(0o644)
    with pytest.raises(PermissionError):
        run(parent, tmp_path / "job")
    (second / "prog").unlink()
    with pytest.raises(FileNotFoundError):
        run(parent, tmp_path / "job")


@pytest.mark.parametrize("path", ["/nowhere", ".:/nowhere", "/nowhere:."])
def test_a_program_of_the_current_folder_is_started_only_where_path_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    program(tmp_path, 3)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", path)
    if "." in path:
        assert run(JobParent(0.1), tmp_path / "job") == 3
    else:
        with pytest.raises(FileNotFoundError):
            run(JobParent(0.1), tmp_path / "job")


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="needs waitid")
def test_a_helper_that_nobody_has_waited_for_yet_does_not_keep_a_job_from_ending(tmp_path: Path) -> None:
    """Its zombie stands before those of what the job left behind, which keep the job's process group alive."""
    parent = JobParent(0.2)
    make_subreaper()
    try:
        with subprocess.Popen(["true"]) as helper:
            os.waitid(os.P_PID, helper.pid, os.WEXITED | os.WNOWAIT)
            request = SpawnRequest(
                job="a",
                attempt=1,
                argv=["sh", "-c", "sleep 60 & echo ready; sleep 60"],
                env={"PATH": os.environ["PATH"], TAG_VARIABLE: "run:a:1"},
                log=str(tmp_path / "e/job/log"),
                exit_record=str(tmp_path / "e/job/exit.json"),
            )
            pid = parent.spawn(request)
            wait_until("its child", lambda: "ready" in Path(request.log).read_text())
            os.killpg(pid, signal.SIGKILL)
            ends: list[JobEnd] = []

            def ended() -> bool:
                ends.extend(parent.poll())
                return bool(ends)

            wait_until("the job to end", ended)
            assert [end.job for end in ends] == ["a"]
    finally:
        make_subreaper(False)
