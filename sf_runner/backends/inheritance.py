"""Taking over the jobs of a parent that was killed: which of our new children is which attempt.

Its table tells, of jobs that have ended already too; of those it had no room for, their environment does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from sf_runner.backends.job_parent import JobParent, read_record
from sf_runner.backends.job_table import JobNote, JobTable
from sf_runner.backends.kernel import (
    TAG_VARIABLE,
    process_stat,
    read_environ,
    read_tag,
    session_of,
    started_up_s,
    uptime_s,
)

_CLOCK_TOLERANCE_S = 0.05
_PROGRESS_VARIABLE = "SF_RUNNER_PROGRESS_FILE"
_ATTEMPT_VARIABLE = "SF_RUNNER_ATTEMPT"
_JOB_VARIABLE = "SF_RUNNER_JOB"


def inherit(heir: JobParent, tables: Sequence[JobTable], *, ours: Sequence[JobTable]) -> None:
    """Make `heir` the parent of every job that has become a child of this process.

    ours: those tables whose jobs come to this process when their writer is dead. What a dead writer left in them is
    looked at once: a job of which only its start was announced has either become our child by then or never existed.
    """
    being_started: list[JobNote] = []
    writers = {table.writer for table in tables}
    for table in tables:
        is_over = table in ours and started_up_s(table.writer) is None  # before it is read: nothing comes after that
        live, unclear = table.read()
        for pid, note in live.items():
            heir.inherit(pid, note)
        if is_over:
            being_started += [unclear] if unclear is not None else []
            table.clear()
    others = heir.others()
    for pid in others:
        if session_of(pid) == pid and (known := _note_of(pid)) and known.tag not in heir.live:
            heir.inherit(pid, known)
    for note in being_started:
        if note.tag not in heir.live:
            found = [pid for pid in others if pid not in writers and _just_started(pid, note)]
            if found:
                heir.inherit(found[0], note)


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


def _just_started(pid: int, note: JobNote) -> bool:
    """Whether a child is the job that was being started when the runner was killed: it may have ended since, or not
    even have become that program yet."""
    stat = process_stat(pid)
    if stat is None or read_record(note.exit_record, note.attempt) is not None:
        return False
    if read_tag(pid) not in ("", note.tag, os.environ.get(TAG_VARIABLE)):
        return False
    age_s = uptime_s() - stat.started_up_s
    return age_s - _CLOCK_TOLERANCE_S <= time.time() - note.started
