"""Reports of runs in which something is missing, failed, unfinished or told in another place."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from sf_runner import ABSENT, BARE
from sf_runner.basics.errors import UsageError
from sf_runner.engine.snapshot import read_run
from sf_runner.progress import ProgressWriter
from sf_runner.report import make_report
from sf_runner.results.analysis import AnalysisOptions, MetricAnalysis, Row
from sf_runner.results.closing import closing_lines
from sf_runner.results.markdown import markdown, table
from sf_runner.results.notes import notes
from sf_runner.results.plot_data import plots_of
from tests.runner.result_runs import SyntheticRun, write_curve, write_results

TAG = "policy_stats/avg_reward"
RISING = [(0, 0.0), (100, 1.0), (200, 2.0), (1000, 10.0)]


def summaries(job: object, points: list[tuple[int, float]], policy: int = 0, tag: str = TAG) -> None:
    write_curve(job.paths.experiment_dir / ".summary" / str(policy), tag, points)  # type: ignore[attr-defined]


def rows_of(report_of: MetricAnalysis) -> dict[str, Row]:
    return {row.group.label: row for row in report_of.rows}


def make_grid(tmp_path: Path, name: str = "study") -> SyntheticRun:
    return SyntheticRun(tmp_path, name, [("seed", [0, 1, 2]), ("lr", [0.1, 0.2])])


def test_what_did_not_finish_is_left_out_and_told(tmp_path: Path) -> None:
    run = make_grid(tmp_path)
    for seed, scale in ((0, 1.0), (1, 2.0)):
        job = run.job(seed=seed, lr=0.1)
        summaries(job, [(step, scale * value) for step, value in RISING])
        run.attempt(job, "succeeded")
    failed = run.job(seed=2, lr=0.1)
    summaries(failed, RISING[:3])
    run.attempt(failed, "failed", error="ValueError: no | such thing")
    diverged = run.job(seed=0, lr=0.2)
    summaries(diverged, [*RISING, (1100, math.nan)])
    run.attempt(diverged, "succeeded")
    silent = run.job(seed=1, lr=0.2)
    run.attempt(silent, "succeeded")
    run.close()

    report = make_report(["study"], tmp_path)
    rows = rows_of(report.metrics[0])
    finished = rows["lr=0.1"]
    assert finished.aggregate is not None
    assert (finished.aggregate.n, finished.aggregate.mean, finished.best, finished.so_far) == (2, 15.0, 20.0, False)
    assert finished.attempts == 3
    assert finished.band is not None
    assert sorted(set(finished.band.n.tolist())) == [2, 3], "the failed one counts in the curve as far as it came"
    nothing = rows["lr=0.2"]
    assert (nothing.aggregate, nothing.best, nothing.counted) == (None, None, 0)
    assert notes(report) == [
        "lr=0.1, seed 2: failed at step 200 (ValueError: no | such thing); not counted",
        "lr=0.2, seed 0: its last value is not finite; not counted",
        "lr=0.2, seed 1: has recorded no value",
        "lr=0.2, seed 2: has not started",
        "lr=0.2, seed 0: 1 value not finite, left out",
        "intervals from fewer than 5 experiments are rough, and rather too narrow",
    ]
    assert table(report.metrics[0], report)[1][1:] == ["0/3", "–", "–", "–", "–", "–", "–", "2"]
    assert report.metrics[0].winners == frozenset(), "nothing to compare with"


def test_of_a_run_in_progress_the_values_so_far_are_shown_and_marked(tmp_path: Path) -> None:
    run = make_grid(tmp_path)
    for seed, end in ((0, 2), (1, 3)):
        job = run.job(seed=seed, lr=0.1)
        summaries(job, RISING[:end])
        run.attempt(job, None)
    run.close()
    report = make_report(["study"], tmp_path)
    row = rows_of(report.metrics[0])["lr=0.1"]
    assert row.so_far
    assert row.aggregate is not None
    assert row.aggregate.mean == 1.5
    text = markdown(report)
    assert "2/3†" in text
    assert "lr=0.1: no experiment has finished; the values are those so far" in text
    assert "†: values so far" in text


def test_all_experiments_with_values_count_when_asked_to(tmp_path: Path) -> None:
    run = make_grid(tmp_path)
    for seed, verdict, end in ((0, "succeeded", 4), (1, "failed", 2)):
        job = run.job(seed=seed, lr=0.1)
        summaries(job, RISING[:end])
        run.attempt(job, verdict)  # type: ignore[arg-type]
    run.close()
    report = make_report(["study"], tmp_path, options=AnalysisOptions(include="all"))
    row = rows_of(report.metrics[0])["lr=0.1"]
    assert row.aggregate is not None
    assert (row.aggregate.n, row.aggregate.mean, row.so_far) == (2, 5.5, False)
    told = notes(report)
    assert "lr=0.1, seed 1: failed; counted with its values so far" in told
    assert any("experiments end between steps 100 and 1,000" in line for line in told)


def test_seeds_that_only_other_configurations_have_are_told(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path, "study", [(("seed", "lr"), [(0, 0.1), (1, 0.1), (0, 0.2)])])
    for job in run.plan.jobs:
        summaries(job, RISING)
        run.attempt(job, "succeeded")
    run.close()
    assert "lr=0.2: without 1 seed that others have (1)" in notes(make_report(["study"], tmp_path))


def test_progress_histories_and_results_serve_where_there_are_no_summaries(tmp_path: Path) -> None:
    run = make_grid(tmp_path)
    told, written, mixed = (run.job(seed=seed, lr=0.1) for seed in (0, 1, 2))
    for job in (told, written, mixed):
        run.attempt(job, "succeeded")
    clock = iter(range(0, 1000, 10))
    writer = ProgressWriter(told.paths.progress, clock=lambda: float(next(clock)))
    for step, value in [(0, 0.0), (50, 5.0), (20, 3.0), (100, 8.0)]:
        writer.update(step=step, fps=500.0, metrics={"reward": value, "bad": math.nan})
    write_results(written, reward=6.0, fps=700, env_steps=100)
    summaries(mixed, [(0, 0.0), (100, 10.0)])
    run.close()

    report = make_report(["study"], tmp_path, metrics=["reward"])
    (metric,) = report.metrics
    row = rows_of(metric)["lr=0.1"]
    assert metric.metric.name == TAG
    assert [member.value for member in row.members] == [8.0, 6.0, 10.0]
    assert [member.curve.superseded for member in row.members] == [1, 0, 0]
    assert row.fps == 600.0
    assert "values of experiments: 1 from their progress history, 1 from results.json, 1 from summaries" in notes(
        report
    )
    (bad,) = make_report(["study"], tmp_path, metrics=["bad"]).metrics
    assert rows_of(bad)["lr=0.1"].members[0].curve.ends_not_finite


def test_of_several_policies_the_best_or_a_given_one_counts(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path, "study", [("seed", [0])])
    (job,) = run.plan.jobs
    for policy, scale in enumerate((1.0, 3.0, 2.0)):
        summaries(job, [(step, scale * value) for step, value in RISING], policy)
    run.attempt(job, "succeeded")
    run.close()

    def mean(**options: object) -> float:
        report = make_report(["study"], tmp_path, options=AnalysisOptions(**options))  # type: ignore[arg-type]
        result = report.metrics[0].rows[0].aggregate
        assert result is not None
        return result.mean

    assert mean() == 30.0
    assert mean(policy=2) == 20.0
    assert any("up to 3 policies" in line for line in notes(make_report(["study"], tmp_path)))
    lower = make_report(["study"], tmp_path, minimize=True).metrics[0].rows[0]
    assert (lower.aggregate and lower.aggregate.mean, lower.best) == (10.0, 0.0)


def test_groups_can_be_merged_over_a_parameter(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path, "study", [("seed", [0, 1]), ("env", ["a", "b"]), ("lr", [0.1, 0.2])])
    for job in run.plan.jobs:
        summaries(job, [(0, 0.0), (10, 100.0 * (job.params["env"] == "b") + float(str(job.params["lr"])))])
        run.attempt(job, "succeeded")
    run.close()
    whole = make_report(["study"], tmp_path)
    assert [row.group.label for row in whole.metrics[0].rows] == [f"env={e} lr={lr}" for e in "ab" for lr in (0.1, 0.2)]
    assert whole.metrics[0].winners == {1, 3}, "tasks are not compared"
    assert [(plot.title, [line.label for line in plot.lines]) for plot in plots_of(whole.metrics[0], whole)] == [
        ("a", ["lr=0.1", "lr=0.2"]),
        ("b", ["lr=0.1", "lr=0.2"]),
    ]
    merged = make_report(["study"], tmp_path, options=AnalysisOptions(group_by=("lr",)))
    rows = rows_of(merged.metrics[0])
    result = rows["lr=0.2"].aggregate
    assert result is not None
    assert result.n == 4
    assert result.mean == pytest.approx(50.2)
    assert result.mean_interval is not None
    assert result.mean_interval.low == pytest.approx(50.2), "resampled within each environment"
    assert "grouped: averages are also over env" in notes(merged)


def test_absent_and_bare_arguments_are_groups_of_their_own(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path, "study", [("seed", [0, 1]), ("env", [ABSENT]), ("norm", [ABSENT, BARE, None])])
    for job in run.plan.jobs:
        summaries(job, [(0, 0.0), (10, float((ABSENT, BARE, None).index(job.params["norm"])))])
        run.attempt(job, "succeeded")
    run.close()
    report = make_report(["study"], tmp_path)
    means = {label: row.aggregate.mean for label, row in rows_of(report.metrics[0]).items() if row.aggregate}
    assert means == {"norm=ABSENT": 0.0, "norm=BARE": 1.0, "norm=None": 2.0}
    assert {group.task for group in report.grouping.groups} == {"e"}, "the command says it, not the absent parameter"
    grouped = make_report(["study"], tmp_path, options=AnalysisOptions(group_by=("norm",)))
    assert list(rows_of(grouped.metrics[0])) == list(means)


def test_runs_are_compared(tmp_path: Path) -> None:
    for name, scale in (("old", 1.0), ("new", 2.0)):
        run = SyntheticRun(tmp_path, name, [("seed", [0, 1])])
        for job in run.plan.jobs:
            summaries(job, [(step, scale * value) for step, value in RISING])
            run.attempt(job, "succeeded")
        run.close()
    report = make_report(["old", "new", "old"], tmp_path)
    assert report.title == "old + new"
    assert report.grouping.columns == ("run",)
    means = {label: row.aggregate.mean for label, row in rows_of(report.metrics[0]).items() if row.aggregate}
    assert means == {"old": 10.0, "new": 20.0}


def test_experiments_without_a_runner_are_told_apart_by_their_configuration_files(tmp_path: Path) -> None:
    for seed in (0, 1):
        for lr in (0.1, 0.2):
            folder = tmp_path / f"by_hand/x_{seed}_{lr}"
            write_curve(folder / ".summary/0", TAG, [(0, 0.0), (10, lr + seed)])
            sections = {"run": {"seed": seed, "env": "e", "experiment": folder.name}, "rl": {"lr": lr, "gamma": 0.9}}
            (folder / "cfg.json").write_text(json.dumps({"version": 1, "config": sections}))
    report = make_report(["by_hand"], tmp_path)
    assert report.grouping.columns == ("lr",)
    means = {label: row.aggregate.mean for label, row in rows_of(report.metrics[0]).items() if row.aggregate}
    assert means == {"lr=0.1": pytest.approx(0.6), "lr=0.2": pytest.approx(0.7)}
    assert "4 experiments: 4 recorded." in markdown(report)


def test_the_axis_may_be_hours_of_training(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path, "study", [("seed", [0])])
    (job,) = run.plan.jobs
    summaries(job, [(step, 1.0) for step in range(361)])  # one value in 10 s
    run.attempt(job, "succeeded")
    run.close()
    report = make_report(["study"], tmp_path, options=AnalysisOptions(x="time"))
    (plot,) = plots_of(report.metrics[0], report)
    assert plot.x_label == "hours of training"
    assert plot.x_range == pytest.approx((0.0, 1.0))


def test_single_values_of_several_seeds_make_no_curve(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path, "study", [("seed", [0, 1])])
    for step, job in enumerate(run.plan.jobs, 1000):
        summaries(job, [(step, float(step))])
        run.attempt(job, "succeeded")
    run.close()
    report = make_report(["study"], tmp_path)
    assert plots_of(report.metrics[0], report) == []
    assert report.metrics[0].rows[0].aggregate is not None
    assert notes(report)[0] == "base: one value per experiment is no curve yet; none is drawn"


def test_a_run_that_has_recorded_nothing_says_so(tmp_path: Path) -> None:
    make_grid(tmp_path).close()
    with pytest.raises(UsageError, match=r"no experiment has written summaries, progress or results\.json yet"):
        make_report(["study"], tmp_path)


def test_the_table_at_the_end_of_a_run(tmp_path: Path) -> None:
    run = make_grid(tmp_path)
    assert closing_lines(read_run(run.paths).state, run.paths) == []
    for number, job in enumerate(run.plan.jobs):
        run.attempt(job, "failed" if number == 5 else "succeeded")
        ProgressWriter(job.paths.progress).update(step=1, metrics={"len": 3.0, "reward": float(number)})
    run.journal.flush()
    lines = closing_lines(read_run(run.paths).state, run.paths)
    run.close()
    assert lines == [
        "reward, last value of each experiment that succeeded:",
        "  lr   seeds   mean   95 % interval  least  greatest",
        "  0.1    3/3  2.000  [0.000, 4.000]  0.000     4.000",
        "  0.2    2/3  2.000  [1.000, 3.000]  1.000     3.000",
        f"learning curves and more: python -m sf_runner.report study --train_dir={tmp_path}",
    ]
