"""A journal written by the first version must always load, and mean the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sf_runner.basics.paths import RunPaths
from sf_runner.engine.snapshot import snapshot_of
from sf_runner.slots.placement import Placement
from sf_runner.state import events as ev
from sf_runner.state.fold import RunState, replay
from sf_runner.state.jobs import Cancelled, Running, Stopping, Succeeded, Waiting
from sf_runner.store.follower import JournalFollower
from sf_runner.store.journal import Journal
from sf_runner.store.reader import read_journal
from tests.runner.builders import check_consistency

OLD = Path(__file__).parents[1] / "golden" / "journal_v1.jsonl"


@pytest.fixture
def state() -> RunState:
    return replay(read_journal(OLD)[0], OLD)


ADDED_LATER = {"withdrawn", "clock_set"}


def test_it_holds_every_kind_of_event() -> None:
    kinds = {event.kind for event in read_journal(OLD)[0]}
    assert kinds == {cls.kind for cls in ev.EVENT_TYPES} - ADDED_LATER


def test_the_state_of_the_run(state: RunState) -> None:
    assert (state.run_name, state.total) == ("golden", 8)
    assert {name: count for name, count in state.counts.items() if count} == {
        "Succeeded": 6,
        "Stopping": 1,
        "Cancelled": 1,
    }
    assert (state.max_parallel, state.max_retries, state.paused) == (3, 3, False)
    assert state.draining is not None
    assert state.draining.reason == "terminated"
    assert [runner["host"] for runner in state.runners] == ["box"] * 3
    assert state.durations.count == 6
    assert [note.text for note in state.notes if note.level == "warning"] == ["its GPU does not answer"]
    check_consistency(state)


def test_the_state_of_its_jobs(state: RunState) -> None:
    first = state.jobs["ppo_/01_ppo_see_0_u.rnn_True_rec_32"]
    assert first.params == {"seed": 0, "use_rnn": True, "recurrence": 32}
    assert (first.seed, first.attempts, first.index) == ("0", 1, 1)
    assert isinstance(first.state, Succeeded)
    flaky = state.jobs["flaky_/00_flaky"]
    assert (flaky.attempts, flaky.failures, isinstance(flaky.state, Succeeded)) == (2, 1, True)
    assert isinstance(state.jobs["slow_/00_slow"].state, Cancelled)
    bad = state.jobs["bad_/00_bad"]
    assert (bad.attempts, bad.failures, bad.oom_failures, bad.oom_room_mb) == (5, 1, 1, 7000)
    assert (bad.argv[2], bad.shape, bad.timeout_s) == ("raise ValueError('loss is inf')", "gpus=1", 3600.0)
    assert isinstance(bad.state, Stopping)
    assert bad.state.reason == "shutdown"
    assert isinstance(bad.state.running, Running)
    assert bad.state.running.handle["pid"] == 41
    assert Placement.from_json(bad.state.placement).label == "GPU 1, cores 0-1"


def test_a_writer_goes_on_with_it(tmp_path: Path) -> None:
    paths = RunPaths(train_dir=tmp_path, run_name="golden")
    paths.runner_dir.mkdir(parents=True)
    shutil.copy(OLD, paths.journal)
    journal, opened = Journal.open(paths.journal, "golden")
    assert opened.counts == replay(read_journal(OLD)[0], OLD).counts
    reader = JournalFollower(paths.journal)
    assert snapshot_of(reader, paths).state.count("Stopping") == 1
    ended = ev.AttemptEnded(t=1795390100.0, job="bad_/00_bad", attempt=5, verdict="requeue")
    journal.append([ended])
    journal.close()
    assert reader.events() == [ended]
    assert reader.state.count("Waiting") == 1


def test_one_of_a_machine_whose_clock_was_set_and_that_slept() -> None:
    """Set back by 600 s after 10 s; slept for 8 hours at 13 s; restarted at 18 s, the clock set forward by a minute."""
    path = OLD.with_name("journal_v1_clock_set.jsonl")
    events = read_journal(path)[0]
    running, retrying = replay(events, path).jobs.values()
    now = events[-1].t
    assert isinstance(running.state, Running)
    assert running.state.slept_s == pytest.approx(28_800.0)
    assert running.state.elapsed_s(now) == pytest.approx(17.0)
    assert isinstance(retrying.state, Waiting)
    assert retrying.state.not_before <= now
    assert retrying.state.delay_s == pytest.approx(5.0)
