"""Disks that are full, read-only, or hold what a newer version wrote: one clear line, or it just goes on."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sf_runner.state import events as ev
from tests.runner.harness import RunUnderTest, run_under_test, shell, wait_until


def mount(options: str, folder: Path) -> None:
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount a small disk: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty disk of 1 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("size=1m", folder)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Take all the room there is."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return filler


def one_line(run: RunUnderTest) -> str:
    (line,) = run.printed().splitlines()
    run.output.unlink()
    return line


def test_a_full_disk_holds_the_run_up_and_nothing_more(tmp_path: Path, disk: Path) -> None:
    script = f"sleep 0.02; echo line of a log; echo $1 >> {tmp_path}/done"
    grid = "ParamGrid([('i', list(range(40)))]).generate_params(randomize=False)"
    jobs = f"Experiment('job', ['sh', '-c', {script!r}, 'sh'], {grid})"
    with run_under_test(tmp_path, jobs, train_dir=disk) as run:
        run.start("--max_parallel=2")
        run.wait("some results", lambda state: state.count("Succeeded") >= 4)
        filler = fill(disk)
        wait_until("it to notice", lambda: "TROUBLE: cannot write" in run.printed())
        assert "No space left on device; nothing is started until it can" in run.printed()
        filler.unlink()
        assert run.finish() == 0
        assert "the disk can be written again" in run.printed()
        done = Counter((tmp_path / "done").read_text().split())
        assert done == Counter(f"i={number}" for number in range(40)), "nothing is lost, nothing is repeated"
        assert [job.failures for job in run.state.jobs.values()] == [0] * 40
        records = [run.paths.job(job).exit_record for job in run.state.jobs]
        assert all(json.loads(record.read_text())["exit_code"] == 0 for record in records)


def test_exit_records_wait_for_room(tmp_path: Path, disk: Path) -> None:
    """The journal has room to write, the folder of the next job does not fit: that is no failure of the job."""
    from sf_runner.linux.exit_record import read_record
    from sf_runner.linux.job_parent import JobParent, SpawnRequest

    parent = JobParent(0.1)
    folder = disk / "job"
    request = SpawnRequest(
        job="a",
        attempt=1,
        argv=["sh", "-c", "exit 4"],
        env=dict(os.environ),
        log=str(folder / "attempt_1.log"),
        exit_record=str(folder / "exit.json"),
    )
    parent.spawn(request)
    filler = fill(disk)
    (end,) = wait_until("the end", parent.poll)
    assert end.record["exit_code"] == 4
    assert parent.busy, "its record is still to be written"
    assert read_record(request.exit_record, 1) is None
    filler.unlink()
    parent.poll()
    assert not parent.busy
    assert read_record(request.exit_record, 1) == end.record


def test_a_disk_that_cannot_be_written_is_one_line(tmp_path: Path, disk: Path) -> None:
    with run_under_test(tmp_path, shell("a", "exit 0"), train_dir=disk) as run:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert run.start().wait(60) == 1
        assert one_line(run) == (
            f"error: cannot create {run.paths.runner_dir}: Read-only file system; choose another --train_dir"
        )
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        fill(disk)
        assert run.start().wait(60) == 1
        assert one_line(run) == (
            f"error: cannot write {run.paths.journal}: No space left on device; free some space or choose another "
            "--train_dir"
        )


def test_a_folder_of_somebody_else_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("a file")
    with run_under_test(tmp_path, shell("a", "exit 0")) as run:
        assert run.start().wait(60) == 1
        assert one_line(run) == (
            f"error: cannot create {run.paths.runner_dir}: Not a directory; choose another --train_dir"
        )


def test_a_journal_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with run_under_test(tmp_path, shell("a", "exit 0")) as run:
        assert run.start().wait(60) == 0
        lines = run.paths.journal.read_text().splitlines(keepends=True)
        header = json.loads(lines[0])
        run.paths.journal.write_text(json.dumps({**header, "version": 99}) + "\n" + "".join(lines[1:]))
        before = run.paths.journal.read_bytes()
        run.output.unlink()
        assert run.start().wait(60) == 1
        line = one_line(run)
        assert line.startswith(f"error: {run.paths.journal} was written by a newer sf_runner (format 99, ")
        assert line.endswith("upgrade sf_runner, or give the run a new name")
        assert run.paths.journal.read_bytes() == before
        for name in ("status", "logs", "cancel"):
            answer = run.tool(name, *(["0"] if name == "logs" else []))
            assert (answer.returncode, answer.stdout) == (1, ""), name
            assert "was written by a newer sf_runner" in answer.stderr
            assert len(answer.stderr.splitlines()) == 1
        run.paths.journal.write_text("".join(lines))


def test_an_unknown_event_is_not_passed_over(tmp_path: Path) -> None:
    with run_under_test(tmp_path, shell("a", "exit 0")) as run:
        assert run.start().wait(60) == 0
        good = run.paths.journal.read_bytes()
        with run.paths.journal.open("a") as journal:
            journal.write('{"e":"teleported","t":1,"job":"a_/00_a"}\n')
        run.output.unlink()
        assert run.start().wait(60) == 1
        assert "unknown event 'teleported'; it was written by a newer sf_runner: upgrade to read it" in one_line(run)
        run.paths.journal.write_bytes(good)
        assert len(run.read_events(ev.AttemptEnded)) == 1
