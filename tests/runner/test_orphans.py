"""Attempts of an earlier runner that are hard to see."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import uuid
from pathlib import Path

import pytest

from sf_runner.backends.base import Ended, Known, Report, Started
from sf_runner.backends.local.orphans import OrphanWatch
from sf_runner.backends.stopping import Stopper
from sf_runner.basics.clock import boot_id, steady_s
from sf_runner.linux import ending, kernel, process_tools
from sf_runner.linux.exit_record import write_record
from sf_runner.linux.process_tools import handle_of, make_tag
from tests.runner.harness import wait_until

RUN_ID = uuid.uuid4().hex


def test_an_attempt_that_is_just_becoming_its_program_is_found(tmp_path: Path) -> None:
    tag = make_tag(RUN_ID, "job", 1)
    os.mkfifo(tmp_path / "fifo")
    become = f"read x < {tmp_path / 'fifo'}; exec env SF_RUNNER_TAG={tag} sleep 1000"
    known = Known(job="job", attempt=1, handle=None, log=str(tmp_path / "log"), exit_record=str(tmp_path / "exit.json"))
    (tmp_path / "log").touch()
    reports: list[Report] = []
    with subprocess.Popen(["sh", "-c", become], start_new_session=True) as job, selectors.DefaultSelector() as selector:
        try:
            parent = handle_of(os.getpid())  # which will write the record
            watch = OrphanWatch(RUN_ID, selector, Stopper(RUN_ID), 0.1, recorders=[parent], held={})
            assert watch.adopt([known]) == []
            (tmp_path / "fifo").write_text("go\n")
            wait_until("it to be found", lambda: watch.poll(steady_s(), reports) or reports)
            (started,) = reports
            assert isinstance(started, Started)
            assert started.handle["pid"] == job.pid
            assert watch.certain()
            assert job.poll() is None, "it is not ended as something left behind"
        finally:
            job.send_signal(signal.SIGKILL)
        job.wait()
        write_record(known.exit_record, {"attempt": 1, "pid": job.pid, "exit_code": 7, "ended": 1.0})
        wait_until("its end", lambda: watch.poll(steady_s(), reports) or reports[1:])
        assert isinstance(reports[-1], Ended)
        assert reports[-1].record is not None
        assert reports[-1].record["exit_code"] == 7
        watch.close()


def test_thousands_that_are_gone_take_one_look_at_the_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    scan = kernel.process_ids
    for module in (ending, process_tools):
        monkeypatch.setattr(module, "process_ids", lambda: looks.append(1) or scan())
    gone = {"pid": os.getpid(), "up": -1.0, "boot": boot_id()}
    known = [
        Known(job=f"job{number}", attempt=1, handle=gone, log=str(tmp_path / "log"), exit_record=str(tmp_path / "exit"))
        for number in range(50)
    ]
    with selectors.DefaultSelector() as selector:
        watch = OrphanWatch(RUN_ID, selector, Stopper(RUN_ID), 0.1, recorders=[], held={})
        reports = watch.adopt(known)
        watch.close()
    assert [type(report) for report in reports] == [Ended] * 50
    assert len(looks) <= 4
