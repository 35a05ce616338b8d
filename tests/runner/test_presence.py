"""Arguments that are absent, or have no value."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from sf_runner import ABSENT, BARE, Choice, Experiment, ParamGrid, ParamList, RandomParams, RunDescription
from sf_runner.basics.errors import DescriptionError
from sf_runner.describe.plan import Job, make_plan
from sf_runner.engine.reconcile import entry
from tests.runner.test_values import Word, arguments


def jobs(*combinations: Mapping[str, object], prefix: str = "--", cmd: str = "prog") -> tuple[Job, ...]:
    experiments = [Experiment("e", cmd, ParamList(combinations))]
    return make_plan(RunDescription("r", experiments, param_prefix=prefix), "t").jobs


def test_absent_and_bare_arguments() -> None:
    found = jobs(*ParamGrid([("seed", [1]), ("fast", [ABSENT, BARE, None, "None"])]))
    assert [job.argv[1:-3] for job in found] == [
        ("--seed=1",), ("--seed=1", "--fast"), ("--seed=1", "--fast=None"), ("--seed=1", "--fast=None"),
    ]  # fmt: skip
    assert [job.name for job in found] == [
        "00_e_see_1_fas_ABSENT", "01_e_see_1_fas_BARE", "02_e_see_1_fas_None", "03_e_see_1_fas_None",
    ]  # fmt: skip
    assert jobs({"+fast": BARE, "x": ABSENT}, prefix="")[0].argv[1:-3] == ("+fast",)


def test_absent_and_bare_arguments_in_linked_and_random_parameters() -> None:
    grid = ParamGrid([(("norm", "gain"), ([ABSENT, ABSENT], [BARE, 0.5]))])
    assert arguments(*grid) == [(), ("--norm", "--gain=0.5")]
    drawn = set(arguments(*RandomParams([("norm", Choice([ABSENT, BARE]))], num_samples=20)))
    assert drawn == {(), ("--norm",)}
    shuffled = grid.generate_params(randomize=True)
    assert {tuple(c.values()) for c in shuffled} == {(ABSENT, ABSENT), (BARE, 0.5)}


def test_a_program_that_uses_store_true_gets_what_it_wants() -> None:
    code = (
        "import argparse; p = argparse.ArgumentParser(); p.add_argument('--fast', action='store_true')\n"
        "p.add_argument('--experiment'); print(p.parse_args().fast)"
    )
    experiment = Experiment("e", [sys.executable, "-c", code], ParamGrid([("fast", [ABSENT, BARE])]))
    runs = [
        subprocess.run(e.argv, capture_output=True, text=True) for e in experiment.expand("--experiment", True, "--")
    ]
    assert [run.stdout for run in runs] == ["False\n", "True\n"]


def test_absent_and_bare_arguments_tell_configurations_and_fingerprints_apart() -> None:
    absent, bare, text = jobs({"seed": 1, "a": ABSENT}, {"seed": 1, "a": BARE}, {"seed": 1, "a": "BARE"})
    assert len({job.config_key for job in (absent, bare, text)}) == 3
    assert len({job.fingerprint for job in (absent, bare, text)}) == 3
    (without,) = jobs({"seed": 2})
    assert without.config_key == absent.config_key, "the same but for the seed"
    one, none = jobs({"seed": 1, "a": 2}, {"seed": ABSENT, "a": 2})
    assert (one.seed, none.seed, none.seed_rank) == ("1", None, 0)
    assert one.config_key == none.config_key


def test_the_journal_describes_parameters_in_plain_json() -> None:
    params = {
        "a": ABSENT,
        "b": BARE,
        "c": np.float32(0.1),
        "d": np.array([1]),
        "e": None,
        "f": float("inf"),
        "g": Word.ONE,
    }
    (job,) = jobs(params)
    assert entry(job, 0.0)["params"] == {
        "a": "ABSENT", "b": "BARE", "c": 0.1, "d": "[1]", "e": None, "f": "inf", "g": "one",
    }  # fmt: skip


def test_absent_and_bare_are_the_same_objects_everywhere() -> None:
    for value in (ABSENT, BARE):
        assert copy.deepcopy(value) is value
        assert pickle.loads(pickle.dumps(value)) is value
    assert (repr(ABSENT), f"{BARE}") == ("ABSENT", "BARE")


def test_absent_is_no_value_of_an_environment_variable() -> None:
    with pytest.raises(DescriptionError, match=r"env_vars\['A'\]: ABSENT is for parameters"):
        Experiment("e", "prog", env_vars={"A": ABSENT})


def test_text_in_a_command_list_is_that_of_a_value() -> None:
    assert next(Experiment("e", ["prog", Word.ONE, Path("a b")]).expand(None, True, "--")).argv == (
        "prog",
        "one",
        "a b",
    )
