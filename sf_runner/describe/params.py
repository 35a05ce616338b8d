"""Parameter combinations: grids, lists and random samples. Ordered, typed, and the same at every start.

Whatever is drawn or shuffled here depends on the given seed alone, not on the Python version or on how many
values are asked for: a run that is started again must find the experiments it knows.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, MappingView, Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from sf_runner.basics.errors import DescriptionError
from sf_runner.describe.values import in_order

ParamName: TypeAlias = str | Sequence[str]
"""A parameter, or several that move together."""

T = TypeVar("T")
_SEED_LOW = 1_000_000
_SEED_COUNT = 9_000_000


class ParamGenerator(ABC):
    """A source of combinations; `Experiment` takes one directly or what its `generate_params` yields."""

    @abstractmethod
    def generate_params(self, randomize: bool = False, *, seed: int = 0) -> Iterator[dict[str, object]]:
        """Yield the combinations in order, or shuffled by `seed`. Values keep their types."""

    def __iter__(self) -> Iterator[dict[str, object]]:
        return self.generate_params()


class ParamList(ParamGenerator):
    """Combinations written out one by one."""

    def __init__(self, combinations: Iterable[Mapping[str, object]]) -> None:
        self.combinations = [_combination(given, f"ParamList entry {i}") for i, given in enumerate(combinations)]

    def generate_params(self, randomize: bool = False, *, seed: int = 0) -> Iterator[dict[str, object]]:
        for combination in _shuffled(self.combinations, seed) if randomize else self.combinations:
            yield dict(combination)


class ParamGrid(ParamGenerator):
    """Every combination of the given values; the last parameter changes fastest.

    A tuple of names with a sequence of equally long rows links parameters:
    `(("use_rnn", "recurrence"), ([False, 1], [True, 32]))` gives two combinations, not four.
    """

    def __init__(
        self, grid_tuples: Iterable[tuple[ParamName, Iterable[object]]] | Mapping[Any, Iterable[object]]
    ) -> None:
        items = grid_tuples.items() if isinstance(grid_tuples, Mapping) else grid_tuples
        self.grid: dict[tuple[str, ...], list[tuple[object, ...]]] = {}
        used: set[str] = set()
        for item in items:
            names, rows = _axis(item)
            for name in names:
                if name in used:
                    raise DescriptionError(f"ParamGrid: parameter '{name}' is given twice")
                used.add(name)
            self.grid[names] = rows

    def __len__(self) -> int:
        """How many combinations there are."""
        return math.prod(len(rows) for rows in self.grid.values())

    def generate_params(self, randomize: bool = False, *, seed: int = 0) -> Iterator[dict[str, object]]:
        names = list(itertools.chain.from_iterable(self.grid))
        combinations: Iterable[tuple[tuple[object, ...], ...]] = itertools.product(*self.grid.values())
        if randomize:
            combinations = _shuffled(list(combinations), seed)
        for combination in combinations:
            yield dict(zip(names, itertools.chain.from_iterable(combination), strict=True))


class Sampler(Protocol):
    """Maps a number u in [0, 1) to a value."""

    def sample(self, u: float) -> object: ...


@dataclass(frozen=True)
class Uniform:
    """Numbers in [low, high], rounded to `digits` significant digits so that names stay short."""

    low: float
    high: float
    digits: int = 4

    def __post_init__(self) -> None:
        _check_range("Uniform", self.low, self.high)

    def sample(self, u: float) -> float:
        return _rounded(self.low + u * (self.high - self.low), self.digits, self.low, self.high)


@dataclass(frozen=True)
class LogUniform:
    """Positive numbers in [low, high] whose logarithm is uniform, rounded to `digits` significant digits."""

    low: float
    high: float
    digits: int = 4

    def __post_init__(self) -> None:
        _check_range("LogUniform", self.low, self.high)
        if self.low <= 0:
            raise DescriptionError(f"LogUniform: low must be positive, got {self.low}")

    def sample(self, u: float) -> float:
        exponent = math.log(self.low) + u * (math.log(self.high) - math.log(self.low))
        return _rounded(math.exp(exponent), self.digits, self.low, self.high)


@dataclass(frozen=True)
class IntUniform:
    """Whole numbers from low to high, both included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check_range("IntUniform", self.low, self.high)

    def sample(self, u: float) -> int:
        return min(self.low + int(u * (self.high - self.low + 1)), self.high)


@dataclass(frozen=True)
class Choice:
    """One of the given values, each as likely as the others."""

    values: Sequence[object]

    def __post_init__(self) -> None:
        if isinstance(self.values, Set) or not hasattr(self.values, "__getitem__"):
            raise DescriptionError(f"Choice: the values must be a list, got {self.values!r}")
        if len(self.values) == 0:
            raise DescriptionError("Choice: there are no values to choose from")

    def sample(self, u: float) -> object:
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]


class RandomParams(ParamGenerator):
    """Random combinations: `RandomParams([("lr", LogUniform(1e-5, 1e-2)), ...], num_samples=20, seed=1)`.

    Sample k of a parameter depends on `seed`, the parameter's name and k alone: more samples extend the list,
    another parameter leaves the others' values as they were. A tuple of names with `Choice([(a, b), ...])`
    links parameters.
    """

    def __init__(
        self,
        samplers: Iterable[tuple[ParamName, Sampler]] | Mapping[Any, Sampler],
        num_samples: int,
        seed: int = 0,
    ) -> None:
        if num_samples < 1:
            raise DescriptionError(f"RandomParams: num_samples must be at least 1, got {num_samples}")
        items = samplers.items() if isinstance(samplers, Mapping) else samplers
        self.samplers = [(_names(name), sampler) for name, sampler in items]
        self.num_samples = num_samples
        self.seed = seed

    def generate_params(self, randomize: bool = False, *, seed: int = 0) -> Iterator[dict[str, object]]:
        order: Sequence[int] = range(self.num_samples)
        for k in _shuffled(order, seed) if randomize else order:
            combination: dict[str, object] = {}
            for names, sampler in self.samplers:
                value = sampler.sample(_unit(self.seed, ",".join(names), k))
                row = (value,) if len(names) == 1 else _row(names, value)
                combination.update(zip(names, row, strict=True))
            yield combination


def seeds(num_seeds: int, root_seed: int = 0) -> list[int]:
    """`num_seeds` different seeds of seven digits, always the same for the same `root_seed`.

    Seed k is the k-th distinct value of 1000000 + (first 8 bytes, big-endian, of SHA-256 of the text
    `sf_runner.seeds:<root_seed>:<i>`) mod 9000000 for i = 0, 1, 2, ...; so `seeds(5, r) == seeds(10, r)[:5]`.
    """
    if not 0 <= num_seeds <= _SEED_COUNT // 2:
        raise DescriptionError(f"seeds: the number of seeds must be 0 to {_SEED_COUNT // 2}, got {num_seeds}")
    found: dict[int, None] = {}
    for i in itertools.count():
        if len(found) == num_seeds:
            return list(found)
        found[_SEED_LOW + _hash64(f"sf_runner.seeds:{root_seed}:{i}") % _SEED_COUNT] = None
    raise AssertionError("unreachable")


def _axis(item: object) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """One entry of a grid as names and rows of values."""
    if isinstance(item, str) or not isinstance(item, Sequence) or len(item) != 2:
        raise DescriptionError(f"ParamGrid: expected ('name', [values]), got {item!r}")
    names = _names(item[0])
    label = ", ".join(names)
    if isinstance(item[1], (str, bytes, Mapping)) or not isinstance(item[1], Iterable):
        raise DescriptionError(f"ParamGrid: the values of '{label}' must be a list, got {item[1]!r}")
    try:
        values = _listed(item[1])
    except TypeError as error:  # an array without dimensions
        raise DescriptionError(f"ParamGrid: the values of '{label}' must be a list: {error}") from None
    if not values:
        raise DescriptionError(f"ParamGrid: parameter '{label}' has no values")
    if isinstance(item[0], str):
        return names, [(value,) for value in values]
    return names, [_row(names, value) for value in values]


def _listed(values: Iterable[object]) -> list[object]:
    if isinstance(values, Set) and not isinstance(values, MappingView):  # a view of a dict has the dict's order
        return in_order(values)
    return list(values)


def _names(name: ParamName) -> tuple[str, ...]:
    names = (name,) if isinstance(name, str) else tuple(name) if isinstance(name, Sequence) else ()
    if not names or not all(isinstance(part, str) and part for part in names):
        raise DescriptionError(f"a parameter's name must be text or a tuple of texts, got {name!r}")
    return names


def _row(names: tuple[str, ...], row: object) -> tuple[object, ...]:
    values = tuple(row) if isinstance(row, Iterable) and not isinstance(row, (str, bytes, Mapping)) else ()
    if len(values) != len(names):
        raise DescriptionError(f"linked parameters ({', '.join(names)}) need {len(names)} values at once, got {row!r}")
    return values


def _combination(given: object, what: str) -> dict[str, object]:
    if not isinstance(given, Mapping):
        raise DescriptionError(f"{what} must be a dict of parameters, got {given!r}")
    for name in given:
        if not isinstance(name, str) or not name:
            raise DescriptionError(f"{what}: a parameter's name must be text, got {name!r}")
    return dict(given)


def _check_range(kind: str, low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise DescriptionError(f"{kind}: needs finite numbers with low <= high, got {low} and {high}")


def _rounded(value: float, digits: int, low: float, high: float) -> float:
    return min(max(float(f"{value:.{digits}g}"), low), high)


def _hash64(text: str) -> int:
    import hashlib  # loads OpenSSL: only for descriptions that draw or shuffle

    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _unit(seed: int, label: str, k: int) -> float:
    """A number in [0, 1) with 53 random bits."""
    return (_hash64(f"sf_runner.params:{seed}:{label}:{k}") >> 11) / (1 << 53)


def _shuffled(items: Sequence[T], seed: int) -> list[T]:
    order = sorted(range(len(items)), key=lambda k: (_hash64(f"sf_runner.shuffle:{seed}:{k}"), k))
    return [items[k] for k in order]
