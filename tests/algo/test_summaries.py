"""Summaries as tensorboard itself reads them, averages, the status line, progress and results."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sf_algo.config import RunConfig, WandbConfig
from sf_algo.errors import StorageError
from sf_algo.paths import ExperimentPaths
from sf_algo.summaries.episodes import EpisodeWindow
from sf_algo.summaries.event_file import EventFileWriter, _masked_crc
from sf_algo.summaries.progress import PROGRESS_VARIABLE, ProgressFile
from sf_algo.summaries.reporter import Reporter, ReporterClocks, make_sinks
from sf_algo.summaries.status_line import (
    PolicySnapshot,
    Snapshot,
    Speedometer,
    format_count,
    format_duration,
    status_line,
)


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    return [(event.step, event.value) for event in reader.Scalars(tag)]


def tags(folder: Path) -> set[str]:
    reader = EventAccumulator(str(folder))
    reader.Reload()
    return set(reader.Tags()["scalars"])


def test_checksum_against_published_vectors() -> None:
    """RFC 3720, appendix B.4: CRC-32C of 32 zeros and of 32 ones, here rotated and offset."""
    for data, crc in ((b"\x00" * 32, 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43)):
        assert _masked_crc(data) == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_tensorboard_reads_what_is_written(tmp_path: Path) -> None:
    writer = EventFileWriter(tmp_path, wall_time=1.5e9)
    writer.add_scalars({"train/loss": 0.5, "policy_stats/avg_reward": -3.25}, step=0, wall_time=1.5e9)
    writer.add_scalars({"train/loss": 1e-9}, step=10**11, wall_time=1.5e9 + 1)
    writer.add_scalars({}, step=1, wall_time=0)
    writer.close()
    assert points(tmp_path, "train/loss") == [(0, 0.5), (10**11, pytest.approx(1e-9))]
    assert points(tmp_path, "policy_stats/avg_reward") == [(0, -3.25)]


def test_a_resumed_training_continues_its_curves(tmp_path: Path) -> None:
    """The run died at step 30, its checkpoint is of step 15: points from there on are written anew."""
    first = EventFileWriter(tmp_path, wall_time=1000)
    for step in (10, 20, 30):
        first.add_scalars({"x": step}, step=step, wall_time=1000 + step)
    second = EventFileWriter(tmp_path, wall_time=2000, resume_step=15)
    for step in (20, 40):
        second.add_scalars({"x": -step}, step=step, wall_time=2000 + step)
    first.close()
    second.close()
    assert points(tmp_path, "x") == [(10, 10.0), (20, -20.0), (40, -40.0)]


def test_two_starts_in_one_second_get_two_files(tmp_path: Path) -> None:
    for _ in range(2):
        EventFileWriter(tmp_path, wall_time=1000).close()
    assert len(list(tmp_path.iterdir())) == 2


def test_averages_over_the_newest_episodes() -> None:
    window = EpisodeWindow(2)
    assert window.means() == {}
    for reward in (100.0, 1.0, 2.0):
        window.add(reward=reward, num_frames=10, stats={"kills": reward * 2, "odd": math.nan})
    assert window.means() == {"reward": 1.5, "true_reward": 1.5, "len": 10.0, "kills": 3.0}
    assert (window.total_episodes, window.count("reward"), window.count("odd")) == (3, 2, 0)
    assert window.extremes("reward") == (1.0, 2.0)
    assert window.extremes("odd") is None


def test_the_environments_true_reward_is_the_true_one() -> None:
    window = EpisodeWindow(5)
    window.add(reward=0.5, num_frames=3, stats={"true_reward": 50.0})
    assert (window.means()["reward"], window.means()["true_reward"]) == (0.5, 50.0)


def test_averages_survive_a_resume() -> None:
    window = EpisodeWindow(3)
    for reward in (1.0, 2.0, 3.0):
        window.add(reward=reward, num_frames=1, stats={})
    state = json.loads(json.dumps(window.state()))
    same, smaller = EpisodeWindow(3), EpisodeWindow(2)
    for restored in (same, smaller):
        restored.restore(state)
    assert same.means() == window.means()
    assert smaller.means()["reward"] == 2.5
    assert smaller.total_episodes == 3


def test_speed_is_measured_over_the_window() -> None:
    speed = Speedometer(10)
    assert speed.fps is None
    speed.update(0, 0)
    assert speed.fps is None
    speed.update(5, 500)
    assert speed.fps == 100
    for now in (10, 15, 20):
        speed.update(now, 500 + (now - 5) * 200)
    assert speed.fps == 200


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1234, "1.23k"), (1_234_567, "1.23M"), (4_000_000_000, "4.00G")],
)
def test_counts(number: float, text: str) -> None:
    assert format_count(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00:00"), (3723, "1:02:03"), (90061, "1d 1:01:01")])
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def snapshot(*env_steps: int, train: Mapping[str, float] | None = None, seconds: float = 100) -> Snapshot:
    policies = [PolicySnapshot(env_steps=steps, policy_version=7, train=train or {}) for steps in env_steps]
    return Snapshot(
        policies=policies,
        train_seconds=seconds,
        lag_mean=1.25,
        lag_max=4,
        bottleneck="learning (91 % busy)",
        stats={"memory_mb": 512.0},
        perf={"inference_batch": 16.0},
    )


def test_status_line() -> None:
    line = status_line(
        snapshot(1_000_000, 500_000),
        [{"reward": 1.5, "true_reward": 90.0, "len": 300.0}, {}],
        fps=1560.4,
        limit=3_000_000,
        eta_s=61,
    )
    assert line == (
        "1.50M frames (50.0%) | fps 1,560 | reward 1.500 (true 90.000), - | episode 300 frames | "
        "lag 1.2 (max 4) | bottleneck: learning (91 % busy) | left 0:01:01"
    )
    assert status_line(Snapshot(policies=[], train_seconds=0), [{}], fps=None, limit=None, eta_s=None) == (
        "0 frames | fps - | reward -"
    )


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A reporter with a clock that the test moves."""

    def __init__(self, folder: Path, *, num_policies: int = 1, resumed: bool = False, **run: object) -> None:
        self.paths = ExperimentPaths(folder / "e")
        self.clock = FakeClock()
        self.progress_path = folder / "progress.json"
        values = {"env": "doom_basic", "experiment": "e", "seed": 3, **run}
        self.run = RunConfig(**values)  # type: ignore[arg-type]
        sinks = make_sinks(
            run=self.run,
            wandb=WandbConfig(),
            paths=self.paths,
            num_policies=num_policies,
            flags={},
            resume_env_steps=[100] * num_policies if resumed else None,
        )
        self.reporter = Reporter(
            run=self.run,
            sinks=sinks,
            windows=[EpisodeWindow(self.run.stats_avg) for _ in range(num_policies)],
            progress=ProgressFile(self.progress_path),
            clocks=ReporterClocks(monotonic=self.clock, wall=lambda: 1e9 + self.clock.now),
        )

    def progress(self) -> dict[str, object]:
        document = json.loads(self.progress_path.read_text())
        assert isinstance(document, dict)
        return document


def test_reports_when_due(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path, train_for_env_steps=1000, experiment_summaries_interval=20.0)
    caplog.set_level("INFO", logger="sf_algo")
    reporter = bench.reporter
    reporter.episode(0, reward=2.0, num_frames=80, stats={"true_reward": 90.0})
    bench.clock.now = 4.0
    assert not reporter.status_due(env_steps=9, train_seconds=4.0)
    reporter.update(snapshot(9))
    assert not bench.progress_path.exists()
    bench.clock.now = 10.0
    assert reporter.status_due(env_steps=9, train_seconds=10.0)
    reporter.update(snapshot(100))
    bench.clock.now = 20.0
    reporter.update(snapshot(400, train={"loss": 0.25, "broken": math.nan}))
    reporter.close()
    assert [record.message.split(" | ")[0] for record in caplog.records] == [
        "100 frames (10.0%)",
        "400 frames (40.0%)",
    ]
    progress = bench.progress()
    assert progress["time"] is not None
    assert {key: progress[key] for key in ("version", "phase", "step", "total", "fps", "eta_s")} == {
        "version": 1,
        "phase": "train",
        "step": 400,
        "total": 1000,
        "fps": 30.0,
        "eta_s": 20.0,
    }
    assert progress["metrics"] == {"reward": 2.0, "true_reward": 90.0, "len": 80.0}
    folder = bench.paths.summary(0)
    assert tags(folder) == {
        "train/loss",
        "policy_stats/avg_reward",
        "policy_stats/avg_true_reward",
        "policy_stats/avg_len",
        "policy_stats/min_reward",
        "policy_stats/max_reward",
        "stats/total_episodes",
        "stats/policy_version",
        "stats/memory_mb",
        "perf/inference_batch",
        "perf/fps",
    }
    assert points(folder, "policy_stats/avg_true_reward") == [(100, 90.0), (400, 90.0)]


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"train_for_env_steps": 1000}, [10, 20, 30, 57]),
        ({"train_for_seconds": 2.0}, [4, 10, 19, 20, 30, 57]),  # the clock runs at 200 frames a second
        ({}, []),
        ({"experiment_summaries_interval": 0.1}, [20, 57]),
    ],
)
def test_a_short_training_has_a_curve(tmp_path: Path, limits: dict[str, float], told: list[int]) -> None:
    """A point for every hundredth of the training, in summaries and in the progress file, however little time
    passes."""
    bench = Bench(tmp_path, **limits)
    bench.reporter.episode(0, reward=2.0, num_frames=80, stats={})
    bench.reporter.announce("train", snapshot(0, seconds=0))
    for frames in (3, 4, 7, 10, 11, 19, 20, 21, 30, 57):
        bench.clock.now = frames / 200
        if bench.reporter.status_due(env_steps=frames, train_seconds=bench.clock.now):
            bench.reporter.update(snapshot(frames, seconds=bench.clock.now))
            assert bench.progress()["step"] == frames
    bench.reporter.close()
    found = points(bench.paths.summary(0), "policy_stats/avg_reward") if told else []
    assert [step for step, _ in found] == told


def test_a_resumed_training_has_no_point_for_what_it_did_before(tmp_path: Path) -> None:
    bench = Bench(tmp_path, resumed=True, train_for_env_steps=1000)
    bench.reporter.announce("train", snapshot(505))
    assert not bench.reporter.status_due(env_steps=509, train_seconds=0.0)
    assert bench.reporter.status_due(env_steps=510, train_seconds=0.0)


def test_time_left_is_that_of_the_nearer_limit(tmp_path: Path) -> None:
    bench = Bench(tmp_path, train_for_env_steps=1000, train_for_seconds=105.0)
    for now, steps in ((10.0, 100), (20.0, 400)):
        bench.clock.now = now
        bench.reporter.update(snapshot(steps, seconds=100))
    assert bench.progress()["eta_s"] == 5.0


def test_without_limits_nobody_knows_the_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.clock.now = 10.0
    bench.reporter.update(snapshot(100))
    assert (bench.progress()["total"], bench.progress()["eta_s"]) == (None, None)


def test_every_policy_has_its_own_curves_and_the_best_is_shown(tmp_path: Path) -> None:
    bench = Bench(tmp_path, num_policies=2)
    bench.reporter.episode(0, reward=1.0, num_frames=1, stats={})
    bench.reporter.episode(1, reward=5.0, num_frames=1, stats={})
    bench.reporter.update(snapshot(100, 200), force=True)
    assert points(bench.paths.summary(0), "policy_stats/avg_reward") == [(100, 1.0)]
    assert points(bench.paths.summary(1), "policy_stats/avg_reward") == [(200, 5.0)]
    assert bench.reporter.metrics()["reward"] == 5.0


def test_the_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.reporter.episode(0, reward=2.0, num_frames=80, stats={})
    bench.clock.now = 3.0
    bench.reporter.finish(snapshot(400), bench.paths, outcome="finished", reason="reached 400 frames", best=[2.5])
    results = json.loads(bench.paths.results.read_text())
    assert results["policies"] == [
        {
            "policy": 0,
            "env_steps": 400,
            "policy_version": 7,
            "episodes": 1,
            "metrics": {"reward": 2.0, "len": 80.0, "true_reward": 2.0},
            "best_reward": 2.5,
        }
    ]
    assert {key: value for key, value in results.items() if key not in ("policies", "metrics")} == {
        "version": 1,
        "experiment": "e",
        "env": "doom_basic",
        "seed": 3,
        "env_steps": 400,
        "train_seconds": 100,
        "fps": 4.0,
        "outcome": "finished",
        "reason": "reached 400 frames",
        "wall_seconds": 3.0,
    }
    assert bench.progress()["phase"] == "finished"


def test_a_benchmark_writes_nothing_but_progress(tmp_path: Path) -> None:
    bench = Bench(tmp_path, benchmark=True)
    bench.reporter.finish(snapshot(4), bench.paths, outcome="finished", reason="", best=[None])
    assert not bench.paths.root.exists()
    assert bench.progress()["step"] == 4


def test_progress_is_asked_for_by_the_environment(tmp_path: Path) -> None:
    ProgressFile.from_environment({}).write(phase="train", step=1, total=None)
    path = tmp_path / "p.json"
    ProgressFile.from_environment({PROGRESS_VARIABLE: str(path)}).write(phase="train", step=1, total=None)
    assert json.loads(path.read_text())["step"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_progress_that_cannot_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    progress = ProgressFile(tmp_path / "missing" / "p.json")
    for step in (1, 2):
        progress.write(phase="train", step=step, total=None)
    assert len(caplog.records) == 1
    assert "cannot write the progress file" in caplog.records[0].message


def test_summaries_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "e").write_text("a file")
    with pytest.raises(StorageError, match="cannot write summaries"):
        Bench(tmp_path)


def test_summaries_on_a_full_disk_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path)
    writer = bench.reporter._sinks[0]._writers[0]  # type: ignore[attr-defined]
    whole, real = writer.path.read_bytes(), writer._file
    with Path("/dev/full").open("wb", buffering=0) as full:
        writer._file = _Partly(real, full)
        for _ in range(2):
            bench.reporter.update(snapshot(100), force=True)
    writer._file = real
    assert sum("No space left on device" in record.message for record in caplog.records) == 1
    assert writer.path.read_bytes() == whole
    bench.reporter.update(snapshot(200), force=True)
    assert points(bench.paths.summary(0), "stats/policy_version") == [(200, 7.0)]


class _Partly:
    """A file whose disk is full after the first bytes of a write."""

    def __init__(self, real: object, full: object) -> None:
        self._real, self._full, self._begun = real, full, False

    def write(self, data: memoryview) -> int:
        self._begun = not self._begun
        target = self._real if self._begun else self._full
        return int(target.write(data[:5] if self._begun else data))  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)
