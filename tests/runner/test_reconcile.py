"""A plan meets an earlier start: new, gone, changed and repeated experiments."""

from __future__ import annotations

from typing import Any

import pytest

from sf_runner.basics.errors import UsageError
from sf_runner.describe.description import Experiment
from sf_runner.describe.plan import Plan
from sf_runner.engine.reconcile import entry, job_shape, ranks, reconcile, slot_requests
from sf_runner.state import events as ev
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import Failed, Waiting
from tests.runner.builders import (
    check_consistency,
    essence,
    fresh,
    make_run,
    names,
    opening,
    resources,
    run_once,
    simple_plan,
    start,
)


def changes(plan: Plan, state: RunState, **settings: Any) -> list[ev.Event]:
    defaults: dict[str, Any] = {"changed": "refuse", "retry": (), "ranks_by_job": ranks(plan, "submission", {})}
    return list(reconcile(plan, state, now=5.0, **{**defaults, **settings}))


def notes(events: list[ev.Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, ev.Note)]


def through_the_codec(events: list[ev.Event]) -> list[ev.Event]:
    return [ev.decode(ev.encode(event)) for event in events]


def replayed(plan: Plan, **settings: Any) -> RunState:
    """The state of a first start as its journal tells it."""
    state = RunState()
    state.apply_all(through_the_codec(opening(plan, state, **settings)))
    return state


def test_a_first_start_plans_every_job_in_portions() -> None:
    plan = simple_plan(1201)
    events = changes(plan, RunState())
    assert all(isinstance(event, ev.JobsPlanned) for event in events)
    assert [len(event.jobs) for event in events if isinstance(event, ev.JobsPlanned)] == [500, 500, 201]
    state = RunState()
    state.apply_all(events)
    assert list(state.jobs) == [job.job_id for job in plan.jobs]


def test_the_same_description_again_changes_nothing() -> None:
    plan = make_run(
        Experiment("a", "python x.py 'two words'", [{"seed": s, "lr": 1e-4, "net": [64, 64]} for s in range(3)]),
        Experiment("b", "true", env_vars={"OMP_NUM_THREADS": 2}, resources=resources(cpus=2, timeout_s=9.0)),
        Experiment("nan", "true", [{"x": float("nan")}]),
    )
    assert changes(plan, replayed(plan)) == []
    assert essence(replayed(plan))["jobs"] == essence(fresh(plan))["jobs"]


def test_the_journal_holds_what_people_want_to_see() -> None:
    plan = make_run(Experiment("a", "python x.py", [{"seed": 3, "lr": 0.1, "net": (64, 64)}]), seed_param="seed")
    body = entry(plan.jobs[0], 0)
    assert body["params"] == {"seed": 3, "lr": 0.1, "net": "(64, 64)"}
    assert (body["seed"], body["argv"][:2]) == ("3", ("python", "x.py"))
    assert not {"shape", "timeout_s", "seed_param"} & body.keys()
    assert entry(plan.jobs[0], 0, "lr")["seed_param"] == "lr"


def test_new_experiments_join_and_removed_ones_leave() -> None:
    state = replayed(simple_plan(2))
    run_once(state, "job_/00_job_see_0")
    more = simple_plan(4)
    events = changes(more, state)
    assert notes(events) == ["2 experiment(s) are new in the description"]
    state.apply_all(through_the_codec(events))
    assert state.total == 4
    less = simple_plan(1)
    events = changes(less, state)
    (told,) = notes(events)
    assert told == "3 experiment(s) are no longer in the description, e.g. 'job_/01_job_see_1'"
    state.apply_all(through_the_codec(events))
    assert state.finished
    assert state.ready() == []
    check_consistency(state)
    state.apply_all(through_the_codec(changes(more, state)))
    assert names(state.ready()) == ["job_/01_job_see_1"]
    assert state.total == 4
    check_consistency(state)


def test_a_removed_experiment_that_runs_is_mentioned() -> None:
    state = replayed(simple_plan(2))
    start(state, "job_/01_job_see_1")
    (told,) = notes(changes(simple_plan(1), state))
    assert told.endswith("; 1 of them still run to their end")


def test_a_changed_command_of_something_that_never_ran_is_taken() -> None:
    state = replayed(simple_plan(2))
    events = changes(simple_plan(2, cmd="false"), state)
    assert notes(events) == []
    state.apply_all(through_the_codec(events))
    assert state.jobs["job_/00_job_see_0"].argv[0] == "false"
    assert names(state.ready()) == ["job_/00_job_see_0"]


def test_a_changed_command_of_something_that_ran_is_refused() -> None:
    state = replayed(simple_plan(2))
    run_once(state, "job_/01_job_see_1")
    with pytest.raises(UsageError, match=r"1 experiment\(s\) .* e\.g\. 'job_/01_job_see_1': --changed=keep .*rerun"):
        changes(simple_plan(2, cmd="false"), state)


def test_a_changed_variable_is_a_change_too() -> None:
    state = replayed(simple_plan(1))
    run_once(state, "job_/00_job_see_0")
    with pytest.raises(UsageError, match="have another command now"):
        changes(simple_plan(1, env_vars={"A": 1}), state)


def test_keep_takes_the_results_as_they_are_once() -> None:
    state = replayed(simple_plan(2))
    run_once(state, "job_/01_job_see_1")
    plan = simple_plan(2, cmd="false")
    events = changes(plan, state, changed="keep")
    assert notes(events) == ["1 experiment(s) have another command now; their results are kept"]
    assert not any(isinstance(event, ev.JobRequeued) for event in events)
    state.apply_all(through_the_codec(events))
    assert changes(plan, state) == []


def test_rerun_runs_what_ended_again() -> None:
    state = replayed(simple_plan(3))
    run_once(state, "job_/00_job_see_0")
    run_once(state, "job_/01_job_see_1", "failed")
    run_once(state, "job_/02_job_see_2", "retry", not_before=9.0)
    events = changes(simple_plan(3, cmd="false"), state, changed="rerun", retry=["failed"])
    assert [event.job for event in events if isinstance(event, ev.JobRequeued)] == [
        "job_/00_job_see_0",
        "job_/01_job_see_1",
    ]
    state.apply_all(events)
    assert all(isinstance(record.state, Waiting) for record in state.jobs.values())
    check_consistency(state)


def test_rerun_does_not_touch_what_still_runs_with_its_old_command() -> None:
    state = replayed(simple_plan(1))
    start(state, "job_/00_job_see_0")
    with pytest.raises(UsageError, match="'job_/00_job_see_0' is still running with its old command"):
        changes(simple_plan(1, cmd="false"), state, changed="rerun")
    assert notes(changes(simple_plan(1, cmd="false"), state, changed="keep"))


def test_another_folder_for_results_is_no_other_command() -> None:
    state = replayed(simple_plan(1, "old"))
    run_once(state, "job_/00_job_see_0")
    events = changes(simple_plan(1, "new"), state)
    state.apply_all(through_the_codec(events))
    assert "--train_dir=new" in state.jobs["job_/00_job_see_0"].argv
    assert changes(simple_plan(1, "new"), state) == []


@pytest.mark.parametrize(
    ("retry", "again"), [((), ""), (["failed"], "1"), (["cancelled"], "2"), (["failed", "cancelled"], "12")]
)
def test_failed_and_cancelled_ones_run_again_only_when_asked(retry: list[str], again: str) -> None:
    state = replayed(simple_plan(4))
    run_once(state, "job_/00_job_see_0")
    run_once(state, "job_/01_job_see_1", "failed")
    state.apply(ev.JobCancelled(t=1.0, job="job_/02_job_see_2"))
    events = changes(simple_plan(4), state, retry=retry)
    assert [event.job[-1] for event in events if isinstance(event, ev.JobRequeued)] == list(again)


def test_a_removed_failure_is_not_tried_again() -> None:
    state = replayed(simple_plan(2))
    run_once(state, "job_/01_job_see_1", "failed")
    state.apply_all(changes(simple_plan(1), state, retry=["failed"]))
    assert isinstance(state.jobs["job_/01_job_see_1"].state, Failed)


def test_a_shape_that_changed_moves_the_job() -> None:
    state = replayed(simple_plan(2, resources=resources(gpus=2)))
    plan = simple_plan(2, resources=resources(gpus=1))
    state.apply_all(through_the_codec(changes(plan, state)))
    assert [record.shape for record in state.ready()] == ["gpus=1"]
    assert {record.shape for record in state.ready()} <= slot_requests(plan).keys()


def test_only_what_differs_is_written() -> None:
    state = replayed(simple_plan(3))
    run_once(state, "job_/00_job_see_0")
    reverse = {job.job_id: 2 - job.index for job in simple_plan(3).jobs}
    (event,) = changes(simple_plan(3), state, ranks_by_job=reverse)
    assert isinstance(event, ev.JobsChanged)
    assert list(event.jobs) == [{"id": "job_/02_job_see_2", "rank": 0}]  # the first is done: its rank is no matter


# ---- order -------------------------------------------------------------------------------------------------------


def grid() -> Plan:
    combinations = [{"net": net, "seed": seed} for net in ("small", "large") for seed in (7, 8)]
    return make_run(Experiment("e", "true", combinations))


def order(plan: Plan, how: Any, expected: dict[str, float] | None = None) -> list[int]:
    ranked = ranks(plan, how, expected or {})
    return [job.index for job in sorted(plan.jobs, key=lambda job: ranked[job.job_id])]


def test_orders() -> None:
    plan = grid()
    small, large = plan.jobs[0].config_key, plan.jobs[2].config_key
    assert order(plan, "submission") == [0, 1, 2, 3]
    assert order(plan, "seed_major") == [0, 2, 1, 3]
    assert order(plan, "longest_first", {small: 10.0, large: 20.0}) == [2, 3, 0, 1]
    assert order(plan, "shortest_first", {small: 20.0, large: 10.0}) == [2, 3, 0, 1]
    assert order(plan, "longest_first") == [0, 1, 2, 3]


def test_what_was_never_measured_counts_as_the_mean_of_this_plan() -> None:
    combinations = [{"net": net} for net in ("short", "unknown", "long")]
    plan = make_run(Experiment("e", "true", combinations))
    short, _, long = (job.config_key for job in plan.jobs)
    elsewhere = {"another run's": 1e9}
    assert order(plan, "longest_first", {short: 1.0, long: 9.0, **elsewhere}) == [2, 1, 0]
    assert order(plan, "shortest_first", {short: 1.0, long: 9.0, **elsewhere}) == [0, 1, 2]


# ---- shapes ------------------------------------------------------------------------------------------------------


def test_shapes_are_what_is_asked_for() -> None:
    plan = make_run(
        Experiment("a", "true"),
        Experiment("b", "true", resources=resources(gpus=2, cpus=4, gpu_memory_mb=500)),
        Experiment("c", "true", env_vars={"CUDA_VISIBLE_DEVICES": "1", "PATH_X": "y"}),
        Experiment("d", "true", env_vars={"OTHER": "1"}, resources=resources(timeout_s=3.0)),
    )
    assert [job_shape(job) for job in plan.jobs] == [
        "",
        "cpus=4,gpu_memory_mb=500,gpus=2",
        ";CUDA_VISIBLE_DEVICES=1",
        "",
    ]
    requests = slot_requests(plan)
    assert requests[""].gpus is None
    assert (requests["cpus=4,gpu_memory_mb=500,gpus=2"].gpus, requests["cpus=4,gpu_memory_mb=500,gpus=2"].cpus) == (
        2,
        4,
    )
    assert requests[";CUDA_VISIBLE_DEVICES=1"].user_env == {("CUDA_VISIBLE_DEVICES", "1")}
