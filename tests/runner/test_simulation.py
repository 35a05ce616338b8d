"""Whole runs in memory, with everything that may go wrong."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_runner.describe.description import Experiment
from sf_runner.engine.scheduler import Policy
from sf_runner.state import events as ev
from sf_runner.state.fold import replay
from tests.runner.builders import essence, make_run, resources
from tests.runner.simulation import Chances, Simulation
from tests.runner.world import fake_gpus, machine

POLICIES = st.builds(
    Policy,
    pause_between_s=st.sampled_from([0.0, 0.0, 3.0]),
    max_retries=st.integers(0, 3),
    retry_delay_s=st.sampled_from([0.0, 5.0, 200.0]),
    max_failures=st.sampled_from([None, 0, 0, 3]),
    timeout_s=st.just(100.0),
)


def simulate(seed: int, jobs: int, gpus: int, max_parallel: int, policy: Policy, chances: Chances) -> Simulation:
    plan = make_run(
        Experiment("wide", "true", [{"seed": n} for n in range(jobs // 4)], resources=resources(gpus=min(gpus, 2))),
        Experiment("own", "true", [{"seed": n} for n in range(jobs // 4)], env_vars={"OMP_NUM_THREADS": 2}),
        Experiment("job", "true", [{"seed": n} for n in range(max(1, jobs // 2))]),
    )
    table = machine(gpus=gpus, experiments_per_gpu=2, cpus=4)
    run = Simulation(
        plan=plan,
        table=table,
        snapshot=fake_gpus(gpus),
        policy=policy,
        random=Random(seed),
        chances=chances,
        max_parallel=max_parallel,
    )
    run.run()
    run.check_end()
    return run


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(4, 24), st.sampled_from([0, 1, 2, 4]), st.integers(1, 6), POLICIES)
def test_whatever_happens_nothing_is_lost_nor_done_twice(
    seed: int, jobs: int, gpus: int, max_parallel: int, policy: Policy
) -> None:
    run = simulate(seed, jobs, gpus, max_parallel, policy, Chances())
    replayed = replay([ev.decode(ev.encode(event)) for event in run.events], "journal")
    assert essence(replayed)["counts"] == essence(run.state)["counts"]
    assert {job: type(r.state) for job, r in replayed.jobs.items()} == {
        job: type(r.state) for job, r in run.state.jobs.items()
    }


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.integers(1, 5))
def test_on_a_good_day_everything_succeeds_at_the_first_attempt(seed: int, max_parallel: int) -> None:
    calm = Chances(fail=0.0, oom=0.0, hang=0.0, not_started=0.0, person=0.0, killed=0.0)
    run = simulate(seed, 20, 0, max_parallel, Policy(), calm)
    assert run.state.counts["Succeeded"] == run.state.total
    assert all(record.attempts == 1 for record in run.state.jobs.values())


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.integers(0, 3))
def test_when_runners_are_killed_all_the_time_the_run_still_ends(seed: int, gpus: int) -> None:
    chances = Chances(fail=0.0, oom=0.0, hang=0.0, not_started=0.0, person=0.0, killed=0.5, unseen=0.5)
    run = simulate(seed, 12, gpus, 3, Policy(), chances)
    assert run.state.counts["Succeeded"] == run.state.total


@pytest.mark.parametrize("max_retries", [0, 2])
def test_when_every_attempt_fails_the_run_ends_too(max_retries: int) -> None:
    chances = Chances(fail=1.0, oom=0.0, hang=0.0, not_started=0.0, person=0.0, killed=0.0)
    run = simulate(1, 40, 0, 4, Policy(max_retries=max_retries, max_failures=0), chances)
    assert run.state.counts["Failed"] == run.state.total
    assert all(record.failures == max_retries + 1 for record in run.state.jobs.values())
    stopped = simulate(1, 40, 0, 4, Policy(max_retries=max_retries), chances)
    assert stopped.state.draining is not None
    assert stopped.state.draining.reason == "max_failures"
    assert stopped.state.count("Waiting") > 0
