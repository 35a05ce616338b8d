"""Experiment names; the expected ones were observed from Sample Factory 1.123.0 and 2.1.1, which agree."""

from __future__ import annotations

import hashlib
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_runner.describe.naming import (
    MAX_NAME_LENGTH,
    abbreviations,
    experiment_name,
    folder_name,
    safe_name,
)

OBSERVED = [
    ({"seed": 0, "env": "doom_basic"}, "00_basic_see_0_env_doom_basic"),
    ({"num_envs_per_worker": 8, "num_epochs": 2, "num_envs": 3}, "00_basic_n.e.p.wor_8_n.epo_2_n.env_3"),
    (
        {"learning_rate": 1e-05, "ppo.clip-ratio": 0.1, "gamma": 0.99},
        "00_basic_l.rat_1e-05_p.c.rat_0.1_gam_0.99",
    ),
    ({"seed": 1, "seed_env": 2, "see": 3, "seeds": 4}, "00_basic_see_1_s.env_2_see_3_seed_4"),
    ({"n_lr": 1, "num_lr": 2}, "00_basic_n.lr_1_n.lr_2"),
    ({"a": True, "b": None, "c": -1.5, "ab": 1e22}, "00_basic_a_True_b_None_c_-1.5_ab_1e+22"),
    ({"with_pbt": "", "env": "a:b"}, "00_basic_w.pbt__env_a:b"),
    ({"trainer.optim.lr": 0.001, "trainer.optim.lr_decay": 0.5}, "00_basic_t.o.lr_0.001_t.o.l.dec_0.5"),
    ({}, "00_basic"),
]


@pytest.mark.parametrize(("params", "expected"), OBSERVED)
def test_names_are_those_of_sample_factory(params: dict[str, object], expected: str) -> None:
    assert experiment_name("basic", 0, params) == expected


def test_the_index_has_two_digits_or_more() -> None:
    assert [experiment_name("b", i, {}) for i in (0, 9, 99, 100, 12345)] == [
        "00_b",
        "09_b",
        "99_b",
        "100_b",
        "12345_b",
    ]


def test_names_without_parameters() -> None:
    assert experiment_name("basic", 3, {"seed": 1}, customize=False) == "03_basic"


def test_odd_parameter_names_do_not_break_the_abbreviation() -> None:
    assert abbreviations(("_x", "a__b", "c_", "-", "+model.lr")) == (".x", "a..b", "c.", ".", "+.lr")


def test_folder_names_carry_the_suffix() -> None:
    assert folder_name("basic") == "basic_"
    assert folder_name("basic", "v2") == "basic_v2"
    assert folder_name("../up") == "_..-up_-" + digest("../up_")


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("00_b_env_a/b", "00_b_env_a-b"),
        ("00_b_p_two words", "00_b_p_two-words"),
        ("00_b_p_line\nbreak\0", "00_b_p_line-break-"),
        ("00_b_p_{'a': 1}", "00_b_p_-a-:-1-"),
        ("00_b_p_$HOME;rm *", "00_b_p_-HOME-rm-"),
        ("00_b_p_naïve", "00_b_p_na-ve"),
        (".hidden", "_.hidden"),
        ("-flag", "_-flag"),
        ("..", "_.."),
        ("", "_"),
    ],
)
def test_unsafe_names_are_cleaned_and_end_in_a_hash(name: str, cleaned: str) -> None:
    assert safe_name(name) == f"{cleaned}-{digest(name)}"


def test_long_names_are_cut_to_the_limit_without_a_clash() -> None:
    common = "x" * 300
    first, second = safe_name(common + "1"), safe_name(common + "2")
    assert first != second
    assert len(first) == len(second) == MAX_NAME_LENGTH
    assert safe_name("x" * MAX_NAME_LENGTH) == "x" * MAX_NAME_LENGTH
    assert first.endswith(digest(common + "1"))


@given(st.text(max_size=400))
def test_every_name_becomes_safe(text: str) -> None:
    name = safe_name(text)
    assert 1 <= len(name) <= MAX_NAME_LENGTH
    assert name.isascii()
    assert name == shlex.quote(name)
    assert not set(name) & set("/\0\n ")
    assert name[0] not in ".-"
    assert safe_name(text) == name
    assert safe_name(name) == name


@given(st.text("ab/ \n.é", min_size=1, max_size=8), st.text("ab/ \n.é", min_size=1, max_size=8))
def test_different_names_stay_different(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other)


@given(st.lists(st.text("abc_.-", min_size=1, max_size=12), unique=True, max_size=6).map(tuple))
def test_abbreviations_start_like_their_parameters(names: tuple[str, ...]) -> None:
    shorts = abbreviations(names)
    assert len(shorts) == len(names)
    for name, short in zip(names, shorts, strict=True):
        assert len(short) <= len(name)
        assert short[:1] in (name[:1], ".")
