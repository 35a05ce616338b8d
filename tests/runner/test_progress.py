"""Progress files: what is written, when, and that a reader survives whatever it finds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_runner import progress
from sf_runner.progress import (
    ENVIRONMENT_VARIABLE,
    Progress,
    ProgressWriter,
    history_path,
    parse_progress,
    read_history,
    read_progress,
    report,
)


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "progress.json"


@pytest.fixture
def writer(path: Path, clock: Clock) -> ProgressWriter:
    return ProgressWriter(path, clock=clock)


def test_outside_the_runner_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    assert report(step=1, total=2, reward=3) is False
    assert list(tmp_path.iterdir()) == []


def test_report_writes_the_format(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(path))
    before = time.time()
    assert report(step=5, total=10, fps=2.5, metrics={"loss": 0.5}, phase="train", reward=3) is True
    record = json.loads(path.read_text())
    written = record.pop("time")
    assert before - 1 <= written <= time.time() + 1
    assert record == {
        "version": 1,
        "phase": "train",
        "step": 5,
        "total": 10,
        "fps": 2.5,
        "metrics": {"loss": 0.5, "reward": 3},
    }
    expected = Progress(
        time_unix_s=written, phase="train", step=5, total=10, fps=2.5, metrics={"loss": 0.5, "reward": 3}
    )
    assert read_progress(path) == expected
    assert expected.fraction == 0.5
    assert sorted(p.name for p in path.parent.iterdir()) == ["progress.json", "progress_history.jsonl"]


def test_values_left_out_keep_their_last_value(writer: ProgressWriter, path: Path, clock: Clock) -> None:
    writer.update(step=1, total=10, phase="train", metrics={"a": 1})
    clock.now += 2
    writer.update(metrics={"b": 2})
    assert read_progress(path) == Progress(
        time_unix_s=read_progress(path).time_unix_s,  # type: ignore[union-attr]
        phase="train",
        step=1,
        total=10,
        metrics={"a": 1, "b": 2},
    )


def test_writes_are_at_most_one_a_second(writer: ProgressWriter, path: Path, clock: Clock) -> None:
    assert writer.update(step=0, total=1000) is True
    written = []
    for step in range(1, 100):
        clock.now += 0.125
        written.append(writer.update(step=step))
    assert sum(written) == 12
    assert read_progress(path).step == 96  # type: ignore[union-attr]
    assert writer.flush() is True
    assert read_progress(path).step == 99  # type: ignore[union-attr]
    assert writer.flush() is False


def test_a_new_phase_and_the_last_step_are_written_at_once(writer: ProgressWriter, path: Path) -> None:
    assert writer.update(step=1, total=10, phase="train") is True
    assert writer.update(step=2, phase="train") is False
    assert writer.update(phase="evaluate") is True
    assert writer.update(phase="train") is True
    assert writer.update(step=9) is False
    assert writer.update(step=10) is True
    assert read_progress(path).fraction == 1.0  # type: ignore[union-attr]
    assert writer.update(step=10, metrics={"x": 1}) is False, "the end is reached once, not by every later call"


def test_speed_and_time_left_are_measured(writer: ProgressWriter, path: Path, clock: Clock) -> None:
    for step in (1000, 1100, 1200):
        writer.update(step=step, total=2200)
        clock.now += 10
    found = read_progress(path)
    assert found is not None
    assert (found.fps, found.eta_s) == (10.0, 100.0)
    writer.update(step=500)
    restarted = read_progress(path)
    assert restarted is not None
    assert (restarted.step, restarted.fps, restarted.eta_s) == (500, None, None)
    clock.now += 5
    writer.update(step=600, fps=7.5)
    given_speed = read_progress(path)
    assert given_speed is not None
    assert (given_speed.fps, given_speed.eta_s) == (7.5, 80.0)


def test_numbers_of_every_kind(writer: ProgressWriter, path: Path) -> None:
    metrics = {
        "int": 1,
        "float": 0.5,
        "bool": True,
        "np_int": np.int64(3),
        "np_float": np.float32(0.25),
        "array": np.array([2.0]),
        "big_array": np.zeros(2),
        "nan": float("nan"),
        "inf": float("inf"),
        "none": None,
        "text": "3",
        "object": object(),
        "list": [1],
        "naïve\n": 1,
    }
    assert writer.update(step=np.int64(7), total=float("inf"), metrics=metrics)
    record = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert record["step"] == 7
    assert "total" not in record
    numbers = {"int": 1, "float": 0.5, "bool": 1, "np_int": 3, "np_float": 0.25, "array": 2.0, "naïve\n": 1}
    assert record["metrics"] == {**dict.fromkeys(metrics), **numbers}
    assert read_progress(path).metrics == numbers  # type: ignore[union-attr]


def test_a_file_that_cannot_be_written_never_stops_the_program(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "gone"
    writer = ProgressWriter(folder / "progress.json", clock=clock)
    assert writer.update(step=1) is False
    folder.mkdir()
    assert writer.flush() is True
    assert read_progress(folder / "progress.json").step == 1  # type: ignore[union-attr]


def test_a_full_disk_leaves_the_old_file(
    writer: ProgressWriter, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.update(step=1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    clock.now += 2
    assert writer.update(step=2) is False
    assert read_progress(path).step == 1  # type: ignore[union-attr]
    assert sorted(p.name for p in path.parent.iterdir()) == ["progress.json", "progress_history.jsonl"]


def test_the_history_grows_ever_more_slowly(
    writer: ProgressWriter, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_HISTORY_POINTS_PER_INTERVAL", 10)
    for step in range(1000):
        writer.update(step=step)
        clock.now += 1
    steps = [point.step for point in read_history(history_path(path))]
    assert steps[:12] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13]
    assert len(steps) < 75
    assert steps == sorted(steps)  # type: ignore[type-var]


def test_a_new_attempt_goes_on_in_the_same_history(path: Path, clock: Clock) -> None:
    ProgressWriter(path, clock=clock).update(step=5)
    with Path(history_path(path)).open("a", encoding="utf-8") as file:
        file.write('{"version": 1, "step": 6, "met')
    ProgressWriter(path, clock=clock).update(step=3)
    assert [point.step for point in read_history(history_path(path))] == [5, 3]


def test_the_last_values_are_written_when_the_program_ends(path: Path) -> None:
    code = "from sf_runner.progress import report\nfor i in range(50): report(step=i, total=100, loss=i)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, ENVIRONMENT_VARIABLE: str(path)})
    found = read_progress(path)
    assert found is not None
    assert (found.step, found.metrics) == (49, {"loss": 49})


def test_a_forked_child_does_not_write_its_parents_values(path: Path) -> None:
    code = """
import os
from sf_runner.progress import report
report(step=1)
report(step=2)
child = os.fork()
if child == 0:
    raise SystemExit(0)
os.waitpid(child, 0)
print(open(os.environ["SF_RUNNER_PROGRESS_FILE"]).read())
"""
    env = {**os.environ, ENVIRONMENT_VARIABLE: str(path)}
    shown = subprocess.run([sys.executable, "-c", code], check=True, env=env, capture_output=True, text=True)
    assert json.loads(shown.stdout)["step"] == 1
    assert read_progress(path).step == 2  # type: ignore[union-attr]


def test_reporting_needs_no_other_package() -> None:
    code = (
        "import sys; from sf_runner.progress import report\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} - sys.stdlib_module_names"
        " - {'sf_runner', '__main__'}))\n"
        "print(sorted(m for m in sys.modules if m.startswith('sf_runner')))"
    )
    run = subprocess.run([sys.executable, "-S", "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.splitlines() == ["[]", "['sf_runner', 'sf_runner.progress']"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"step": 1', b"[]", b"3", b"null", b"\xff\xfe", b"[" * 100_000, b"\0" * 100],
)
def test_what_is_no_progress_is_none(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert read_progress(path) is None


def test_a_missing_file_is_none(tmp_path: Path) -> None:
    assert read_progress(tmp_path / "absent.json") is None
    assert read_progress(tmp_path) is None
    assert read_history(tmp_path / "absent.jsonl") == []


def test_fields_of_a_wrong_type_count_as_missing(path: Path) -> None:
    path.write_text('{"version": 9, "step": "5", "total": [], "fps": NaN, "metrics": [1], "phase": 3, "new": {}}')
    os.utime(path, (50, 50))
    assert read_progress(path) == Progress(time_unix_s=50)


@pytest.mark.parametrize(
    ("step", "total", "fraction"),
    [(0, 0, None), (1, -1, None), (None, 5, None), (7, 5, 1.0), (-1, 5, 0.0), (1, 4, 0.25)],
)
def test_the_done_part(step: float | None, total: float, fraction: float | None) -> None:
    assert Progress(time_unix_s=0, step=step, total=total).fraction == fraction


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(["version", "time", "phase", "step", "total", "fps", "eta_s", "metrics"])


@given(st.dictionaries(KEYS, JSON))
def test_any_json_object_can_be_read(record: dict[str, object]) -> None:
    found = parse_progress(json.dumps(record))
    assert found is not None
    assert found.fraction is None or 0 <= found.fraction <= 1
