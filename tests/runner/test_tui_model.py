"""Layout, order and rows: what is listed, how much room it gets, and what it costs."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_runner.progress import Progress, read_progress
from sf_runner.slots.devices import GpuInfo, GpuProcess, GpuSnapshot
from sf_runner.state import events as ev
from sf_runner.state.fold import RunState
from sf_runner.tui import order as order_module
from sf_runner.tui import sampler as sampler_module
from sf_runner.tui.layout import make_columns, make_layout
from sf_runner.tui.machine import GpuRows, MachineProbe
from sf_runner.tui.order import JobOrder
from sf_runner.tui.sampler import Sampler, read_course
from sf_runner.tui.survey import Survey
from sf_runner.tui.ui_state import SHOWS, SORTS, UiState, group_of
from sf_runner.tui.view_model import job_row, remark_on, window
from tests.runner import tui_runs as runs
from tests.runner.builders import eventful
from tests.runner.tui_runs import NOW, middle, name_of, view_of


@given(st.integers(24, 300), st.integers(5, 120), st.integers(0, 40), st.booleans(), st.integers(1, 10_000))
def test_panels_fill_the_terminal_exactly(columns: int, rows: int, gpus: int, machine: bool, jobs: int) -> None:
    layout = make_layout(columns, rows, gpus=gpus, machine=machine, jobs=jobs)
    parts = [layout.title, layout.bar, layout.counts, layout.panel, layout.alert, layout.head, layout.jobs]
    parts += [layout.log_title, layout.log, layout.footer]
    assert sum(parts) == rows
    assert min(parts) >= 0
    assert layout.jobs >= min(jobs, 4)
    assert layout.panel <= max(rows // 6, 0) + 1


@given(
    st.integers(24, 300), st.integers(1, 80), st.integers(0, 14), st.booleans(), st.booleans(), st.booleans()
)  # fmt: skip
def test_columns_fit_side_by_side(columns: int, name: int, slot: int, attempts: bool, fps: bool, value: bool) -> None:
    made = make_columns(columns, name=name, slot=slot, attempts=attempts, fps=fps, value=value)
    others = [made.state, made.slot, made.attempt, made.time, *made.numbers]
    assert 2 + made.name + 1 + sum(width + 1 for width in others if width) <= columns
    assert made.name >= min(name, 16)
    if columns >= 110:
        assert made.name >= min(name, 36)
        assert all([made.state, made.time, made.bar, made.percent, made.left])


@given(st.integers(1, 60), st.integers(0, 200), st.integers(-50, 300), st.integers(0, 199))
def test_the_selected_row_is_always_in_sight(rows: int, total: int, top: int, selected: int) -> None:
    selected = min(selected, max(0, total - 1))
    first = window(rows, total, top, selected)
    assert 0 <= first <= max(0, total - 1)
    assert first <= selected < first + rows
    if total >= rows:
        assert first + rows <= total, "no room is wasted"


# ---- order -------------------------------------------------------------------------------------------------------


class Known:
    """Samples that a test makes up."""

    def __init__(self, **fractions: float) -> None:
        self.version = 1
        self._found = {
            name_of(int(key[1:])): Progress(
                time_unix_s=NOW, step=value, total=1.0, fps=100 * value, metrics={"reward": -value}
            )
            for key, value in fractions.items()
        }

    def progress(self, job: str) -> Progress | None:
        return self._found.get(job)


def order(ui: UiState, events: Sequence[ev.Event] = (), samples: Known | None = None) -> list[int]:
    state = RunState()
    state.apply_all(events or middle())
    listed = JobOrder().listed(state, 1, ui, samples or Known(j5=0.6, j6=0.9, j8=0.1, j3=0.7), "reward")
    return [int(record.job_id.partition("/")[2][:2]) for record in listed]


@pytest.mark.parametrize(
    ("ui", "expected"),
    [
        (UiState(), [5, 6, 7, 8, 3, 4, 9, 10, 11, 12, 13, 14, 2, 1, 0]),
        (UiState(reverse=True), [0, 1, 2, 14, 13, 12, 11, 10, 9, 4, 3, 8, 7, 6, 5]),
        (UiState(sort="number"), list(range(15))),
        (UiState(sort="time"), [5, 6, 7, 8, 3, 1, 0, 2, 4, 9, 10, 11, 12, 13, 14]),
        (UiState(sort="progress"), [0, 1, 2, 6, 3, 5, 8, 4, 7, 9, 10, 11, 12, 13, 14]),
        (UiState(sort="fps"), [6, 3, 5, 8, 0, 1, 2, 4, 7, 9, 10, 11, 12, 13, 14]),
        (UiState(sort="metric"), [8, 5, 3, 6, 0, 1, 2, 4, 7, 9, 10, 11, 12, 13, 14]),
        (UiState(show="failed"), [3]),
        (UiState(show="running"), [5, 6, 7, 8]),
        (UiState(filter="0.001 2222"), [8]),
        (UiState(filter="learning_rate=0.001"), [6, 7, 8]),
        (UiState(filter="SEED=0 !0.01 !0.000"), [6, 9]),
        (UiState(filter="walker", show="succeeded"), [2, 1, 0]),
        (UiState(filter="nothing like it"), []),
    ],
)
def test_what_is_listed_in_which_order(ui: UiState, expected: list[int]) -> None:
    assert order(ui) == expected


@given(st.sampled_from(SORTS), st.sampled_from(SHOWS), st.booleans())
def test_every_order_lists_every_job_once(sort: str, show: str, reverse: bool) -> None:
    everything = order(UiState(sort=sort, reverse=reverse))  # type: ignore[arg-type]
    assert sorted(everything) == list(range(15))
    some = order(UiState(sort=sort, reverse=reverse, show=show))  # type: ignore[arg-type]
    assert some == [job for job in everything if job in some]


def test_the_list_is_made_anew_only_when_it_could_differ() -> None:
    state = RunState()
    state.apply_all(middle())
    samples, jobs = Known(), JobOrder()
    first = jobs.listed(state, 1, UiState(), samples, "")
    samples.version += 1
    assert jobs.listed(state, 1, UiState(top=7), samples, "") is first
    assert jobs.listed(state, 2, UiState(), samples, "") is not first
    by_fps = jobs.listed(state, 2, UiState(sort="fps"), samples, "")
    samples.version += 1
    assert jobs.listed(state, 2, UiState(sort="fps"), samples, "") is not by_fps


# ---- rows --------------------------------------------------------------------------------------------------------


def test_rows_say_what_matters_in_each_state() -> None:
    state = view_of([*middle(gpus=True), ev.JobCancelled(t=NOW, job=name_of(14))]).state
    progress = Progress(time_unix_s=NOW - 5, step=50, total=100, fps=10.0, eta_s=60.0, metrics={"reward": 3.0})

    def row(index: int):  # type: ignore[no-untyped-def]
        return job_row(state.jobs[name_of(index)], NOW, progress, (1.0, 2.0), "reward", selected=False)

    running, failed, retrying, waiting, done, ending = (row(index) for index in (5, 3, 4, 9, 0, 8))
    assert (running.state, running.slot, running.elapsed_s, running.fraction) == ("running", "GPU 1", 250.0, 0.5)
    assert (running.left_s, running.fps, running.value, running.course) == (55.0, 10.0, 3.0, (1.0, 2.0))
    assert (failed.state, failed.remark, failed.elapsed_s) == ("failed", runs.NAN.summary, 437.0)
    assert (retrying.state, retrying.remark, retrying.value) == ("retrying", "again in 12 s: out of GPU memory", None)
    assert (waiting.state, waiting.remark, waiting.elapsed_s, waiting.slot) == ("waiting", "", None, "")
    assert (done.state, done.fraction, done.left_s, done.fps, done.value) == ("succeeded", 1.0, None, None, 3.0)
    assert (ending.state, ending.remark) == ("ending", "told to end: cancelled, 3 s ago")
    assert remark_on(state.jobs[name_of(4)], NOW + 60) == "out of GPU memory", "it waits for a slot only"
    assert row(14).state == "cancelled"


# ---- sampling ----------------------------------------------------------------------------------------------------


def test_files_are_read_only_when_they_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = runs.run_paths(tmp_path)
    runs.middle_files(paths)
    state = view_of(middle()).state
    reads: list[str] = []
    read = read_progress

    def counted(path: str) -> Progress | None:
        reads.append(path)
        return read(path)

    monkeypatch.setattr(sampler_module, "read_progress", counted)
    sampler = Sampler(paths)
    visible = list(state.jobs.values())

    def look(now: float) -> int:
        before = len(reads)
        sampler.look(state, visible, now, metric="", courses=True)
        return len(reads) - before

    assert look(NOW) == 7
    assert look(NOW + 5) == 0
    runs.write_progress(paths, 6, 0.5, ago=-6)
    assert look(NOW + 5.5) == 0, "looked at a moment ago"
    assert look(NOW + 7) == 1
    assert sampler.progress(name_of(6)).step == 5_000_000  # type: ignore[union-attr]
    assert sampler.metric == "reward"
    assert set(sampler.metrics) == {"reward", "loss"}
    assert sampler.fps(state) == pytest.approx(18_000 * 3 + 250 * (5 + 6 + 8))
    assert sampler.done_fraction(state) == pytest.approx(0.62 + 0.5 + 0.05)
    assert sampler.etas_s(state)[name_of(6)] == 300
    assert len(sampler.course(name_of(6), "reward")) == 31
    assert sampler.course(name_of(6), "loss") == ()


def test_the_progress_of_the_last_attempt_is_not_taken_for_that_of_the_new_one(tmp_path: Path) -> None:
    paths = runs.run_paths(tmp_path)
    runs.write_progress(paths, 4, 0.7, ago=430, attempt=1)
    events = [*middle(), *runs.started(4, NOW, attempt=2)]
    state = view_of(events).state
    sampler = Sampler(paths)
    sampler.look(state, [state.jobs[name_of(4)]], NOW + 1, metric="", courses=False)
    assert sampler.progress(name_of(4)) is None
    runs.write_progress(paths, 4, 0.1, ago=-2, attempt=2)
    sampler.look(state, [state.jobs[name_of(4)]], NOW + 3, metric="", courses=False)
    assert sampler.progress(name_of(4)).step == 1_000_000  # type: ignore[union-attr]


def test_an_ended_job_is_looked_at_once_more_and_never_again(tmp_path: Path) -> None:
    paths = runs.run_paths(tmp_path)
    state = view_of(middle()).state
    record, sampler = state.jobs[name_of(5)], Sampler(paths)
    runs.write_progress(paths, 5, 0.9, ago=0)
    sampler.look(state, [record], NOW, metric="", courses=True)
    state.apply(runs.ended(5, NOW + 1, 100.0))
    runs.write_progress(paths, 5, 1.0, ago=-1)
    sampler.look(state, [record], NOW + 2, metric="", courses=True)
    assert sampler.progress(name_of(5)).fraction == 1.0  # type: ignore[union-attr]
    paths.job(name_of(5)).progress.unlink()
    runs.write_progress(paths, 5, 0.2, ago=-9)
    sampler.look(state, [record], NOW + 10, metric="", courses=True)
    assert sampler.progress(name_of(5)).fraction == 1.0  # type: ignore[union-attr]


def test_running_jobs_out_of_sight_are_looked_at_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [{"id": f"g/{n}", "index": n, "rank": float(n), "fp": "", "config": ""} for n in range(1000)]
    events: list[ev.Event] = [*runs.opening(jobs=0)[:2], ev.JobsPlanned(t=NOW, jobs=entries)]
    for n in range(1000):
        events.append(ev.AttemptSubmitted(t=NOW, job=f"g/{n}", attempt=1, placement={}))
        events.append(ev.AttemptStarted(t=NOW, job=f"g/{n}", attempt=1, handle={}))
    state = view_of(events).state
    looked: list[str] = []
    stat = os.stat

    def counted(path: str) -> os.stat_result:
        looked.append(path)
        return stat(path)

    monkeypatch.setattr(os, "stat", counted)
    sampler = Sampler(runs.run_paths(tmp_path))
    for tick in range(20):
        sampler.look(state, [], NOW + tick / 2, metric="", courses=False)
    assert 1000 <= len(looked) <= 1500, "ten seconds: every one, and none twice a second"
    assert len(set(looked)) == 1000


def _history(path: Path, points: int, padding: int = 0) -> None:
    lines = [
        json.dumps({"version": 1, "time": n, "step": n, "metrics": {"reward": n}, "pad": "x" * padding}) + "\n"
        for n in range(points)
    ]
    path.write_text("".join(lines))


@pytest.mark.parametrize(("points", "padding"), [(1, 0), (5, 0), (48, 0), (300, 0), (2000, 10), (6000, 120)])
def test_a_course_covers_the_whole_history_and_ends_with_the_newest(tmp_path: Path, points: int, padding: int) -> None:
    _history(tmp_path / "h.jsonl", points, padding)
    course = read_course(tmp_path / "h.jsonl", "reward", 48)
    assert course[-1] == points - 1
    assert len(course) <= 48
    assert list(course) == sorted(set(course))
    assert course[0] <= points / 20
    assert len(course) >= min(points, 40)


def test_a_course_costs_the_same_however_long_the_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _history(tmp_path / "h.jsonl", 20_000, 200)
    read = 0
    pread = os.pread

    def counted(fd: int, size: int, offset: int) -> bytes:
        nonlocal read
        data = pread(fd, size, offset)
        read += len(data)
        return data

    monkeypatch.setattr(os, "pread", counted)
    assert len(read_course(tmp_path / "h.jsonl", "reward", 48)) == 48
    assert read <= 48 * 2048


def test_damaged_histories_give_what_they_can(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    assert read_course(path, "reward", 48) == ()
    path.write_bytes(b"\xff\xfe\n{}\n" + b'{"metrics": {"reward": 2}}\n{"metr')
    assert read_course(path, "reward", 48) == (2.0,)
    path.write_bytes(b"x" * 100_000)
    assert read_course(path, "reward", 48) == ()


# ---- the machine -------------------------------------------------------------------------------------------------


@pytest.fixture
def job_pid() -> Iterator[int]:
    """A process that leads a session, as every job's main one does."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as process:
        yield process.pid
        process.kill()


def test_whose_work_is_on_a_gpu(job_pid: int) -> None:
    state = view_of([*runs.opening(), *runs.started(0, NOW, gpu=0, pid=job_pid)]).state
    gpu = GpuInfo(uuid="GPU-0", index=0, memory_total_mb=1000, memory_used_mb=700, utilization_pct=50)
    both = (GpuProcess(pid=job_pid, memory_mb=400), GpuProcess(pid=runs.NO_PROCESS, memory_mb=250))
    rows, idle = GpuRows(), GpuSnapshot(gpus=(gpu,))
    assert rows.rows(GpuSnapshot(), state, 1) == ()
    (row,) = rows.rows(GpuSnapshot(gpus=(replace(gpu, processes=both),)), state, 1)
    assert (row.jobs, row.others, row.others_mb, row.utilization) == (1, 1, 300, 0.5)
    (row,) = rows.rows(idle, state, 1)
    assert rows.rows(idle, state, 1)[0] is row, "nothing is worked out twice"


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="reads Linux's /proc")
def test_this_machine() -> None:
    probe = MachineProbe()
    first = probe.read(0.0)
    assert first is not None
    assert first.cpu is None
    assert probe.read(0.5) is first, "once a second is enough"
    assert first.memory_total_mb is not None
    assert 0 < first.memory_used_mb < first.memory_total_mb  # type: ignore[operator]


def test_a_clock_that_is_set_back_does_not_freeze_the_screen(tmp_path: Path) -> None:
    paths = runs.run_paths(tmp_path)
    runs.write_progress(paths, 5, 0.5)
    app = runs.make_app(paths)
    state = view_of(middle()).state
    before = replace(view_of(middle()), state=state, steady=100.0)
    app.frame(before, 120, 30)
    app.say("a message", before.at)
    runs.write_progress(paths, 5, 0.9, ago=0.5)
    after = replace(before, now=before.now - 600.0, steady=110.0)
    assert "a message" not in runs.screen_text(app, after, 120, 30)
    assert app._sampler.progress(name_of(5)).fraction == pytest.approx(0.9)  # type: ignore[union-attr]


def test_what_a_job_says_is_left_does_not_depend_on_its_machines_clock(tmp_path: Path) -> None:
    paths, state = runs.run_paths(tmp_path), view_of(middle()).state
    sampler, record = Sampler(paths), state.jobs[name_of(5)]
    for step, ago in ((0.5, 3600.0), (0.6, 3599.0)):  # by a clock that is an hour behind
        runs.write_progress(paths, 5, step, ago=NOW - time.time() + ago)
        sampler.look(state, [record], -10.0 * ago, metric="", courses=False)
    progress = sampler.progress(record.job_id)
    assert progress is not None
    row = job_row(record, time.time(), progress, (), "", selected=False)
    assert row.left_s == pytest.approx(progress.eta_s, abs=60.0)


@pytest.mark.parametrize("ui", [UiState(), UiState(reverse=True), UiState(show="waiting"), UiState(filter="see_1")])
def test_the_list_is_kept_up_to_date_job_by_job(ui: UiState, monkeypatch: pytest.MonkeyPatch) -> None:
    events = eventful()
    first = next(n for n, event in enumerate(events) if isinstance(event, ev.AttemptSubmitted))
    state, jobs, survey = RunState(), JobOrder(), Survey()
    looked: list[str] = []
    for version, event in enumerate(events):
        state.apply(event)
        jobs.took([event], version)
        survey.took([event])
        with monkeypatch.context() as patch:
            patch.setattr(order_module, "group_of", lambda record: looked.append(record.job_id) or group_of(record))
            listed = jobs.listed(state, version, ui, Known(), "")
        assert listed == JobOrder().listed(state, version, ui, Known(), ""), (version, event)
        survey.look(state)
        fresh = Survey()
        fresh.look(state)
        assert vars(survey) == vars(fresh)
        if version > first and not isinstance(event, ev.JobsChanged):
            assert len(looked) <= 1, "only the job that changed is looked at"
        looked.clear()


def test_what_nobody_told_of_is_looked_at_whole() -> None:
    state, jobs = RunState(), JobOrder()
    for version, event in enumerate(eventful()):
        state.apply(event)
        if version % 3:
            jobs.took([event], version)
        if version % 2:
            assert jobs.listed(state, version, UiState(), Known(), "") == JobOrder().listed(
                state, version, UiState(), Known(), ""
            )
