"""Starting jobs: which program it is that is started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sf_runner.backends.job_parent import JobParent, SpawnRequest, read_record
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
