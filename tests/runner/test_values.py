"""The text of values: plain, whole, stable; the arguments and names they make."""

# Wrong types are given on purpose.
# mypy: disable-error-code="arg-type, list-item, dict-item"

from __future__ import annotations

import argparse
import datetime
import decimal
import enum
import functools
import subprocess
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sf_runner import ABSENT, BARE, Choice, Experiment, ParamGrid, ParamList
from sf_runner.basics.errors import DescriptionError
from sf_runner.describe.values import value_text


class Colour(enum.Enum):
    RED = "red"
    RATE = np.float32(0.1)


class Word(str, enum.Enum):
    ONE = "one"


class Level(enum.IntEnum):
    HIGH = 3


@dataclass
class Net:
    rate: Any
    layers: Any = ()


@dataclass
class Described:
    rate: float

    def __str__(self) -> str:
        return f"at {self.rate}"


class Point(NamedTuple):
    x: Any
    y: Any


class Listed(list):  # type: ignore[type-arg]
    def __str__(self) -> str:
        return "+".join(map(str, self))


class Steps(int):
    def __str__(self) -> str:
        return f"{int(self) // 1000}k"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (True, "True"),
        (None, "None"),
        ("None", "None"),
        (1e-05, "1e-05"),
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (float("nan"), "nan"),
        (1 + 2j, "(1+2j)"),
        ("", ""),
        ("two  words", "two  words"),
        ("naïve 火", "naïve 火"),
        ({"a": [1, "b"]}, "{'a': [1, 'b']}"),
        ([64, 64], "[64, 64]"),
        ((1,), "(1,)"),
        (["<a at 0x12>", "np.zeros(3)"], "['<a at 0x12>', 'np.zeros(3)']"),
        (range(3), "range(0, 3)"),
        (Path("a/b"), "a/b"),
        ([Path("a/b")], "['a/b']"),
        (decimal.Decimal("0.10"), "0.10"),
        (datetime.date(2020, 1, 2), "2020-01-02"),
        (Steps(5000), "5k"),
        # Enums
        (Colour.RED, "red"),
        (Colour.RATE, "0.1"),
        (Word.ONE, "one"),
        (Level.HIGH, "3"),
        ([Word.ONE, Level.HIGH, Colour.RED], "['one', 3, 'red']"),
        # numbers of numpy
        (np.int64(3), "3"),
        (np.float64(0.5), "0.5"),
        (np.bool_(True), "True"),
        (np.str_("a b"), "a b"),
        (np.float32(0.1), "0.1"),
        (np.float16(0.1), "0.1"),
        (np.float16(65504), "65500.0"),
        (np.float32(16777216), "16777216.0"),
        (np.float32(1e-5), "1e-05"),
        (np.float32("inf"), "inf"),
        (np.float32(-0.0), "-0.0"),
        (np.complex64(0.1 + 2j), "(0.1+2j)"),
        (np.longdouble(0.5), "0.5"),
        (np.datetime64("2020-01-02"), "2020-01-02"),
        (np.timedelta64(3, "D"), "3 days"),
        # arrays
        (np.array(3), "3"),
        (np.array([], dtype=int), "[]"),
        (np.array([[1, 2], [3, 4]]), "[[1, 2], [3, 4]]"),
        (np.array([0.1, 0.2], dtype=np.float32), "[0.1, 0.2]"),
        (np.array([True, False]), "[True, False]"),
        (np.array(["a", "b"]), "['a', 'b']"),
        (np.array([None, np.float32(0.1), "c"], dtype=object), "[None, 0.1, 'c']"),
        (np.array([(1, 0.1)], dtype=[("n", "i4"), ("rate", "f4")]), "[(1, 0.1)]"),
        (np.array(["2020-01-02"], dtype="M8[D]"), "['2020-01-02']"),
        (torch.tensor(0.1), "0.1"),
        (torch.tensor([0.1, 1e-5]), "[0.1, 1e-05]"),
        (torch.tensor([0.1], dtype=torch.float64), "[0.1]"),
        (torch.tensor([0.1], dtype=torch.bfloat16), "[0.1]"),
        (torch.tensor([0.1], dtype=torch.float16), "[0.1]"),
        (torch.tensor([[1, 2]]), "[[1, 2]]"),
        (torch.nn.Parameter(torch.tensor([0.5])), "[0.5]"),
        (torch.float32, "torch.float32"),
        (np.dtype("float32"), "float32"),
        # containers
        ([np.float64(0.5), np.int64(2), np.float32(0.1)], "[0.5, 2, 0.1]"),
        ({"k": (np.int32(1), np.array([1.5]))}, "{'k': (1, [1.5])}"),
        (OrderedDict(a=np.float64(1.0)), "{'a': 1.0}"),
        (defaultdict(list, a=[np.int64(1)]), "{'a': [1]}"),
        (MappingProxyType({"a": 1}), "{'a': 1}"),
        ({"a": np.float64(1)}.values(), "[1.0]"),
        ({"a": 1}.items(), "[('a', 1)]"),
        (deque([np.int64(1)]), "[1]"),
        (torch.Size([2, 3]), "(2, 3)"),
        (Point(np.float64(1.0), 2), "Point(x=1.0, y=2)"),
        (Net(np.float64(1.0), [np.float32(0.1)]), "Net(rate=1.0, layers=[0.1])"),
        (Net(Net(np.int64(1))), "Net(rate=Net(rate=1, layers=()), layers=())"),
        (Described(0.5), "at 0.5"),
        (Listed([1, 2]), "1+2"),
        # sets
        ({3, 1, 10, 2.5}, "{1, 2.5, 3, 10}"),
        (frozenset({"b", "a", None, np.int64(1)}), "{1, None, 'a', 'b'}"),
        (set(), "set()"),
        ([{"x": {"b", "a"}}], "[{'x': {'a', 'b'}}]"),
        ({(2, "b"), (1, "a")}, "{(1, 'a'), (2, 'b')}"),
    ],
)
def test_the_text_of_a_value(value: object, text: str) -> None:
    assert value_text(value) == text
    experiment = Experiment("e", ["prog"], [{"p": value}])
    (expansion,) = experiment.expand(None, True, "--")
    assert expansion.argv == ("prog", f"--p={text}")


@given(st.floats(width=32, allow_nan=False))
def test_the_text_of_a_short_float_is_the_shortest_that_gives_it_back(number: float) -> None:
    value = np.float32(number)
    text = value_text(value)
    assert np.float32(text) == value
    assert len(text) <= len(repr(number))
    assert value_text(torch.tensor(value)) == text


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_all_half_precision_numbers_come_back_and_differ(dtype: torch.dtype) -> None:
    bits = torch.arange(-(2**15), 2**15, 7, dtype=torch.int32).to(torch.int16)
    values = bits.view(dtype)
    values = values[torch.isfinite(values) & (values != 0)]
    texts = value_text(values).strip("[]").split(", ")
    assert torch.equal(torch.tensor([float(text) for text in texts], dtype=dtype), values)
    assert len(set(texts)) == len(values)


def knot() -> list[object]:
    items: list[object] = []
    items.append(items)
    return items


class Broken:
    def __str__(self) -> str:
        raise ValueError("no\nway")


class Frame:
    """Like a table of pandas: its text leaves rows out."""

    def __array__(self) -> object:
        return np.zeros(3)

    def __str__(self) -> str:
        return "0 1 ... 999"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"x", "bytes cannot become an argument"),
        (np.bytes_(b"x"), "bytes_ cannot become an argument"),
        (np.array([b"x"]), "bytes cannot become an argument"),
        (object(), "has no stable text"),
        ([lambda: None], "has no stable text"),
        (functools.partial(lambda: None), "has no stable text"),
        (Net(object()), "has no stable text"),
        (knot(), "contains itself"),
        (Broken(), r"a value of type Broken cannot become text \(no way\)"),
        (10**5000, "a value of type int cannot become text"),
        (Frame(), "has no text that shows all of it"),
        (SimpleNamespace(a=np.float64(1)), "holds numbers of another library"),
        (argparse.Namespace(a=torch.tensor(1)), "holds numbers of another library"),
        (np.ma.masked_array([1, 2], [True, False]), "values that are not there"),
        (np.ma.masked, "values that are not there"),
        (np.longdouble(1) / 3, "has more digits than a float"),
        (torch.empty(2, device="meta"), "cannot become text"),
        ({np.float32(0.1): 1, 0.1: 2}, "keys that have the same text"),
        ([ABSENT], "ABSENT must be a parameter's whole value"),
        ({"a": BARE}, "BARE must be a parameter's whole value"),
        (np.arange(50_000.0), "bytes long; an argument can have"),
    ],
    ids=lambda value: value if type(value) is str else type(value).__name__,
)
def test_values_without_a_plain_text_are_refused_in_one_line(value: object, message: str) -> None:
    with pytest.raises(DescriptionError, match=f"^Experiment 'e': .*({message})") as caught:
        list(Experiment("e", "a", [{"p": value}]).expand("--experiment", True, "--"))
    assert "\n" not in str(caught.value)


def arguments(*combinations: Mapping[str, object]) -> list[tuple[str, ...]]:
    return [e.argv[1:] for e in Experiment("e", "prog", ParamList(combinations)).expand(None, True, "--")]


def test_arrays_that_differ_in_the_middle_give_different_commands() -> None:
    one, other = np.arange(2000), np.arange(2000)
    other[1000] = 0
    first, second = arguments({"a": one}, {"a": other})
    assert first != second
    assert first == (f"--a={list(range(2000))}",)
    third, fourth = arguments({"a": torch.from_numpy(one)}, {"a": torch.from_numpy(other)})
    assert (third, fourth) == (first, second)


class Sloppy:
    def __init__(self, number: int) -> None:
        self.number = number

    def __str__(self) -> str:
        return "sloppy"


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        (1, "1", r"the values 1 \(int\) and '1' \(str\) of 'p' give the same argument"),
        ([1], "[1]", "of 'p' give the same argument"),
        (Net(1), "Net(rate=1, layers=())", "of 'p' give the same argument"),
        (Sloppy(1), Sloppy(2), "of 'p' give the same argument"),
        (np.array([1]), "[1]", r"the values array\(\[1\]\) \(ndarray\) and '\[1\]' \(str\) of 'p'"),
    ],
)
def test_different_values_with_one_command_are_refused(one: object, other: object, told: str) -> None:
    with pytest.raises(DescriptionError, match=f"^Experiment 'e': .*{told}.*, so that two combinations"):
        arguments({"p": one, "q": 0}, {"p": other, "q": 0})
    assert len(arguments({"p": one, "q": 0}, {"p": other, "q": 1})) == 2, "these are two commands"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1),
        (None, "None"),
        (np.int64(1), 1),
        (float("nan"), float("nan")),
        (Colour.RED, "red"),
        (np.float64(0.1), 0.1),
        (np.array([1, 2]), [1, 2]),
        (decimal.Decimal(1), 1),
    ],
)
def test_repeating_a_value_is_allowed(one: object, other: object) -> None:
    first, second = arguments({"p": one}, {"p": other})
    assert first == second


def test_a_set_as_the_values_of_a_grid_has_the_same_order_at_every_start(tmp_path: Path) -> None:
    assert [c["p"] for c in ParamGrid([("p", {"b", "a", "c"})])] == ["a", "b", "c"]
    assert [c["p"] for c in ParamGrid([("p", {"b": 1, "a": 2}.keys())])] == ["b", "a"]
    code = "from sf_runner import ParamGrid; print([c['p'] for c in ParamGrid([('p', set('hello'))])])"
    runs = [
        subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True)
        for seed in ("1", "2")
    ]
    assert runs[0].stdout == runs[1].stdout
    with pytest.raises(DescriptionError, match="Choice: the values must be a list"):
        Choice({1, 2})


def test_arrays_as_the_values_of_a_grid_are_its_rows() -> None:
    assert arguments(*ParamGrid([("p", np.array([[1, 2], [3, 4]]))])) == [("--p=[1, 2]",), ("--p=[3, 4]",)]
    assert arguments(*ParamGrid([("p", np.linspace(0, 1, 3, dtype=np.float32))])) == [
        ("--p=0.0",), ("--p=0.5",), ("--p=1.0",),
    ]  # fmt: skip
    with pytest.raises(DescriptionError, match="the values of 'p' must be a list"):
        ParamGrid([("p", np.array(3))])
