"""The state kept beside a large journal: it means what the journal means, and is believed only while it fits."""

from __future__ import annotations

import gc
import json
import os
import shutil
from dataclasses import fields
from pathlib import Path

import pytest

from sf_runner.basics.paths import STATE_CACHE
from sf_runner.state import events as ev
from sf_runner.state.compact import _OF_JOBS, columns_of, state_of
from sf_runner.state.fold import RunState, replay
from sf_runner.state.jobs import JobRecord
from sf_runner.store import follower as follower_module
from sf_runner.store import journal as journal_module
from sf_runner.store.follower import JournalFollower
from sf_runner.store.journal import Journal
from sf_runner.store.reader import JournalReader, read_journal
from sf_runner.store.state_cache import StateCache
from tests.runner.builders import check_consistency, essence, eventful, opened, opening, simple_plan
from tests.runner.golden import FOLDER

OLD = FOLDER / "journal_v1.jsonl"


@pytest.fixture(autouse=True)
def _every_journal_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (follower_module, journal_module):
        monkeypatch.setattr(module, "WORTH_A_CACHE", 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The journal of an old run, with jobs in every state."""
    path = tmp_path / "run" / ".runner" / "journal.jsonl"
    path.parent.mkdir(parents=True)
    shutil.copy(OLD, path)
    return path


def cache_of(path: Path) -> Path:
    return path.with_name(STATE_CACHE)


def read(path: Path) -> RunState:
    found = JournalFollower(path)
    found.catch_up()
    check_consistency(found.state)
    return found.state


def from_cache(path: Path) -> RunState | None:
    return StateCache(cache_of(path)).load(JournalReader(path))


def append(path: Path, *events: ev.Event) -> None:
    with path.open("a") as file:
        file.writelines(ev.encode(event) + "\n" for event in events)


def everything(state: RunState) -> dict[str, object]:
    """More than `essence`: what people see, too."""
    apart = {"jobs", "active", "failed", "durations", "failing_this_session", "counts"}
    plain = {field.name for field in fields(RunState)} - apart
    return {
        **essence(state),
        **{name: getattr(state, name) for name in plain if not name.startswith("_")},
        "failed": sorted(state.failed),
        "m2": state.durations.m2,
        "active order": list(state.active),
        "order": list(state.jobs),
        "ready": [record.job_id for record in state.ready()],
        "delayed": state.next_delayed_at(),
    }


@pytest.fixture
def busy(path: Path) -> Path:
    path.write_text("".join(ev.encode(event) + "\n" for event in eventful()))
    return path


@pytest.mark.parametrize("which", ["path", "busy"])
def test_the_state_comes_back_whole(which: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(which)
    expected = replay(read_journal(path)[0], path)
    reader = JournalReader(path)
    again = state_of(json.loads(json.dumps(columns_of(expected))), reader.entries)
    assert everything(again) == everything(expected)
    check_consistency(again)
    assert everything(read(path)) == everything(expected)
    cached = from_cache(path)
    assert cached is not None
    assert everything(cached) == everything(expected)
    assert everything(read(path)) == everything(expected)


def test_reading_goes_on_from_every_line(busy: Path) -> None:
    lines = busy.read_bytes().splitlines(keepends=True)
    for number in range(1, len(lines) + 1):
        cache_of(busy).unlink(missing_ok=True)
        busy.write_bytes(b"".join(lines[:number]) + b'{"e":"no')
        read(busy)
        busy.write_bytes(b"".join(lines))
        found = JournalFollower(busy)
        found.catch_up()
        assert everything(found.state) == everything(replay(read_journal(busy)[0], busy)), number
        assert found.reader.position.lines == len(lines)


def test_a_follower_goes_on_and_names_the_right_line(busy: Path) -> None:
    count = busy.read_bytes().count(b"\n")
    read(busy)
    found = JournalFollower(busy)
    found.catch_up()
    append(busy, ev.RunClosed(t=20.0, exit_code=1))
    assert found.poll() == ([ev.RunClosed(t=20.0, exit_code=1)], False)
    append(busy, ev.JobCancelled(t=21.0, job="who"))
    with pytest.raises(ev.JournalError, match=rf"line {count + 2} \(cancelled\) contradicts"):
        found.poll()
    with pytest.raises(ev.JournalError, match=rf"line {count + 2} "):
        read(busy)


def test_a_reader_with_the_state_beside_it_reads_no_old_line(busy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = everything(read(busy))
    append(busy, ev.Note(t=30.0, text="new", level="info"))
    decoded: list[str] = []
    decode = ev.decode
    monkeypatch.setattr("sf_runner.store.reader.decode", lambda line: decoded.append(line) or decode(line))
    assert everything(read(busy)) != expected
    assert len(decoded) == 1 + 1  # and the line that describes the jobs, which `essence` asks for


# ---- what is not believed ---------------------------------------------------------------------------------------


def other_byte(path: Path) -> None:
    """As an editor would: same size, written in place."""
    data = path.read_bytes()
    times = path.stat()
    path.write_bytes(data.replace(b'"text":"look"', b'"text":"LOOK"'))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def shorter(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))


def without_a_line(path: Path) -> None:
    lines = [line for line in path.read_bytes().splitlines(keepends=True) if b'"launching"' not in line]
    path.write_bytes(b"".join(lines))
    append(path, *(ev.Note(t=40.0 + number, text="more") for number in range(9)))


def begun_anew(path: Path) -> None:
    first = ev.JournalCreated(t=1.0, version=1, run_id="another", run_name="study")
    path.write_text("".join(ev.encode(event) + "\n" for event in [first, *eventful()[1:]]))


@pytest.mark.parametrize("change", [other_byte, shorter, without_a_line, begun_anew])
def test_a_changed_journal_is_read_anew(busy: Path, change: object) -> None:
    before = everything(read(busy))
    assert callable(change)
    change(busy)
    assert from_cache(busy) is None
    expected = everything(replay(read_journal(busy)[0], busy))
    assert expected != before
    assert everything(read(busy)) == expected
    assert from_cache(busy) is not None


def test_a_copy_of_a_run_keeps_it(busy: Path, tmp_path: Path) -> None:
    expected = everything(read(busy))
    copy = tmp_path / "copy" / ".runner" / busy.name
    shutil.copytree(busy.parent, copy.parent)
    cached = from_cache(copy)
    assert cached is not None
    assert everything(cached) == expected


@pytest.mark.parametrize("damage", ["torn", "flipped", "newer", "older", "empty", "other", "folder"])
def test_a_damaged_one_is_not_believed(busy: Path, damage: str) -> None:
    expected = everything(read(busy))
    cache = cache_of(busy)
    data = cache.read_bytes()
    damaged = {
        "torn": data[: len(data) // 2],
        "flipped": data.replace(b'"succeeded_this_session":1', b'"succeeded_this_session":7'),
        "newer": data.replace(b'"format":2', b'"format":3', 1),
        "older": data.replace(b'"format":2', b'"format":1', 1),
        "empty": b"",
        "other": b"[1]\n{}\n",
        "folder": b"",
    }[damage]
    assert damaged != data
    cache.unlink()
    if damage == "folder":
        cache.mkdir()
    else:
        cache.write_bytes(damaged)
    assert from_cache(busy) is None
    assert everything(read(busy)) == expected


def test_a_folder_that_cannot_be_written_has_none(busy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, mode: str = "r", *args: object, **more: object) -> object:
        if "w" in mode:
            raise PermissionError(13, "Permission denied")
        return real(self, mode, *args, **more)  # type: ignore[arg-type]

    real = Path.open
    monkeypatch.setattr(Path, "open", refuse)
    assert read(busy).total == 11
    assert sorted(entry.name for entry in busy.parent.iterdir()) == [busy.name]


def test_a_small_journal_has_none(busy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower_module, "WORTH_A_CACHE", 2 << 20)
    read(busy)
    assert not cache_of(busy).exists()


def test_a_journal_replaced_while_it_is_followed_leaves_nothing_false(busy: Path) -> None:
    found = JournalFollower(busy)
    found.catch_up()
    begun_anew(busy)  # same inode, same size or more
    append(busy, ev.RunClosed(t=50.0, exit_code=0))
    assert found.catch_up()
    assert found.state.run_id == "another"
    assert found.state.closed is not None


# ---- the writing side -------------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path: Path) -> tuple[Journal, RunState]:
    journal, state = Journal.open(tmp_path / "new" / ".runner" / "journal.jsonl", "study")
    for event in opening(simple_plan(3), state):
        located = journal.located(event) if isinstance(event, ev.JobsPlanned | ev.JobsChanged) else event
        journal.append([located])
        state.apply(located)
    assert journal.flush()
    return journal, state


def test_the_runner_leaves_it_now_and_then(written: tuple[Journal, RunState]) -> None:
    journal, state = written
    journal.cache(state, every=1 << 20)
    assert not cache_of(journal.path).exists()
    journal.cache(state, every=1)
    size = journal.path.stat().st_size
    journal.append([event := ev.PaceChanged(t=5.0, paused=True)])
    state.apply(event)
    journal.cache(state, every=1)  # not everything is written: it would not be what the journal says
    journal.close(state)
    header = json.loads(cache_of(journal.path).open().readline())
    assert header["offset"] == journal.path.stat().st_size > size
    cached = from_cache(journal.path)
    assert cached is not None
    assert cached.paused
    assert everything(cached) == everything(replay(read_journal(journal.path)[0], ""))


def test_it_says_nothing_when_somebody_else_writes_the_journal_too(written: tuple[Journal, RunState]) -> None:
    journal, state = written
    append(journal.path, ev.Note(t=1.0, text="of another runner"))
    journal.close(state)
    assert not cache_of(journal.path).exists()


def test_details_are_read_where_they_stand(written: tuple[Journal, RunState]) -> None:
    journal, state = written
    argvs = [list(record.argv) for record in state.jobs.values()]
    assert argvs == [["true", f"--seed={seed}", *argv[2:]] for seed, argv in enumerate(argvs)]
    assert [record.params for record in state.jobs.values()] == [{"seed": seed} for seed in range(3)]
    assert [record.seed for record in state.jobs.values()] == ["0", "1", "2"]
    journal.close()
    journal.path.unlink()
    other = read_other(journal.path)
    assert [record.argv for record in other.values()] == [()] * 3  # nothing is better than what is another job's


def read_other(path: Path) -> dict[str, object]:
    state = RunState()
    reader = JournalReader(path)
    event = opening(simple_plan(3), state)[1]
    assert isinstance(event, ev.JobsPlanned)
    state.apply(opened())
    state.apply(ev.JobsPlanned(t=0.0, jobs=event.jobs, line=ev.JournalLine(reader.entries, 0)))
    return dict(state.jobs)


def test_the_collection_of_garbage_goes_on_after_reading(busy: Path) -> None:
    assert gc.isenabled()
    read(busy)
    assert gc.isenabled()
    append(busy, ev.JobCancelled(t=21.0, job="who"))
    with pytest.raises(ev.JournalError):
        read(busy)
    assert gc.isenabled()


def test_everything_that_is_known_of_a_job_is_kept() -> None:
    """Whoever adds to it adds a column, and counts up the format if its meaning changed."""
    assert {*_OF_JOBS, "job_id", "details", "state"} == set(JobRecord.__slots__)
