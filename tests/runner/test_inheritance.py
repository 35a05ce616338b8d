"""Killed at whichever moment: the process that inherits the jobs knows which child is which, and records how it ends.

Each scenario runs in a process of its own, since it becomes the parent of orphans.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from sf_runner.basics.clock import since_boot_s, steady_s
from sf_runner.linux.exit_record import read_record
from sf_runner.linux.job_parent import JobEnd, JobParent, SpawnRequest
from sf_runner.linux.job_table import JobNote, JobTable
from sf_runner.linux.kernel import TAG_VARIABLE, make_subreaper, process_stat

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inheriting processes is a matter of Linux")

_SYS_EXIT = {"x86_64": 60, "aarch64": 93, "riscv64": 93}
_PATIENCE_S = 30.0


def request(folder: Path, name: str, *argv: str) -> SpawnRequest:
    """A job that `JobParent` can start."""
    job = folder / name / "job"
    env = {
        "PATH": os.environ["PATH"],
        TAG_VARIABLE: f"run:1:{name}",
        "SF_RUNNER_JOB": name,
        "SF_RUNNER_ATTEMPT": "1",
        "SF_RUNNER_PROGRESS_FILE": str(job / "progress.json"),
    }
    log, record = str(job / "attempt_1.log"), str(job / "exit.json")
    return SpawnRequest(job=name, attempt=1, argv=argv, env=env, log=log, exit_record=record)


def note_of(wanted: SpawnRequest) -> JobNote:
    return JobNote(
        job=wanted.job,
        attempt=wanted.attempt,
        tag=wanted.env[TAG_VARIABLE],
        log=wanted.log,
        exit_record=wanted.exit_record,
        started=time.time(),
        up=since_boot_s(),
        steady=steady_s(),
    )


def fork(body: Callable[[], None]) -> int:
    """A process with a session of its own that calls `body` and is killed; its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            body()
        except BaseException as exc:
            os.write(2, f"{exc!r}\n".encode())
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    return pid


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL ends a process at once")


def await_end(pid: int) -> None:
    """Until that child has ended; it is not reaped."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def start_and_await(parent: JobParent, wanted: SpawnRequest) -> None:
    """Its outcome is not recorded: it stays a zombie."""
    await_end(parent.spawn(wanted))


def inheritor_of(*tables: JobTable) -> JobParent:
    return JobParent(0.1, predecessors=tables)


def poll_until_idle(inheritor: JobParent) -> list[JobEnd]:
    """What had ended before it is first asked, and what follows from that."""
    ends = inheritor.poll()
    deadline = time.monotonic() + _PATIENCE_S
    while inheritor.busy:
        assert time.monotonic() < deadline
        ends += inheritor.poll()
    return ends


def scenario(body: Callable[..., None]) -> Callable[..., None]:
    """Run the module-level function `body` in a fresh process that inherits orphans."""

    def run(folder: Path, *arguments: Any) -> None:
        process = multiprocessing.get_context("spawn").Process(target=_enter, args=(body, folder, *arguments))
        process.start()
        process.join(2 * _PATIENCE_S)
        if process.exitcode is None:
            process.kill()
        assert process.exitcode == 0, "see the captured output"

    return run


def _enter(body: Callable[..., None], *arguments: Any) -> None:
    assert make_subreaper()
    body(*arguments)


# ---- a runner that is dead but for one thread ------------------------------------------------------------------


def dead_but_for_a_thread(folder: Path) -> None:
    table, wanted = JobTable(), request(folder, "job", "sh", "-c", "exit 7")

    def runner() -> None:
        table.claim()
        start_and_await(JobParent(0.1, table=table), wanted)
        threading.Thread(target=signal.pause, daemon=True).start()
        ctypes.CDLL(None).syscall(_SYS_EXIT[platform.machine()], 0)  # ends this thread alone

    pid = fork(runner)
    deadline = time.monotonic() + _PATIENCE_S
    while (stat := process_stat(pid)) is None or stat.state != b"Z":
        assert time.monotonic() < deadline
    assert (stat.leaving, stat.ended) == (True, False)
    inheritor = inheritor_of(table)
    assert not inheritor.inherit(), "its jobs are not ours yet, so nothing can be said of our children"
    assert inheritor.poll() == []
    os.kill(pid, signal.SIGKILL)
    await_end(pid)
    (end,) = poll_until_idle(inheritor)
    assert (end.job, end.record["exit_code"]) == ("job", 7)
    assert read_record(wanted.exit_record, 1) == end.record


@pytest.mark.skipif(platform.machine() not in _SYS_EXIT, reason="the number of the system call is not known here")
def test_a_runner_with_a_thread_left_is_not_dead_yet(tmp_path: Path) -> None:
    scenario(dead_but_for_a_thread)(tmp_path)


# ---- killed while a job is being started ----------------------------------------------------------------------


class _KilledBeforeThePidIsNoted(JobTable):
    """Its writer is killed when the process exists and has ended, but only its start was announced."""

    def started(self, pid: int) -> None:
        await_end(pid)
        die()


def killed_between_start_and_note(folder: Path, set_s: float = 0.0) -> None:
    """`set_s`: by how much the clock is set before the job is inherited."""
    table, wanted = _KilledBeforeThePidIsNoted(), request(folder, "job", "sh", "-c", "exit 7")

    def runner() -> None:
        table.claim()
        JobParent(0.1, table=table).spawn(wanted)

    await_end(fork(runner))
    real = time.time
    time.time = lambda: real() + set_s
    (end,) = poll_until_idle(inheritor_of(table))
    assert (end.job, end.record["exit_code"]) == ("job", 7)
    assert read_record(wanted.exit_record, 1) == end.record
    assert 0.0 <= end.record["duration_s"] < _PATIENCE_S


@pytest.mark.parametrize("set_s", [0.0, -600.0, 600.0])
def test_a_job_whose_parent_was_killed_while_starting_it_is_known(tmp_path: Path, set_s: float) -> None:
    scenario(killed_between_start_and_note)(tmp_path, set_s)


def killed_before_start(folder: Path) -> None:
    """Some other child of the runner, younger than the announcement, must not be taken for the job."""
    table, wanted = JobTable(), request(folder, "job", "sh", "-c", "exit 7")

    def runner() -> None:
        table.claim()
        table.expect(note_of(wanted))
        await_end(os.posix_spawnp("true", ["true"], {"PATH": os.environ["PATH"]}, setsid=True))

    await_end(fork(runner))
    assert poll_until_idle(inheritor_of(table)) == []
    assert read_record(wanted.exit_record, 1) is None


def test_a_job_that_was_announced_and_never_started_has_no_outcome(tmp_path: Path) -> None:
    scenario(killed_before_start)(tmp_path)


# ---- children of unknown origin --------------------------------------------------------------------------------


def undecided_child(folder: Path) -> None:
    table = JobTable()
    inheritor = inheritor_of(table)

    def runner() -> None:
        table.claim()
        threading.Thread(target=signal.pause, daemon=True).start()
        ctypes.CDLL(None).syscall(_SYS_EXIT[platform.machine()], 0)  # ends this thread alone: it is just ending

    ending = fork(runner)
    deadline = time.monotonic() + _PATIENCE_S
    while (stat := process_stat(ending)) is None or stat.state != b"Z":
        assert time.monotonic() < deadline
    unknown = os.posix_spawnp("true", ["true"], os.environ, setsid=True)
    await_end(unknown)
    start_and_await(inheritor, request(folder, "job", "true"))
    assert [end.job for end in inheritor.poll()] == ["job"], "it must not hide the others"
    stat = process_stat(unknown)
    assert stat is not None
    assert stat.ended
    assert inheritor.wait_s() is not None, "nothing else may remind us of it"
    os.kill(ending, signal.SIGKILL)
    await_end(ending)
    assert inheritor.poll() == []
    assert process_stat(unknown) is None
    assert inheritor.wait_s() is None


@pytest.mark.skipif(platform.machine() not in _SYS_EXIT, reason="the number of the system call is not known here")
def test_a_child_of_unknown_origin_is_left_as_it_is(tmp_path: Path) -> None:
    scenario(undecided_child)(tmp_path)


# ---- the table ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_table_stays_true_when_it_is_full_and_compacted(tmp_path: Path) -> None:
    table = JobTable()
    expected: dict[int, JobNote] = {}
    for number in range(1, 5000):  # some hundred bytes each: the memory is gone through several times
        note = note_of(request(tmp_path, f"job {number}"))
        table.expect(note)
        assert table.read() == (expected, note)
        table.started(number)
        expected[number] = note
        if number > 3:
            del expected[number - 3]
            table.forget(number - 3)
        assert table.read() == (expected, None)
    table.clear()
    assert table.read() == ({}, None)
