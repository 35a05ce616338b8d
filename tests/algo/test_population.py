"""Who takes over from whom, and how hyperparameters move."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_algo.population import mutation
from sf_algo.population.exchange import Exchange, Member, PopulationRules, update
from sf_algo.population.mutation import GAMMA, LEARNING, Kind, MutationRules, Tunable, mutated

VALUES = {
    "learning_rate": 1e-4,
    "exploration_loss_coeff": 0.003,
    "value_loss_coeff": 0.5,
    "max_grad_norm": 4.0,
    "ppo_clip_ratio": 0.1,
    "ppo_clip_value": 0.2,
    "gamma": 0.99,
    "shaping/delta/health": -0.3,
}
TUNABLES = (*LEARNING, GAMMA, *mutation.shaping(["delta/health"]))
ALWAYS = MutationRules(rate=1.0)
EAGER = PopulationRules(period_frames=1, start_frames=0, mutation=ALWAYS)

objectives = st.one_of(st.none(), st.floats(-1e6, 1e6))


def member(policy: int, objective: float | None, **changes: object) -> Member:
    made = Member(policy=policy, clock=100, objective=objective, values=VALUES, begun_with=VALUES)
    return replace(made, **changes)  # type: ignore[arg-type]


@st.composite
def populations(draw: st.DrawFn) -> list[Member]:
    count = draw(st.integers(1, 9))
    return [
        Member(
            policy=policy,
            role=draw(st.integers(0, 1)),
            clock=draw(st.integers(0, 50)),
            last_update=draw(st.one_of(st.none(), st.integers(0, 50))),
            objective=draw(objectives),
            has_learned=draw(st.booleans()),
            values={**VALUES, "learning_rate": draw(st.floats(1e-8, 1.0))},
            begun_with=VALUES,
        )
        for policy in range(count)
    ]


rules = st.builds(
    PopulationRules,
    period_frames=st.integers(1, 20),
    start_frames=st.integers(0, 20),
    replace_fraction=st.floats(0, 1),
    gap=st.floats(0, 1),
    gap_absolute=st.floats(0, 10),
    mutation=st.builds(MutationRules, rate=st.floats(0, 1)),
)


def by_policy(found: list[Exchange]) -> dict[int, Exchange]:
    return {one.policy: one for one in found}


@settings(max_examples=100, deadline=None)
@given(populations(), rules, st.integers(0, 2**31 - 1))
def test_whoever_gives_is_ready_better_and_stays_as_it_is(
    members: list[Member], rules: PopulationRules, seed: int
) -> None:
    found = by_policy(update(members, rules, TUNABLES, seed=seed))
    known = {one.policy: one for one in members}
    for policy, exchange in found.items():
        receiver = known[policy]
        assert receiver.has_learned
        assert receiver.objective is not None
        assert receiver.clock >= rules.start_frames
        if receiver.last_update is not None:
            assert receiver.clock - receiver.last_update >= rules.period_frames
        if exchange.donor is None:
            continue
        donor = known[exchange.donor]
        assert donor.has_learned
        assert donor.objective is not None
        assert donor.role == receiver.role
        gap = donor.objective - receiver.objective
        assert gap > rules.gap_absolute
        assert gap > rules.gap * abs(donor.objective)
        if exchange.donor in found:
            assert found[exchange.donor].is_nothing


@settings(max_examples=60, deadline=None)
@given(populations(), rules, st.integers(0, 2**31 - 1))
def test_the_best_keeps_everything(members: list[Member], rules: PopulationRules, seed: int) -> None:
    found = by_policy(update(members, rules, TUNABLES, seed=seed))
    for role in (0, 1):
        ready = [one for one in members if one.role == role and one.is_ready]
        if len(ready) > 1:
            best = max(ready, key=lambda one: (one.objective or 0.0, -one.policy))
            assert best.policy not in found or found[best.policy].is_nothing


@settings(max_examples=60, deadline=None)
@given(populations(), rules, st.integers(0, 2**31 - 1), st.randoms())
def test_turns_depend_on_members_and_seed_alone(
    members: list[Member], rules: PopulationRules, seed: int, shuffle: object
) -> None:
    found = update(members, rules, TUNABLES, seed=seed)
    shuffled = list(members)
    shuffle.shuffle(shuffled)  # type: ignore[attr-defined]
    assert update(shuffled, rules, TUNABLES, seed=seed) == found


@settings(max_examples=60, deadline=None)
@given(populations(), rules, st.integers(0, 2**31 - 1))
def test_a_policy_without_an_episode_changes_nothing_for_the_others(
    members: list[Member], rules: PopulationRules, seed: int
) -> None:
    found = update(members, rules, TUNABLES, seed=seed)
    newcomer = Member(policy=99, clock=10**9, objective=None, values=VALUES, begun_with=VALUES)
    assert update([*members, newcomer], rules, TUNABLES, seed=seed) == found


positive = st.floats(1e-9, 1.0)


@settings(max_examples=100, deadline=None)
@given(positive, st.floats(1.0001, 3), st.integers(0, 2**31 - 1))
def test_a_factor_is_within_its_range(value: float, largest: float, seed: int) -> None:
    rules = MutationRules(rate=1.0, factor_min=1.0001, factor_max=largest)
    values = {"learning_rate": value}
    after = mutated(values, values, LEARNING, rules, np.random.default_rng(seed))["learning_rate"]
    factor = after / value if after > value else value / after
    assert 1.0001 * (1 - 1e-9) <= factor <= largest * (1 + 1e-9) or after in (LEARNING[0].highest, LEARNING[0].lowest)


@settings(max_examples=100, deadline=None)
@given(st.floats(0.0, 0.99999), st.integers(0, 2**31 - 1))
def test_gamma_moves_by_its_horizon(gamma: float, seed: int) -> None:
    after = mutated({"gamma": gamma}, {"gamma": gamma}, [GAMMA], ALWAYS, np.random.default_rng(seed))["gamma"]
    assert 0.0 <= after <= 0.99999
    factor = (1 - after) / (1 - gamma)
    at_bound = after in (0.0, 0.99999)
    assert at_bound or 1.01 - 1e-6 <= max(factor, 1 / factor) <= 1.2 + 1e-6


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 100), st.integers(0, 2**31 - 1))
def test_a_batch_is_made_of_whole_trajectories(rollout: int, parts: int, of: int, seed: int) -> None:
    tunable = mutation.batch_size(rollout=rollout, largest=rollout * parts * of)
    size = float(rollout * parts)
    after = mutated({"batch_size": size}, {"batch_size": size}, [tunable], ALWAYS, np.random.default_rng(seed))
    found = after["batch_size"]
    assert found % rollout == 0
    assert rollout <= found <= rollout * parts * of


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=5), st.integers(0, 2**31 - 1))
def test_signs_and_zeros_of_shaping_stay(numbers: list[float], seed: int) -> None:
    tunables = mutation.shaping([str(k) for k in range(len(numbers))])
    values = {tunable.name: number for tunable, number in zip(tunables, numbers, strict=True)}
    after = mutated(values, values, tunables, ALWAYS, np.random.default_rng(seed))
    for name, number in values.items():
        assert math.copysign(1, after[name]) == math.copysign(1, number)
        assert (after[name] == 0.0) == (number == 0.0)


def test_what_is_switched_off_stays_off_and_what_was_chosen_out_of_bounds_is_not_pulled_back() -> None:
    values = {"max_grad_norm": 0.0, "ppo_clip_ratio": 50.0}
    for seed in range(20):
        after = mutated(values, values, LEARNING, ALWAYS, np.random.default_rng(seed))
        assert after["max_grad_norm"] == 0.0
        assert after["ppo_clip_ratio"] <= 50.0


def test_sometimes_a_number_goes_back_to_where_it_began() -> None:
    rng = np.random.default_rng(0)
    found = [
        mutated({"learning_rate": 1.0}, {"learning_rate": 1e-3}, LEARNING, ALWAYS, rng)["learning_rate"]
        for _ in range(2000)
    ]
    assert 50 < found.count(1e-3) < 150  # 5 %


def test_the_rate_is_the_share_of_numbers_that_change() -> None:
    tunables = [Tunable(name=str(k)) for k in range(5000)]
    values = {tunable.name: 1.0 for tunable in tunables}
    after = mutated(values, values, tunables, MutationRules(rate=0.15), np.random.default_rng(1))
    assert 0.13 < sum(after[name] != 1.0 for name in values) / 5000 < 0.17


def test_the_worst_share_takes_over_the_numbers_of_the_best_too() -> None:
    members = [
        member(0, 10.0, values={**VALUES, "learning_rate": 5e-3}),
        *(member(policy, 5.0) for policy in (1, 2)),
        member(3, 0.0),
    ]
    found = by_policy(update(members, replace(EAGER, mutation=MutationRules(rate=0.0)), TUNABLES, seed=1))
    assert found[3].donor == 0 or found[3].donor == 1
    still = replace(EAGER, mutation=MutationRules(rate=0.0), replace_fraction=0.25)
    found = by_policy(update(members, still, TUNABLES, seed=1))
    assert found[3].donor == 0
    assert found[3].overrides["learning_rate"] == 5e-3
    assert found[3].changed == {"learning_rate": (1e-4, 5e-3)}
    assert found[0].is_nothing
    assert found[1].is_nothing  # no mutation happened to be drawn


def test_all_but_the_best_mutate() -> None:
    members = [member(policy, float(policy)) for policy in range(4)]
    found = by_policy(update(members, replace(EAGER, replace_fraction=0.25, gap=1e9), TUNABLES, seed=3))
    assert found[3].is_nothing
    assert all(found[policy].changed and found[policy].donor is None for policy in (0, 1, 2))


def test_both_gaps_must_be_passed() -> None:
    members = [member(0, 100.0), member(1, 95.0)]
    for gap, absolute, donor in ((0.1, 0.0, None), (0.01, 6.0, None), (0.01, 4.0, 0)):
        rules = replace(EAGER, gap=gap, gap_absolute=absolute)
        assert by_policy(update(members, rules, TUNABLES, seed=0))[1].donor == donor


def test_one_alone_of_its_role_has_nobody_to_compare_with() -> None:
    assert update([member(0, 1.0, role=0), member(1, 2.0, role=1)], EAGER, TUNABLES, seed=0) == []


def test_kinds_are_told_apart() -> None:
    assert {tunable.kind for tunable in TUNABLES} == {Kind.SCALE, Kind.DISCOUNT}
