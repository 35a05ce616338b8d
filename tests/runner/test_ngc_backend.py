"""The `ngc` backend when the cloud, its command line or the runner misbehave."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sf_runner.backends.base import Ended, Known, Launch, NotStarted, Remark, Report, Started
from sf_runner.basics.clock import boot_id
from sf_runner.basics.errors import BackendError
from sf_runner.linux.kernel import TAG_VARIABLE, started_up_s
from sf_runner.linux.process_tools import make_tag
from tests.runner.harness import wait_until
from tests.runner.ngc_rig import RUN_ID, NgcRig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[NgcRig]:
    made = NgcRig(tmp_path)
    yield made
    made.close()


def collect(rig: NgcRig, enough: Callable[[list[Report]], bool]) -> list[Report]:
    reports: list[Report] = []
    for _ in range(2000):
        reports += rig.backend.poll(rig.now())
        if enough(reports):
            return reports
        rig.wait()
    raise AssertionError(f"only {reports}")


def seen(kind: type[Report], count: int = 1) -> Callable[[list[Report]], bool]:  # type: ignore[valid-type]
    return lambda reports: sum(isinstance(report, kind) for report in reports) >= count


def only(kind: Any, reports: list[Report]) -> Any:
    (found,) = [report for report in reports if isinstance(report, kind)]
    return found


def remarks(reports: list[Report]) -> list[str]:
    return [report.text for report in reports if isinstance(report, Remark)]


def run_one(rig: NgcRig, job: str = "a") -> list[Report]:
    """Submit it, and wait until it runs."""
    rig.backend.submit(rig.launch(job))
    return collect(rig, seen(Started))


def known(rig: NgcRig, launch: Launch, handle: dict[str, Any] | None = None) -> Known:
    return Known(job=launch.job, attempt=launch.attempt, handle=handle, log=launch.log, exit_record=launch.exit_record)


# ---- submitting --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        {"says": "Error: 503 Service Unavailable", "times": 3},
        {"says": "Client Error: 429 Response: too many requests"},
        {"says": "Error: Connection reset by peer", "after": True},
        {"says": "Error: The request timed out.", "after": True, "code": 7},
    ],
)
def test_what_passes_by_itself_is_tried_again_and_never_submits_twice(rig: NgcRig, fault: dict[str, Any]) -> None:
    rig.cloud.faults({"on": "run", **fault})
    reports = run_one(rig)
    assert len(rig.cloud.jobs()) == 1
    told = remarks(reports)
    assert told[0].startswith(f"NGC takes no jobs: {fault['says']}")
    # A job that turns out to be there after all is no sign that further ones would be taken.
    assert told[1:] == ([] if fault.get("after") else ["NGC takes jobs again"])
    assert not seen(NotStarted)(reports)


def test_a_call_that_takes_too_long_is_given_up_but_not_what_it_did(tmp_path: Path) -> None:
    rig = NgcRig(tmp_path, call_timeout_s=0.5)
    try:
        rig.cloud.faults({"on": "run", "after": True, "sleep_s": 600, "code": None})
        assert "no answer in time" in remarks(run_one(rig))[0]
        assert len(rig.cloud.jobs()) == 1
        assert len(rig.cloud.calls("ngc", "batch", "run")) == 1
    finally:
        rig.close()


@pytest.mark.parametrize("prints", ["Job created.", "{}", '{"id": null}', "[1, 2"])
def test_an_answer_without_an_id_is_made_up_for_by_the_list(rig: NgcRig, prints: str) -> None:
    rig.cloud.faults({"on": "run", "after": True, "prints": prints})
    run_one(rig)
    assert len(rig.cloud.jobs()) == len(rig.cloud.calls("ngc", "batch", "run")) == 1


def test_an_answer_without_an_id_and_without_a_job_is_never_tried_again(rig: NgcRig) -> None:
    rig.cloud.faults({"on": "run", "prints": "Job created."})
    rig.backend.submit(rig.launch("a"))
    report = only(NotStarted, collect(rig, seen(NotStarted)))
    assert report.permanent
    assert report.error == "NGC took it, but its answer cannot be read: it is no JSON: Job created."


def test_noise_around_the_json_does_no_harm(rig: NgcRig) -> None:
    body = json.dumps({"id": 4_000_001, "jobStatus": {"status": "CREATED"}}, indent=2)
    rig.cloud.faults({"on": "run", "after": True, "prints": f"Warning: upgrade your CLI\n{body}\nBye."})
    run_one(rig)
    assert len(rig.cloud.calls("ngc", "batch", "run")) == 1


def test_a_refusal_is_told_and_may_be_tried_again_a_wrong_flag_is_not(rig: NgcRig) -> None:
    rig.cloud.faults({"on": "run", "says": "Error: Image nvcr.io/org/image:1.0 does not exist."})
    rig.backend.submit(rig.launch("a"))
    report = only(NotStarted, collect(rig, seen(NotStarted)))
    assert not report.permanent
    assert report.error == "NGC refused it: Error: Image nvcr.io/org/image:1.0 does not exist. (exit code 1)"
    rig.cloud.faults({"on": "run", "says": "ngc: error: unrecognized arguments: --imgae", "code": 2})
    rig.backend.submit(rig.launch("b"))
    report = only(NotStarted, collect(rig, seen(NotStarted)))
    assert report.permanent
    assert "unrecognized arguments: --imgae (exit code 2)" in report.error
    assert rig.cloud.jobs() == []


def test_ids_are_on_disk_before_the_job_is_known_to_run(rig: NgcRig) -> None:
    rig.cloud.hold_queue()
    rig.backend.submit(rig.launch("a"))
    collect(rig, lambda _: rig.backend.settled())  # type: ignore[attr-defined]
    (line,) = [json.loads(line) for line in rig.ids.read_text().splitlines()]
    assert line["id"] == str(rig.cloud.job("")["id"])
    assert (line["job"], line["attempt"], line["cloud"]) == ("a", 1, "NGC")
    rig.cloud.hold_queue(False)
    collect(rig, seen(Started))


# ---- a runner that was killed ------------------------------------------------------------------------------


def test_a_submission_that_outlived_its_runner_is_waited_for(rig: NgcRig) -> None:
    """The command of a killed runner still runs: asking the list at once would find nothing."""
    rig.cloud.faults({"on": "run", "sleep_s": 1.0, "code": None})
    launch = rig.launch("a")
    env = {**os.environ, TAG_VARIABLE: make_tag(RUN_ID, "a", 1)}
    left = subprocess.Popen(rig.render(launch), env=env, stdout=subprocess.DEVNULL)
    reports = rig.backend.adopt([known(rig, launch)])
    reports += collect(rig, seen(Started))
    assert left.wait() == 0
    assert len(rig.cloud.jobs()) == 1
    assert only(Started, reports).handle["id"] == str(rig.cloud.job("")["id"])


def test_what_was_never_submitted_is_told_only_when_that_is_certain(rig: NgcRig) -> None:
    launch = rig.launch("a")
    reports = rig.backend.adopt([known(rig, launch)])
    assert reports == []
    report = only(Ended, collect(rig, seen(Ended)))
    assert report.record is None
    assert report.fate is None
    assert len(rig.cloud.calls("ngc", "batch", "list")) >= 2, "one list may have been too early"


def test_whether_adopted_jobs_are_over_is_certain_once_the_cloud_has_told(rig: NgcRig) -> None:
    launches = [rig.launch(job) for job in ("lives", "ended")]
    found = rig.elsewhere(*launches)
    rig.finish("ended", 0)
    wait_until("its end", lambda: rig.cloud.ended("ended"))
    assert rig.backend.adopt(found) == []
    assert not rig.backend.certain()  # type: ignore[attr-defined]
    reports = collect(rig, lambda _: rig.backend.certain())  # type: ignore[attr-defined]
    assert only(Ended, reports).job == "ended"


def test_what_another_backend_may_still_run_is_not_touched(rig: NgcRig) -> None:
    launch = rig.launch("a")
    alive = {"pid": os.getpid(), "up": started_up_s(os.getpid()), "boot": boot_id()}
    for handle in (alive, {"slurm": "17_3"}, {"cloud": "another", "id": "4"}):
        with pytest.raises(BackendError, match="'a' was started with another --runner or cloud"):
            rig.backend.adopt([known(rig, launch, handle)])
    gone = {"pid": os.getpid(), "up": 1.0, "boot": "an earlier boot"}
    (report,) = rig.backend.adopt([known(rig, launch, gone)])
    assert report == Ended(job="a", attempt=1, t=report.t, record=None)  # type: ignore[union-attr]


# ---- what the cloud says -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "fate", "kind", "words"),
    [
        ("PREEMPTED", "requeue", "preempted", "was preempted (NGC: PREEMPTED)"),
        ("TASK_LOST", "requeue", "lost", "was lost (NGC: TASK_LOST)"),
        ("GONE", "requeue", "lost", "was lost (NGC: it is not in the list any more)"),
        ("FAILED_RUN_LIMIT_EXCEEDED", "failed", "timeout", "ran longer than its template allows (NGC: FAILED_RUN_"),
        ("KILLED_BY_ADMIN", "cancelled", "cancelled", "was ended from outside (NGC: KILLED_BY_ADMIN)"),
        ("FAILED", "failed", "exit", "failed (NGC: FAILED)"),
    ],
)
def test_states_become_fates_in_words_of_their_own(rig: NgcRig, state: str, fate: str, kind: str, words: str) -> None:
    run_one(rig)
    rig.cloud.force("", state)
    report = only(Ended, collect(rig, seen(Ended)))
    assert (report.fate, report.cause.kind) == (fate, kind)
    assert report.cause.summary.startswith(words)
    record = json.loads(Path(rig.launch("a").exit_record).read_text())
    assert record == report.record
    assert (record["attempt"], record["exit_code"]) == (1, None)
    if fate == "requeue":  # it does not run any more when it is reported
        assert rig.cloud.calls("ngc", "batch", "kill")
        assert rig.cloud.ended("")


def test_a_job_that_is_lost_again_and_again_is_given_up(rig: NgcRig) -> None:
    fates = []
    for attempt in range(1, 8):
        rig.backend.submit(rig.launch("a", attempt=attempt))
        collect(rig, seen(Started))
        rig.cloud.force("", "TASK_LOST")
        fates.append(only(Ended, collect(rig, seen(Ended))).fate)
    assert fates == ["requeue"] * 5 + ["failed"] * 2


def test_a_state_that_nobody_mapped_is_told_once_and_waited_for(rig: NgcRig) -> None:
    run_one(rig)
    rig.cloud.force("", "DREAMING")
    (text,) = remarks(collect(rig, seen(Remark)))
    assert "'DREAMING' that is not in its table of states" in text
    calls = len(rig.cloud.calls("ngc", "batch", "list"))
    more = collect(rig, lambda _: len(rig.cloud.calls("ngc", "batch", "list")) > calls + 2)
    assert more == []
    rig.finish("a", 0)
    rig.cloud.force("", "FINISHED_SUCCESS")
    assert only(Ended, collect(rig, seen(Ended))).record["exit_code"] == 0


def test_a_job_that_the_list_does_not_reach_back_to_is_asked_for(rig: NgcRig) -> None:
    run_one(rig)
    rig.cloud.force("", "HIDDEN")
    collect(rig, lambda _: len(rig.cloud.calls("ngc", "batch", "info")) > 3)
    rig.finish("a", 5)
    assert only(Ended, collect(rig, seen(Ended))).record["exit_code"] == 5


def test_a_list_that_fails_for_a_while_changes_nothing(rig: NgcRig) -> None:
    run_one(rig)
    rig.cloud.faults(
        {"on": "list", "times": 3, "says": "Error: 502 Bad Gateway"},
        {"on": "list", "times": 2, "prints": "<html>Down for maintenance</html>"},
        {"on": "list", "times": 1, "says": "Error: Invalid API key", "code": 1},
    )
    reports = collect(rig, seen(Remark, 2))
    assert remarks(reports) == [
        "NGC cannot be asked: Error: 502 Bad Gateway (exit code 1); submitted jobs go on, trying again ever later",
        "NGC answers again",
    ]
    assert len(reports) == 2
    rig.finish("a", 0)
    assert only(Ended, collect(rig, seen(Ended))).record["exit_code"] == 0


def test_the_jobs_own_record_says_best_how_it_ended(rig: NgcRig) -> None:
    run_one(rig)
    own = {"version": 1, "attempt": 1, "exit_code": 9, "signal": None, "started": 1.0, "ended": 2.0}
    path = Path(rig.launch("a").exit_record)
    path.write_text(json.dumps(own))
    rig.cloud.force("", "FAILED")
    report = only(Ended, collect(rig, seen(Ended)))
    assert (report.record, report.fate, report.cause) == (own, None, None)


def test_the_record_of_a_run_that_was_removed_is_not_taken_for_its_own(rig: NgcRig) -> None:
    path = Path(rig.launch("a").exit_record)
    path.parent.mkdir()
    path.write_text(json.dumps({"version": 1, "attempt": 1, "exit_code": 0, "ended": 2.0}))
    run_one(rig)
    rig.finish("a", 3)
    assert only(Ended, collect(rig, seen(Ended))).record["exit_code"] == 3


# ---- many, and ending them ---------------------------------------------------------------------------------


def test_one_list_serves_all_and_one_command_ends_many(rig: NgcRig) -> None:
    count = 24
    for number in range(count):
        rig.backend.submit(rig.launch(f"job{number}"))
    collect(rig, seen(Started, count))
    assert len(rig.cloud.jobs()) == count
    for number in range(count):
        rig.backend.stop(f"job{number}", "terminate", 5.0)
    reports = collect(rig, seen(Ended, count))
    assert all(report.fate is None for report in reports if isinstance(report, Ended))
    assert rig.cloud.calls("ngc", "batch", "info") == []
    killed = [argv[3].split(",") for argv in rig.cloud.calls("ngc", "batch", "kill")]
    assert len(killed) == 1
    assert len(killed[0]) == count


def test_a_job_that_has_just_ended_does_not_keep_others_alive(rig: NgcRig) -> None:
    for job in ("a", "b"):
        rig.backend.submit(rig.launch(job))
    collect(rig, seen(Started, 2))
    rig.cloud.faults({"on": "list", "times": 1, "says": "503"})
    rig.finish("a", 0)
    for job in ("a", "b"):
        rig.backend.stop(job, "terminate", 5.0)
    reports = collect(rig, seen(Ended, 2))
    records = {report.job: report.record for report in reports if isinstance(report, Ended)}
    assert records["b"]["signal"] == 15  # type: ignore[index]


def test_stopping_what_is_being_submitted(rig: NgcRig) -> None:
    rig.cloud.faults({"on": "run", "sleep_s": 0.3, "code": None})
    rig.backend.submit(rig.launch("a"))
    rig.backend.poll(rig.now())
    rig.backend.submit(rig.launch("b"))
    for job in ("a", "b"):
        rig.backend.stop(job, "terminate", 5.0)
    reports = collect(rig, seen(Ended, 2))
    assert [type(report).__name__ for report in reports if report.job == "a"] == ["Started", "Ended"]
    assert [type(report).__name__ for report in reports if report.job == "b"] == ["Ended"]
    assert len(rig.cloud.jobs()) == 1
    assert rig.cloud.ended("")


def test_letting_go_waits_for_submissions_to_get_their_ids(rig: NgcRig) -> None:
    rig.cloud.faults({"on": "run", "sleep_s": 0.5, "code": None})
    rig.backend.submit(rig.launch("a"))
    rig.backend.poll(rig.now())
    rig.backend.close(detach=True)
    rig.backend.outlive_jobs()
    assert json.loads(rig.ids.read_text())["id"] == str(rig.cloud.job("")["id"])
    rig.backend = rig.open()
    rig.backend.adopt([known(rig, rig.launch("a"))])
    collect(rig, seen(Started))
