"""What is measured in one run serves the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_runner.basics.paths import RunPaths
from sf_runner.slots.gpu_memory import LearnedPeaks
from sf_runner.state.history import load_history, save_history
from tests.runner.builders import fresh, run_once, simple_plan


def paths(train_dir: Path, name: str) -> RunPaths:
    run = RunPaths(train_dir=train_dir, run_name=name)
    run.runner_dir.mkdir(parents=True, exist_ok=True)
    return run


def test_means_of_succeeded_attempts_and_peaks(tmp_path: Path) -> None:
    plan = simple_plan(4)
    config = plan.jobs[0].config_key
    state = fresh(plan)
    for job, seconds, verdict in zip(
        list(state.jobs), (1.0, 4.0, 99.0), ("succeeded", "succeeded", "failed"), strict=False
    ):
        run_once(state, job, verdict, duration_s=seconds)
    save_history(paths(tmp_path, "a").history, state, LearnedPeaks(peaks_mb={config: 700, "another": 5}))
    save_history(paths(tmp_path, "b").history, fresh(plan), LearnedPeaks(peaks_mb={config: 600}))
    history = load_history(tmp_path)
    assert history.durations_s == {config: 2.5}
    assert history.peaks.peaks_mb == {config: 700}


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"durations_s": 3, "gpu_peaks_mb": {}}', "\xff"])
def test_what_cannot_be_read_counts_as_nothing(tmp_path: Path, content: str) -> None:
    paths(tmp_path, "a").history.write_text(content, encoding="latin-1")
    assert load_history(tmp_path).durations_s == {}
    assert load_history(tmp_path / "nowhere").durations_s == {}


def test_a_disk_that_takes_nothing_costs_only_the_history(tmp_path: Path) -> None:
    save_history(tmp_path / "missing" / "history.json", fresh(simple_plan(1)), LearnedPeaks())
    assert not (tmp_path / "missing").exists()
