"""Plans: jobs, their keys and their paths."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest

from sf_runner import Experiment, ParamGrid, Resources, RunDescription
from sf_runner.basics.errors import DescriptionError, UsageError
from sf_runner.basics.paths import JobPaths, RunPaths, find_run, iter_runs
from sf_runner.describe.plan import Plan, make_plan
from sf_runner.progress import history_path


def grid_plan(train_dir: str = "./train_dir", suffix: str | None = None, **changes: object) -> Plan:
    grid = ParamGrid([("env", ["x", "y"]), ("seed", [5, 3, 9])])
    settings: dict[str, object] = {"env_vars": {"B": 2, "A": 1}, "cmd": "python -m a.b --algo=APPO", **changes}
    experiments = [
        Experiment("grid", param_generator=grid, resources=Resources(gpus=1), **settings),  # type: ignore[arg-type]
        Experiment("plain", ["./run.sh"]),
    ]
    return make_plan(RunDescription("study", experiments, max_parallel=3), train_dir, experiment_suffix=suffix)


def test_a_job_carries_what_a_backend_needs() -> None:
    plan = grid_plan()
    assert (plan.run_name, len(plan.jobs), plan.defaults.max_parallel) == ("study", 7, 3)
    job = plan.jobs[1]
    assert (job.job_id, job.name) == ("grid_/01_grid_env_x_see_3", "01_grid_env_x_see_3")
    assert (job.index, job.base_name, job.params) == (1, "grid", {"env": "x", "seed": 3})
    assert job.argv == (
        "python",
        "-m",
        "a.b",
        "--algo=APPO",
        "--env=x",
        "--seed=3",
        "--experiment=01_grid_env_x_see_3",
        "--train_dir=./train_dir",
        "--experiments_root=study/grid_",
    )
    assert job.env == {"B": "2", "A": "1"}
    assert job.resources == Resources(gpus=1)
    assert job.seed == "3"
    assert job.command == " ".join(job.argv)
    assert plan.jobs[6].argv[0] == "./run.sh"
    assert plan.jobs[6].resources == Resources()
    assert plan.by_id()[job.job_id] is job


def test_jobs_and_plans_are_frozen() -> None:
    plan = grid_plan()
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.jobs[0].index = 3  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.run_name = "x"  # type: ignore[misc]


def test_seed_major_order_finishes_one_seed_of_everything_first() -> None:
    ordered = sorted(grid_plan().jobs, key=lambda job: job.seed_major_key)
    assert [job.name for job in ordered] == [
        "00_grid_env_x_see_5",
        "03_grid_env_y_see_5",
        "00_plain",
        "01_grid_env_x_see_3",
        "04_grid_env_y_see_3",
        "02_grid_env_x_see_9",
        "05_grid_env_y_see_9",
    ]


def test_the_seed_parameter_can_have_another_name() -> None:
    grid = ParamGrid([("env.rng", [1, 2]), ("seed", [3])])
    description = RunDescription("r", [Experiment("e", "a", grid)], seed_param="env.rng", param_prefix="")
    plan = make_plan(description, "t")
    assert [job.seed for job in plan.jobs] == ["1", "2"]
    assert len({job.config_key for job in plan.jobs}) == 1


def test_configurations_differ_by_all_but_the_seed() -> None:
    jobs = grid_plan().jobs
    assert len({job.config_key for job in jobs}) == 3
    assert jobs[0].config_key == jobs[1].config_key == jobs[2].config_key != jobs[3].config_key
    assert jobs[0].config_key == grid_plan(suffix="v2").jobs[0].config_key
    assert jobs[0].config_key != grid_plan(env_vars={"A": 2}).jobs[0].config_key


def test_fingerprints_change_with_what_a_job_does_and_with_nothing_else() -> None:
    plan = grid_plan()
    assert len({job.fingerprint for job in plan.jobs}) == 7
    assert plan == grid_plan()
    for elsewhere in (grid_plan("/data/runs"), grid_plan(env_vars={"A": 1, "B": 2})):
        assert [job.fingerprint for job in elsewhere.jobs] == [job.fingerprint for job in plan.jobs]
        assert elsewhere.fingerprint == plan.fingerprint
    for changed in (grid_plan(cmd="python -m a.b --algo=PPO"), grid_plan(env_vars={"A": 1}), grid_plan(env_vars=None)):
        same = [a.fingerprint == b.fingerprint for a, b in zip(changed.jobs, plan.jobs, strict=True)]
        assert same == [False] * 6 + [True]
        assert changed.fingerprint != plan.fingerprint


def test_moving_a_word_between_arguments_changes_the_fingerprint() -> None:
    one, other = (
        make_plan(RunDescription("r", [Experiment("e", cmd)]), "t").jobs[0].fingerprint
        for cmd in (["a", "b c"], ["a b", "c"])
    )
    assert one != other


def test_the_suffix_moves_jobs_to_another_folder() -> None:
    plan = grid_plan(suffix="v2")
    assert plan.jobs[0].job_id == "grid_v2/00_grid_env_x_see_5"
    assert plan.jobs[0].argv[-1] == "--experiments_root=study/grid_v2"
    assert plan.fingerprint != grid_plan().fingerprint


def test_two_jobs_with_one_name_are_told_apart_in_the_message() -> None:
    description = RunDescription("r", [Experiment("a", "x", [{"b": 1}]), Experiment("a", "y", [{"b": 1}])])
    with pytest.raises(
        DescriptionError,
        match=r"combination 0 of experiment 'a' \(b=1\) and combination 0 of experiment 'a' \(b=1\) would both be "
        r"'a_/00_a_b_1'; give the experiments different names",
    ):
        make_plan(description, "t")


def test_one_experiment_listed_twice_is_a_duplicate() -> None:
    experiment = Experiment("a", "x")
    with pytest.raises(DescriptionError, match="would both be 'a_/00_a'"):
        make_plan(RunDescription("r", [experiment, experiment]), "t")


def test_equal_names_in_different_folders_are_two_jobs() -> None:
    description = RunDescription("r", [Experiment("a", "x", [{"b": 1}]), Experiment("a_b_1", "x")])
    assert [job.job_id for job in make_plan(description, "t").jobs] == ["a_/00_a_b_1", "a_b_1_/00_a_b_1"]


def test_hostile_and_long_values_give_distinct_safe_folders() -> None:
    values = ["../../etc", "a/b", "a b", "a\nb", "x" * 300, "x" * 299 + "y", "", "é", "e", {"a": 1}]
    plan = make_plan(RunDescription("r", [Experiment("../e", "prog", [{"p": v} for v in values])]), "t")
    assert len({job.job_id for job in plan.jobs}) == len(values)
    for job, value in zip(plan.jobs, values, strict=True):
        assert job.paths.experiment_dir.parent.parent == Path("t/r")
        assert job.argv[1] == f"--p={value}"
        assert all(len(part) <= 200 for part in job.job_id.split("/"))


def test_ten_thousand_jobs_are_planned_well_within_a_second() -> None:
    grid = ParamGrid([("seed", range(100)), ("env", ["x", "y"]), ("lr", [i / 1e4 for i in range(50)])])
    description = RunDescription("big", [Experiment("basic", "python -m a.b --algo=APPO", grid)])
    start = time.process_time()
    plan = make_plan(description, "train_dir")
    planned_s = time.process_time() - start
    start = time.process_time()
    for i in range(10_000):
        dict(a=i, b=str(i), c=f"--x={i}", d=(i, i, i), e=[str(i)] * 8)  # noqa: C408  a yardstick of plain Python
    yardstick_s = time.process_time() - start
    assert len(plan.jobs) == len({job.job_id for job in plan.jobs}) == 10_000
    assert planned_s < 100 * yardstick_s


def test_paths_are_those_of_the_layout(tmp_path: Path) -> None:
    run = RunPaths(train_dir=tmp_path, run_name="study")
    assert run.journal == tmp_path / "study/.runner/journal.jsonl"
    assert run.lock == tmp_path / "study/.runner/lock"
    assert run.history == tmp_path / "study/.runner/history.json"
    assert run.requests_dir == tmp_path / "study/.runner/requests"
    job = run.job("basic_/00_basic")
    assert job == JobPaths(experiment_dir=tmp_path / "study/basic_/00_basic")
    assert job.exit_record == tmp_path / "study/basic_/00_basic/job/exit.json"
    assert job.progress == job.job_dir / "progress.json"
    assert str(job.progress_history) == history_path(job.progress)


def test_logs_are_listed_in_the_order_of_attempts(tmp_path: Path) -> None:
    job = JobPaths(experiment_dir=tmp_path)
    assert job.attempt_logs() == []
    job.job_dir.mkdir()
    for name in ("attempt_10.log", "attempt_2.log", "attempt_x.log", "attempt_1.log.gz", "exit.json"):
        (job.job_dir / name).touch()
    assert job.attempt_logs() == [job.attempt_log(2), job.attempt_log(10)]


def test_runs_are_found_by_name_or_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("doom_study", "other"):
        RunPaths(train_dir=tmp_path, run_name=name).runner_dir.mkdir(parents=True)
    (tmp_path / "no_run").mkdir()
    assert [run.run_name for run in iter_runs(tmp_path)] == ["doom_study", "other"]
    expected = RunPaths(train_dir=tmp_path, run_name="other")
    assert find_run("other", tmp_path) == expected
    assert find_run(str(tmp_path / "other"), Path("elsewhere")) == expected
    monkeypatch.chdir(tmp_path / "other")
    assert find_run(".", Path("elsewhere")) == expected
    with pytest.raises(UsageError, match=r"No run 'doom_stdy' under --train_dir=.*Did you mean 'doom_study'\?"):
        find_run("doom_stdy", tmp_path)
    with pytest.raises(UsageError, match=r"holds no runs; is --train_dir right\?"):
        find_run("x", tmp_path / "missing")
    with pytest.raises(UsageError, match="No run ''"):
        find_run("", tmp_path)
