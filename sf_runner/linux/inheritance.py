"""Taking over the jobs of a parent that was killed: which of our new children is which attempt.

Its table tells, of jobs that have ended already too; of those it had no room for, their environment does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from sf_runner.linux.job_parent import JobParent, read_record
from sf_runner.linux.job_table import JobNote, JobTable
from sf_runner.linux.kernel import (
    TAG_VARIABLE,
    ProcessStat,
    process_stat,
    read_environ,
    read_tag,
    session_of,
    uptime_s,
)

_CLOCK_TOLERANCE_S = 0.05
_PROGRESS_VARIABLE = "SF_RUNNER_PROGRESS_FILE"
_ATTEMPT_VARIABLE = "SF_RUNNER_ATTEMPT"
_JOB_VARIABLE = "SF_RUNNER_JOB"


def inherit(heir: JobParent, tables: Sequence[JobTable]) -> bool:
    """Make `heir` the parent of every job that has become a child of this process.

    tables: those whose jobs come to this process when their writer is dead. False: one of the writers is just ending,
    so that it cannot be told yet whose an unknown child is.

    A table is read when its writer is dead to its last thread, not before: only then has it got its last entry, and
    only then have all of its children, ended ones included, come to us (the kernel hands them over and makes the
    process a zombie under one lock). So what it says of our children is final, and it is emptied. What it says of a
    process that is no child of ours was already reaped, its exit record being on disk. A job of which only the start
    was announced has become our child, too, or never existed.
    """
    over, decided = [], True
    for table in tables:  # before any is read
        writer = process_stat(table.writer)
        if writer is None or writer.ended:
            over.append(table)
        elif writer.leaving:
            decided = False
    being_started: list[tuple[JobNote, int]] = []
    emptied = []
    for table in over:
        live, announced = table.read()
        for pid, note in live.items():
            heir.inherit(pid, note)
        if announced is not None:
            being_started.append((announced, table.writer))
        if live or announced is not None:
            emptied.append(table)
    for pid in heir.others():
        if session_of(pid) == pid and (known := _note_of(pid)) and known.tag not in heir.live:
            heir.inherit(pid, known)
    for note, parent in being_started:
        child = _being_started(note, parent, heir.others()) if note.tag not in heir.live else None
        if child is not None:
            heir.inherit(child, note)
    for table in emptied:  # not before: `heir` may be killed, too, and has now told its own heir
        table.clear()
    return decided


def tables_to_read(
    earlier: Sequence[JobTable], last: Sequence[JobTable], guardian: ProcessStat | None
) -> Sequence[JobTable] | None:
    """Which tables may speak of a child that has come to a guardian of a guardian; None: that cannot be told yet.

    earlier: of guardians that are gone and their runners. last: of the guardian that runs now and its runner.
    guardian: that one now, after the child was seen. None: there is no such process.

    A killed runner's jobs go to its guardian. But as soon as that has begun to end the kernel passes it over, so jobs
    come to us while it still looks alive (it has memory to free first); others, that it got just before, come to us
    only when it is a zombie. So while it is ending the tables would be read too early. When it has not even begun, the
    child cannot have come from its runner.
    """
    if guardian is None or guardian.ended:
        return (*earlier, *last)
    return None if guardian.leaving else earlier


def _note_of(pid: int) -> JobNote | None:
    """What the environment of a process tells of its attempt; None when it is no job's main process."""
    env = read_environ(pid)
    try:
        directory, attempt = os.path.dirname(env[_PROGRESS_VARIABLE]), int(env[_ATTEMPT_VARIABLE])  # noqa: PTH120
        note = JobNote(
            job=env[_JOB_VARIABLE],
            attempt=attempt,
            tag=env[TAG_VARIABLE],
            log=f"{directory}/attempt_{attempt}.log",
            exit_record=f"{directory}/exit.json",
            started=time.time(),
        )
    except (KeyError, ValueError):
        return None
    # A runner that runs as a job has that job's variables; and a daemon has those of a job that ended before it.
    own = note.tag == os.environ.get(TAG_VARIABLE)
    return None if own or read_record(note.exit_record, attempt) is not None else note


def _being_started(note: JobNote, parent: int, children: Sequence[int]) -> int | None:
    """The child that is the job of which `parent` was killed while starting it; None when it did not get so far."""
    if read_record(note.exit_record, note.attempt) is not None:
        return None
    found = [(stat.started_up_s, pid) for pid in children if (stat := _could_be(pid, note, parent)) is not None]
    return max(found)[1] if found else None


def _could_be(pid: int, note: JobNote, parent: int) -> ProcessStat | None:
    """It may have ended since, and a zombie has no environment; or not have become that program yet, and then it has
    the environment of `parent`. But it cannot have ended without having made its log file before."""
    stat = process_stat(pid)
    if pid == parent or stat is None or stat.session not in (pid, parent):
        return None
    if stat.ended and not os.path.exists(note.log):  # noqa: PTH110
        return None
    if read_tag(pid) not in ("", note.tag, os.environ.get(TAG_VARIABLE)):
        return None
    age_s = uptime_s() - stat.started_up_s
    return stat if age_s - _CLOCK_TOLERANCE_S <= time.time() - note.started else None
