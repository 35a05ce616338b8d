"""Hyperparameters in which policies differ from the start (--per_policy)."""

from __future__ import annotations

import itertools
import math

import pytest

from sf_algo.config import Config, parse_args
from sf_algo.config.per_policy import check_shaping, policy_rl, policy_shaping
from sf_algo.errors import ConfigError


def config_of(*entries: str, policies: int = 4, flags: tuple[str, ...] = ()) -> Config:
    words = ["--env=CartPole-v1", f"--num_policies={policies}", *flags]
    return parse_args([*words, "--per_policy", *entries] if entries else words).config


def rates(config: Config) -> list[float]:
    return [policy_rl(config, policy).learning_rate for policy in range(config.sampling.num_policies)]


def test_a_range_is_spread_evenly_on_a_logarithmic_scale() -> None:
    found = rates(config_of("learning_rate:1e-7..1e-2", policies=6))
    assert found[0] == 1e-7
    assert found[-1] == 1e-2
    steps = [math.log10(b / a) for a, b in itertools.pairwise(found)]
    assert steps == pytest.approx([1.0] * 5)


def test_a_falling_range_and_one_policy() -> None:
    assert rates(config_of("learning_rate:1e-2..1e-4", policies=3)) == pytest.approx([1e-2, 1e-3, 1e-4])
    assert rates(config_of("learning_rate:1e-5..1e-4", policies=1)) == [1e-5]


def test_a_list_has_one_value_for_each() -> None:
    config = config_of("gamma:0.9/0.95/0.99/1", "ppo_epochs:1/2/3/4", "shaping/delta/health:0/1/2/3")
    assert [policy_rl(config, p).gamma for p in range(4)] == [0.9, 0.95, 0.99, 1.0]
    assert [policy_rl(config, p).ppo_epochs for p in range(4)] == [1, 2, 3, 4]
    assert policy_shaping(config, 2) == {"delta/health": 2.0}
    assert policy_rl(config, 2).learning_rate == config.rl.learning_rate


def test_without_it_all_policies_have_the_flags() -> None:
    config = config_of()
    assert all(policy_rl(config, policy) == config.rl for policy in range(4))


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("learning_rate", "write for example learning_rate:1e-5..1e-3"),
        ("learning_rate:fast/slow/x/y", "write for example"),
        ("learning_rate:1e-5..1e-4..1e-3", "write for example"),
        ("learning_rate:nan/1e-4/1e-4/1e-4", "write for example"),
        ("learning_rate:1e-5..inf", "write for example"),
        ("learning_rate:0..1", "both ends must be above 0"),
        ("learning_rate:1e-4/1e-3", "2 values for --num_policies=4"),
        ("learning_rat:1e-4..1e-3", "did you mean learning_rate"),
        ("rollout:8/16/32/64", "no hyperparameter that policies of one training can differ in"),
        ("gamma:0.9/0.95/0.99/1.5", "1.5 must be at most 1"),
        ("ppo_clip_ratio:0/0.1/0.2/0.3", "0 must be above 0"),
        ("batch_size:32/64/96/100", "100 must be a multiple of --rollout=32"),
    ],
)
def test_what_cannot_be_is_one_line(entry: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault) as raised:
        config_of(entry)
    assert f"--per_policy={entry}" in str(raised.value)


def test_shaping_that_the_environment_lacks_is_told() -> None:
    config = config_of("shaping/kill:1..2")
    assert check_shaping(config, ["kill"]) == []
    (fault,) = check_shaping(config, ["delta/health"])
    assert "shaping/kill" in fault
    assert "delta/health" in fault


def test_it_works_without_exchange() -> None:
    invocation = parse_args(["--env=CartPole-v1", "--num_policies=2", "--per_policy", "learning_rate:1e-4..1e-3"])
    assert not [note for note in invocation.notes if "no effect" in note]


def test_what_will_never_happen_is_told_at_the_start() -> None:
    words = ["--env=CartPole-v1", "--with_pbt=True"]
    assert "nobody to take over from" in "".join(parse_args(words).notes)
    late = parse_args([*words, "--num_policies=4", "--train_for_env_steps=1000000"]).notes
    assert "--pbt_start_mutation=20000000 comes first" in "".join(late)
