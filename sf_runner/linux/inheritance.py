"""The jobs of a parent that was killed: which of our new children is which attempt.

The parent's table tells it, also of jobs that have ended already. The environment tells it of jobs for which the table
had no room.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence

from sf_runner.basics.clock import since_boot_s, steady_s
from sf_runner.linux.exit_record import read_record
from sf_runner.linux.job_table import JobNote, JobTable
from sf_runner.linux.kernel import (
    TAG_VARIABLE,
    ProcessStat,
    is_child,
    process_stat,
    read_environ,
    read_tag,
    session_of,
    started_up_s,
)

_CLOCK_TOLERANCE_S = 0.05
PROGRESS_VARIABLE = "SF_RUNNER_PROGRESS_FILE"
_ATTEMPT_VARIABLE = "SF_RUNNER_ATTEMPT"
_JOB_VARIABLE = "SF_RUNNER_JOB"


def find_jobs(
    tables: Sequence[JobTable], children: Callable[[], Sequence[int]], known: Collection[str]
) -> tuple[dict[int, JobNote], bool]:
    """Jobs of killed parents that have become children of this process: pid -> what is known of the attempt.

    tables: of the parents. children: lists our children that are not known to be jobs. known: tags of known jobs.
    The second value is False when one of the parents is just ending: then it cannot be known yet whose an unknown
    child is.

    A table is read when its writer is dead to the last thread. Only then does it hold its last entry, and only then
    have all children of the writer come to us, ended ones included: the kernel hands them over and makes the process a
    zombie under one lock. So what the table says of our children is final, and it is emptied. A process in it that is
    no child of ours was reaped already, after its exit record was written. A job whose start was only announced is our
    child, too, or never existed.
    """
    over, decided = [], True
    for table in tables:  # before any is read
        writer = process_stat(table.writer)
        if writer is None or writer.ended:
            over.append(table)
        elif writer.leaving:
            decided = False
    found: dict[int, JobNote] = {}
    being_started: list[tuple[JobNote, int]] = []
    for table in over:
        live, announced = table.read()
        found |= {pid: note for pid, note in live.items() if is_child(pid)}
        if announced is not None:
            being_started.append((announced, table.writer))
        table.clear()
    others = [pid for pid in children() if pid not in found]
    tags = {*known, *(note.tag for note in found.values())}
    for pid in others:
        if session_of(pid) == pid and (note := _note_of(pid)) is not None and note.tag not in tags:
            found[pid] = note
            tags.add(note.tag)
    for note, parent in being_started:
        child = _being_started(note, parent, [pid for pid in others if pid not in found])
        if child is not None and note.tag not in tags:
            found[child] = note
            tags.add(note.tag)
    return found, decided


def _note_of(pid: int) -> JobNote | None:
    """What the environment of a process tells of its attempt; None when it is no job's main process."""
    env = read_environ(pid)
    try:
        directory, attempt = os.path.dirname(env[PROGRESS_VARIABLE]), int(env[_ATTEMPT_VARIABLE])  # noqa: PTH120
        note = JobNote(
            job=env[_JOB_VARIABLE],
            attempt=attempt,
            tag=env[TAG_VARIABLE],
            log=f"{directory}/attempt_{attempt}.log",
            exit_record=f"{directory}/exit.json",
            **_times_of(pid),
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
    return stat if stat.started_up_s >= note.up - _CLOCK_TOLERANCE_S else None


def _times_of(pid: int) -> dict[str, float]:
    """When a process started, as a note says it. Sleep of the machine since then is not known of."""
    now = since_boot_s()
    up = started_up_s(pid) or now
    return {"started": time.time() - (now - up), "up": up, "steady": steady_s() - (now - up)}
