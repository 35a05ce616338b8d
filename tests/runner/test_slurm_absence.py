"""When a task that squeue does not show is believed to be gone."""

from __future__ import annotations

from typing import Any

import pytest

from sf_runner.backends.slurm.absence import PATIENCE_S, Absence, find_out, unasked
from sf_runner.backends.slurm.answers import SEPARATOR, Entry, Listing, Place, parse_accounting, parse_jobs, parse_queue
from sf_runner.backends.slurm.client import Sighting
from sf_runner.backends.slurm.task_records import TaskHistory

GONE = Sighting(listing=None, accounting=Listing(), sure=True)
ARRAY_THERE = Sighting(listing=Listing(tasks={9: Entry(state="RUNNING")}), accounting=Listing(), sure=True)
NEVER = TaskHistory()


def begun(*, beat_s: float = 15.0, ended: bool = False) -> TaskHistory:
    history = TaskHistory()
    history.apply({"e": "begin", "t": 1.0, "n": 1, "array": "7", "node": "n1", "beat_s": beat_s})
    history.apply({"e": "start", "t": 1.0, "job": "a", "attempt": 1, "pid": 5})
    if ended:
        history.apply({"e": "end", "t": 2.0, "job": "a", "attempt": 1, "told": "limit", "record": None})
    return history


def ask(absence: Absence, sighting: Sighting, history: TaskHistory, now: float, **more: Any) -> Entry | str:
    told = {"printed": False, "stopping": False, **more}
    return find_out(absence, 0, sighting, history, now=now, **told)


def test_what_never_began_is_gone_when_the_controller_says_so_for_long_enough() -> None:
    absence = Absence(since=100.0)
    assert ask(absence, GONE, NEVER, 101.0) == ""
    assert ask(absence, GONE, NEVER, 102.0) == ""
    assert ask(absence, GONE, NEVER, 100.0 + PATIENCE_S) == "VANISHED"


def test_one_denial_is_not_enough_however_late_it_comes() -> None:
    assert ask(Absence(since=0.0), GONE, NEVER, 1000.0) == ""


def test_the_controllers_word_counts_more_than_squeues() -> None:
    absence = Absence(since=0.0, denials=5)
    there = Sighting(listing=Listing(tasks={0: Entry(state="RUNNING")}), accounting=Listing(), sure=True)
    assert ask(absence, there, begun(), 500.0) == Entry(state="RUNNING")
    assert (absence.denials, absence.since) == (0, 500.0)


def test_accounting_knows_how_it_ended_but_not_that_it_goes_on() -> None:
    for state, expected in (("CANCELLED by 0", "CANCELLED by 0"), ("NODE_FAIL", "NODE_FAIL"), ("RUNNING", "")):
        kept = Sighting(listing=None, accounting=Listing(tasks={0: Entry(state=state)}), sure=True)
        assert ask(Absence(since=0.0), kept, NEVER, 1.0) == expected


def test_accounting_that_cannot_be_asked_may_know_more() -> None:
    absence = Absence(since=0.0)
    unsure = Sighting(listing=None, accounting=Listing(), sure=False)
    assert ask(absence, unsure, NEVER, 50.0) == ask(absence, unsure, NEVER, 60.0) == ""
    assert ask(absence, unsure, NEVER, 900.0) == "VANISHED"


def test_a_wrapper_that_shows_signs_of_life_is_never_gone() -> None:
    absence, history = Absence(since=0.0), begun()
    for now in range(0, 1000, 15):
        absence.heard(now, float(now))
        assert ask(absence, GONE, history, float(now)) == ""
    assert absence.lives
    assert ask(absence, GONE, history, 1000.0 + 60.0) == ""
    assert ask(absence, GONE, history, 1000.0 + 90.0) == "VANISHED", "it has been quiet for long"


def test_one_of_an_earlier_version_shows_none_and_is_believed_by_its_records() -> None:
    absence, history = Absence(since=0.0), begun(beat_s=0.0)
    assert ask(absence, GONE, history, 1.0) == ask(absence, GONE, history, 1e6) == ""
    assert ask(absence, GONE, begun(beat_s=0.0, ended=True), 1e6) == "VANISHED"
    assert ask(absence, GONE, history, 1e6, stopping=True) == "VANISHED", "nothing depends on its coming back"


def test_what_was_taken_out_of_its_array_before_it_began_was_cancelled() -> None:
    assert ask(Absence(since=0.0, denials=1), ARRAY_THERE, NEVER, 1.0) == "CANCELLED"
    assert ask(Absence(since=0.0, denials=1), ARRAY_THERE, NEVER, 1.0, printed=True) == "", "its script was started"
    assert ask(Absence(since=0.0, denials=1), ARRAY_THERE, begun(), 1.0) == ""


@pytest.mark.parametrize("indices", ["N/A", ""])
def test_what_is_left_of_an_array_stands_for_all_that_is_not_listed(indices: str) -> None:
    arrays: dict[Place, Listing] = {}
    marks: dict[str, set[Place]] = {}
    lines = [
        ("773", indices, "CANCELLED", "None", "", "/b/script.sh", "sf_runner /b"),
        ("773", "0", "RUNNING", "None", "n1", "/b/script.sh", "sf_runner /b"),
    ]
    text = "CLUSTER: c\n" + "\n".join(SEPARATOR.join(line) for line in lines)
    parse_queue(text, "c", arrays, marks)
    listing = arrays["c", "773"]
    states = [entry.state for index in range(3) if (entry := listing.find(index))]
    assert states == ["RUNNING", "CANCELLED", "CANCELLED"]
    assert marks["/b/script.sh"] == marks["sf_runner /b"] == {("c", "773")}


def test_the_same_in_scontrols_words() -> None:
    listing = parse_jobs(
        "JobId=1 ArrayJobId=1 ArrayTaskId=4294967294 JobName=s JobState=CANCELLED Reason=JobArrayTaskLimit NodeList=\n"
        "JobId=2 ArrayJobId=1 ArrayTaskId=0 JobName=s JobState=RUNNING Reason=None ReqNodeList=(null) NodeList=n1\n"
        "JobId=3 ArrayJobId=1 ArrayTaskId=5-7%1 JobName=s JobState=PENDING Reason=Priority NodeList=\n"
    )
    assert listing.find(0) == Entry(state="RUNNING", reason="None", node="n1")
    assert [listing.find(index).state for index in (6, 9)] == ["PENDING", "CANCELLED"]  # type: ignore[union-attr]


def test_the_same_in_accountings_words() -> None:
    listing = parse_accounting("1_0|NODE_FAIL\n1_0|COMPLETED\n1|CANCELLED by 0\n1_[2-3]|PENDING\n")
    states = [listing.find(index).state for index in range(4)]  # type: ignore[union-attr]
    assert states == ["COMPLETED", "CANCELLED by 0", "PENDING", "PENDING"]


def test_where_scontrol_cannot_be_asked_squeue_is_believed_in_the_end() -> None:
    absence, history = Absence(since=0.0, squeue=Entry(state="NODE_FAIL")), begun()
    absence.heard(1, 10.0)
    assert unasked(absence, history, 60.0) is None
    assert unasked(absence, history, 130.0) == Entry(state="NODE_FAIL")
    absence.heard(2, 130.0)
    assert unasked(absence, history, 140.0) is None, "its wrapper lives"
    assert unasked(Absence(since=0.0), history, 1e6) is None


def test_what_is_to_end_and_never_began_need_not_be_waited_for() -> None:
    assert ask(Absence(since=0.0, denials=1), GONE, NEVER, 1.0, stopping=True) == "VANISHED"
