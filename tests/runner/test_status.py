"""The status command: what it says of a run, live or over, to people and to programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sf_runner import status
from sf_runner.basics.errors import StorageError
from sf_runner.basics.paths import RunPaths
from sf_runner.engine import snapshot
from sf_runner.engine.snapshot import read_run
from sf_runner.state import events as ev
from sf_runner.store.follower import JournalFollower
from sf_runner.store.lock import run_lock
from tests.runner.golden import FOLDER, assert_golden

NOW = 1795390200.0


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunPaths:
    """The old journal's run, as it was while its runner was at work: 200 s after its third start."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.time", lambda: NOW)
    run = RunPaths(train_dir=Path("train_dir"), run_name="golden")
    run.runner_dir.mkdir(parents=True)
    shutil.copy(FOLDER / "journal_v1.jsonl", run.journal)
    return run


def say(run: RunPaths, job: str, **fields: object) -> None:
    path = run.job(job).progress
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"time": NOW - 10.0, **fields}))


def output(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert status.main(argv) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_a_live_run(paths: RunPaths, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "is_held", lambda paths: True)
    say(paths, "bad_/00_bad", step=300_000, total=1_000_000, fps=12_345.6, eta_s=600.0, phase="train")
    assert_golden("status_live.txt", output(capsys, "golden"))


def test_a_run_whose_runner_is_gone(paths: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "golden")
    assert "1 left running, no runner is at work on it: start the same command again to go on" in text
    # Nobody knows how long it really ran: as long as the runner saw it.
    assert "ending     5    21 s" in text


def test_only_some_states(paths: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "golden", "--state=cancelled", "--state=ending")
    assert [line.split()[0] for line in text.splitlines()[2:-1]] == ["ending", "cancelled"]


def test_for_programs(paths: RunPaths, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "is_held", lambda paths: True)
    say(paths, "bad_/00_bad", step=3, total=10, fps=5.0, eta_s=600.0, metrics={"reward": 1.5})
    assert_golden("status_live.json", output(capsys, "golden", "--json"))


def test_states_can_be_chosen_for_programs_too(paths: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    body = json.loads(output(capsys, "golden", "--json", "--state=cancelled"))
    assert [job["job"] for job in body["jobs"]] == ["slow_/00_slow"]
    assert body["total"] == 8


def test_all_runs(paths: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    other = RunPaths(train_dir=Path("train_dir"), run_name="broken")
    other.runner_dir.mkdir(parents=True)
    other.journal.write_text("not a journal\n")
    (Path("train_dir") / "no_run").mkdir()
    broken, golden = output(capsys).splitlines()
    assert broken.startswith("error: train_dir/broken/.runner/journal.jsonl is not a journal of sf_runner")
    assert golden.startswith("golden: 6 of 8 succeeded, 1 cancelled, 1 left running")
    broken, golden = map(json.loads, output(capsys, "--json").splitlines())
    assert broken["run"] == "broken"
    assert "is not a journal" in broken["error"]
    assert (golden["run"], golden["counts"]) == ("golden", {"succeeded": 6, "ending": 1, "cancelled": 1})


def test_no_runs_at_all(paths: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "--train_dir=elsewhere") == "no runs under --train_dir=elsewhere\n"
    assert output(capsys, "--train_dir=elsewhere", "--json") == ""


def test_an_unknown_run_names_the_nearest(paths: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    assert status.main(["golde"]) == 2
    error = "error: No run 'golde' under --train_dir=train_dir. Did you mean 'golden'?\n"
    assert capsys.readouterr().err.replace("./train_dir", "train_dir") == error


def test_a_run_by_its_folder(paths: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "train_dir/golden", "--train_dir=elsewhere").startswith("run golden: 6 of 8 succeeded")


def test_a_run_that_has_no_journal_yet(paths: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    paths.journal.unlink()
    assert status.main(["golden"]) == 1
    assert capsys.readouterr().err.startswith("error: run 'golden' has no journal yet (train_dir/golden/.runner/")


def test_a_journal_that_was_just_created_is_empty(paths: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    paths.journal.write_text("")
    assert output(capsys, "golden").splitlines()[1].split() == [
        "state",
        "try",
        "time",
        "progress",
        "slot",
        "experiment",
    ]


def test_a_live_run_is_known_by_its_lock(paths: RunPaths) -> None:
    assert not read_run(paths).live
    with run_lock(paths):
        assert read_run(paths).live
    assert not read_run(paths).live


# ---- reading -----------------------------------------------------------------------------------------------------


def test_what_an_earlier_attempt_left_behind_is_not_shown(paths: RunPaths) -> None:
    say(paths, "bad_/00_bad", step=999_999, total=1_000_000)
    assert read_run(paths).progress["bad_/00_bad"].step == 999_999
    path = paths.job("bad_/00_bad").progress
    path.write_text(json.dumps({"attempt": 99, "step": 999_999, "total": 1_000_000}))
    assert read_run(paths).progress == {}


def test_a_reader_reads_only_what_is_new(paths: RunPaths) -> None:
    reader = JournalFollower(paths.journal)
    assert len(reader.events()) == len(paths.journal.read_text().splitlines())
    assert reader.events() == []
    with paths.journal.open("a") as file:
        file.write(ev.encode(ev.RunClosed(t=NOW, exit_code=1)) + "\n" + '{"e":"no')
    assert reader.events() == [ev.RunClosed(t=NOW, exit_code=1)]
    assert reader.state.closed is not None


def test_a_reader_names_the_line_that_makes_no_sense(paths: RunPaths) -> None:
    reader = JournalFollower(paths.journal)
    count = len(reader.events())
    with paths.journal.open("a") as file:
        file.write(ev.encode(ev.JobCancelled(t=NOW, job="who")) + "\n")
    with pytest.raises(StorageError, match=rf"journal\.jsonl: line {count + 1} \(cancelled\) contradicts"):
        reader.events()


def test_an_unplanned_job_is_shown_while_it_runs(paths: RunPaths) -> None:
    def shown() -> list[str]:
        return [record.job_id for record in snapshot.shown_jobs(read_run(paths).state)]

    with paths.journal.open("a") as file:
        gone = [{"id": job, "planned": False} for job in ("bad_/00_bad", "slow_/00_slow")]
        file.write(ev.encode(ev.JobsChanged(t=NOW, jobs=gone)) + "\n")
    assert "bad_/00_bad" in shown()
    assert "slow_/00_slow" not in shown()
    with paths.journal.open("a") as file:
        ended = ev.AttemptEnded(t=NOW, job="bad_/00_bad", attempt=5, verdict="requeue")
        file.write(ev.encode(ended) + "\n")
    assert "bad_/00_bad" not in shown()


# ---- large runs --------------------------------------------------------------------------------------------------


def test_a_large_run_is_listed_in_part(
    paths: RunPaths, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = output(capsys, "golden").splitlines()
    monkeypatch.setattr(status, "_LISTED", 3)
    head, columns, *rows = output(capsys, "golden").splitlines()
    assert (head, columns.split()) == (everything[0], everything[1].split())
    # What runs comes first, then what was cancelled, in the order of the description.
    assert [row.split()[0] for row in rows[:3]] == ["succeeded", "ending", "cancelled"]
    assert rows[3] == "... and 5 more (--state=failed lists those, --all every one)"
    assert output(capsys, "golden", "--all").splitlines() == everything
    assert "more" not in output(capsys, "golden", "--state=ending")


@pytest.mark.parametrize("states", [(), ("--state=failed",), ("--state=ending",), ("--state=succeeded",)])
def test_json_is_written_job_by_job(paths: RunPaths, capsys: pytest.CaptureFixture[str], states: tuple[str]) -> None:
    text = output(capsys, "golden", "--json", *states)
    assert text == json.dumps(json.loads(text), indent=1) + "\n"
    assert len(json.loads(text)["jobs"]) == {(): 8, ("--state=failed",): 0, ("--state=ending",): 1}.get(states, 6)


@pytest.mark.parametrize(
    "value", [{}, [], {"a": [1, 2.5, None, True], "b": {"ü": "x\ny", "c": []}, "d": ((1,), {})}, "x"]
)
def test_json_as_the_library_writes_it(value: object) -> None:
    assert status._indented(value, 0) == json.dumps(value, indent=1)
