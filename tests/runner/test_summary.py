"""The closing words: counts, failures by cause, results per configuration, how to go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sf_runner.basics.paths import RunPaths
from sf_runner.describe.description import Experiment
from sf_runner.state import events as ev
from sf_runner.state.failures import failure_groups
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import FailureCause
from sf_runner.state.summary import exit_code, main_metric, results_lines, summary_lines
from tests.runner.builders import fresh, make_run, run_once, simple_plan, start
from tests.runner.golden import assert_golden

RERUN = "python -m sf_runner.run --run=study"


def because(text: str) -> FailureCause:
    return FailureCause(kind="exception", summary=text, fingerprint=text[:6])


def report(paths: RunPaths, job: str, **metrics: float) -> None:
    path = paths.job(job).progress
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"time": 1.0, "metrics": metrics}))


def touch_log(paths: RunPaths, job: str, attempt: int) -> None:
    log = paths.job(job).attempt_log(attempt)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()


def lines(state: RunState, paths: RunPaths, rerun: str = RERUN) -> list[str]:
    return summary_lines(state, paths, elapsed_s=3725.0, rerun=rerun)


def test_a_whole_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    grid = [{"lr": lr, "net": net, "seed": seed} for lr in (0.1, 1e-4) for net in ("a", "b") for seed in (0, 1, 2)]
    plan = make_run(Experiment("ppo", "true", grid), Experiment("sac", "true"), Experiment("late", "true"))
    state = fresh(plan)
    jobs = list(state.jobs)
    for number, job in enumerate(jobs[:12]):
        if number < 4:
            run_once(state, job, "retry")
            cause = because(f"ValueError: loss is nan at step {number}") if number else because("MemoryError")
            run_once(state, job, "failed", cause=cause)
            if number:
                touch_log(plan.paths, job, 2)
        else:
            run_once(state, job)
            report(plan.paths, job, loss=0.5, reward=10.0 * number)
    run_once(state, jobs[12])
    report(plan.paths, jobs[12], accuracy=0.25)
    state.apply(ev.JobCancelled(t=9.0, job=jobs[13]))
    assert_golden("summary.txt", "\n".join(lines(state, plan.paths)) + "\n")


def test_when_all_went_well_it_is_short() -> None:
    plan = simple_plan(2, "nowhere")
    state = fresh(plan)
    for job in list(state.jobs):
        run_once(state, job)
    assert lines(state, plan.paths) == ["run study: all 2 experiments succeeded in 1 h 2 min"]
    assert exit_code(state, None) == 0
    assert exit_code(state, 2) == 0


def test_what_is_not_done_is_told_with_the_command_that_goes_on() -> None:
    plan = simple_plan(4, "nowhere")
    state = fresh(plan)
    jobs = list(state.jobs)
    run_once(state, jobs[0])
    run_once(state, jobs[1], "failed")
    start(state, jobs[2])
    first, *_, last = lines(state, plan.paths)
    assert first == "run study: 1 of 4 experiments succeeded, 1 failed, 1 did not run, 1 still running in 1 h 2 min"
    assert last == f"2 experiments are not done; the same command goes on with them: {RERUN}"
    assert exit_code(state, None) == 1
    assert exit_code(state, 15) == 143


def test_what_was_begun_is_not_said_to_have_never_run() -> None:
    plan = simple_plan(3, "nowhere")
    state = fresh(plan)
    run_once(state, next(iter(state.jobs)), "requeue")
    first, *_ = lines(state, plan.paths)
    assert first == "run study: 0 of 3 experiments succeeded, 1 unfinished, 2 did not run in 1 h 2 min"


@pytest.mark.parametrize(
    ("rerun", "verdict", "expected"),
    [
        (RERUN, "failed", f"try the failed ones again: {RERUN} --retry_failed"),
        (f"{RERUN} --retry_failed", "failed", f"try the failed ones again: {RERUN} --retry_failed"),
        (RERUN, "cancelled", f"run the cancelled ones after all: {RERUN} --retry_cancelled"),
    ],
)
def test_how_to_repeat(rerun: str, verdict: str, expected: str) -> None:
    plan = simple_plan(1, "nowhere")
    state = fresh(plan)
    run_once(state, "job_/00_job_see_0", verdict)
    assert lines(state, plan.paths, rerun)[-1] == expected


def test_failures_are_grouped_by_cause_largest_first() -> None:
    state = fresh(simple_plan(6))
    for job, text in zip(list(state.jobs), ("KeyError", "OSError 1", "OSError 2", "OSError 3"), strict=False):
        run_once(state, job, "failed", cause=because(text))
    groups = failure_groups(state)
    assert [(group.summary, len(group.jobs)) for group in groups] == [("OSError 1", 3), ("KeyError", 1)]


def test_experiments_that_left_the_description_are_not_told() -> None:
    plan = simple_plan(2, "nowhere")
    state = fresh(plan)
    run_once(state, "job_/00_job_see_0", "failed")
    run_once(state, "job_/01_job_see_1")
    state.apply(ev.JobsChanged(t=5.0, jobs=[{"id": "job_/00_job_see_0", "planned": False}]))
    assert lines(state, plan.paths) == ["run study: all 1 experiments succeeded in 1 h 2 min"]
    assert exit_code(state, None) == 0


# ---- results -----------------------------------------------------------------------------------------------------


def results(tmp_path: Path, *experiments: Experiment, seed_param: str = "seed") -> list[str]:
    """All succeed and report their index as `reward`."""
    plan = make_run(*experiments, train_dir=tmp_path, seed_param=seed_param)
    state = fresh(plan)
    for number, job in enumerate(list(state.jobs)):
        run_once(state, job)
        report(plan.paths, job, reward=float(number))
    return [line.split("  ")[1] for line in results_lines(state, plan.paths) if line.startswith("  ")]


def test_a_parameter_with_the_value_of_the_seed_is_still_named(tmp_path: Path) -> None:
    names = results(tmp_path, Experiment("e", "true", [{"seed": 1, "recurrence": 1}, {"seed": 1, "recurrence": 32}]))
    assert names == ["e recurrence=1", "e recurrence=32"]


def test_another_parameter_may_be_the_seed(tmp_path: Path) -> None:
    grid = [{"random_state": state, "seed": "corn"} for state in (1, 2)]
    assert results(tmp_path, Experiment("e", "true", grid), seed_param="random_state") == ["e seed=corn"]


def test_two_configurations_with_the_same_name_are_told_apart(tmp_path: Path) -> None:
    experiments = [
        Experiment("e", "true --fast", [{"seed": 1}, {"seed": 2}]),
        Experiment("e", "true --slow", [{"seed": 3}, {"seed": 4}]),
        Experiment("other", "true"),
    ]
    assert results(tmp_path, *experiments) == ["e (00_e_see_1)", "e (00_e_see_3)", "other"]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"metrics": 3}', '{"metrics": {"reward": "high"}}'])
def test_a_damaged_progress_file_is_as_good_as_none(tmp_path: Path, damage: str) -> None:
    plan = simple_plan(1, tmp_path)
    state = fresh(plan)
    run_once(state, "job_/00_job_see_0")
    report(plan.paths, "job_/00_job_see_0")
    plan.paths.job("job_/00_job_see_0").progress.write_text(damage)
    assert results_lines(state, plan.paths) == []


def test_the_main_metric() -> None:
    assert main_metric({"loss": 1.0, "reward": 2.0}) == "reward"
    assert main_metric({"reward": 1.0, "true_reward": 2.0}) == "true_reward"
    assert main_metric({"speed": 1.0, "height": 2.0}) == "speed"
