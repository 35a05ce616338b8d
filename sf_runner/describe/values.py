"""The text of a parameter's value: plain, whole, and the same at every start. Values without such a text are refused.

Values of numpy, torch and the like are recognised by their attributes: nothing is imported for them.
"""

from __future__ import annotations

import dataclasses
import math
import re
import struct
from collections.abc import Callable, ItemsView, Iterable, Mapping, Sequence, Set, ValuesView
from enum import Enum
from pathlib import PurePath
from typing import Any, Final

from sf_runner.basics.errors import DescriptionError, one_line


class Presence(Enum):
    """Values that say how an argument appears instead of what it holds."""

    ABSENT = "ABSENT"
    BARE = "BARE"

    def __repr__(self) -> str:
        return self.value

    __str__ = __repr__


ABSENT: Final = Presence.ABSENT
"""As a parameter's value: the command gets no argument for this parameter."""
BARE: Final = Presence.BARE
"""As a parameter's value: the command gets the bare flag, `--name`, as argparse's `store_true` wants it."""

PLAIN_TYPES = frozenset({str, int, float, bool, type(None)})
"""Nearly all values have one of them, and a large grid has many values: these are handled first and fast."""

_SHORT_TYPES = PLAIN_TYPES - {int}
_LARGE = 1 << 64
"""An int may have more digits than Python makes text of."""
_WITH_OWN_REPR = frozenset({*PLAIN_TYPES, complex, list, tuple, dict})
_ARRAY_PACKAGES = frozenset({"numpy", "torch", "jax", "jaxlib", "cupy", "ml_dtypes"})
_ADDRESS = re.compile(r"<.* at 0x[0-9a-fA-F]+>", re.DOTALL)
_HOLDS_ARRAYS = re.compile(r"\b(?:np|numpy|torch|jnp)\.\w+\(|\b(?:tensor|array|Array)\(")
_LAYOUTS = {"float16": "e", "float32": "f", "complex32": "e", "complex64": "f"}
"""Formats of `struct` for kinds of numbers that are shorter than Python's."""


def value_text(value: object) -> str:
    """The text of a parameter's value, in the argument `--name=<text>` and in the experiment's name.

    It is `f"{value}"` for what Python itself has: True, None, 1e-05 and {'a': 1} look like that, '' gives nothing. An
    Enum member gives its value, a path its text. Numbers of numpy and torch give the shortest text that is the same
    number in their precision (float32 0.1 gives 0.1), arrays give a list of all their numbers, sets their members in
    order, and all of that inside containers and dataclasses too. Use `json.dumps` in the description where a program
    wants JSON.

    Raises:
        DescriptionError: there is no text, or it would not be whole, or not be the same at the next start.
    """
    try:
        if type(value) is str:
            return value
        if type(value) in PLAIN_TYPES:
            return str(value)
        plain = _plain(value, nested=False)
        return format(plain) if type(plain) not in _WITH_OWN_REPR else str(plain)
    except DescriptionError:
        raise
    except RecursionError:
        raise DescriptionError(f"a {_kind(value)} contains itself, or is nested too deeply; pass text") from None
    except Exception as error:  # of a class of the user's, or of a library
        why = one_line(error)[:200] or type(error).__name__
        raise DescriptionError(f"a value of type {_kind(value)} cannot become text ({why}); pass text") from None


def are_different(one: object, other: object) -> bool:
    """Whether two values that have the same text are different: 1 and "1" are, 1 and np.int64(1) are not.

    None and "None" are not: many programs take the word for the value, and descriptions use either.
    """
    a, b = _plain(one, nested=False), _plain(other, nested=False)
    if (a is None and b == "None") or (b is None and a == "None"):
        return False
    if type(a) is type(b) and type(a) in _WITH_OWN_REPR:
        return False
    try:
        return not (a is b or bool(a == b))
    except Exception:  # of a class of the user's
        return True


class Texts:
    """`value_text` that works out the text of an object once. The objects must live as long as this."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}

    def __call__(self, value: object) -> str:
        if type(value) in _SHORT_TYPES:
            return str(value)
        if type(value) is int:
            return str(value) if -_LARGE < value < _LARGE else value_text(value)
        text = self._known.get(id(value))
        if text is None:
            text = self._known[id(value)] = value_text(value)
        return text


def may_clash(combinations: Iterable[Mapping[str, object]]) -> bool:
    """Whether a parameter has values of several types, or of one whose texts may be alike. Quick: a run may have many
    thousands of combinations."""
    kinds: dict[str, type] = {}
    for names, types in {(tuple(params), tuple(map(type, params.values()))) for params in combinations}:
        for name, kind in zip(names, types, strict=True):
            if kinds.setdefault(name, kind) is not kind or kind not in PLAIN_TYPES:
                return True
    return False


def same_command(combinations: Iterable[tuple[tuple[str, ...], Mapping[str, object]]]) -> str:
    """What two combinations, given as (arguments, parameters), with the same arguments differ in; empty: nothing."""
    seen: dict[tuple[str, ...], Mapping[str, object]] = {}
    for arguments, params in combinations:
        first = seen.setdefault(arguments, params)
        for name, value in params.items():
            if first is not params and name in first and are_different(first[name], value):
                return f"the values {_shown(first[name])} and {_shown(value)} of '{name}' give the same argument"
    return ""


def json_value(value: object) -> str | int | float | bool | None:
    """The value as JSON has it: a finite number, True, False, None, or its text."""
    plain = _plain(value, nested=False)
    if isinstance(plain, float) and not math.isfinite(plain):
        return value_text(plain)
    return plain if isinstance(plain, (str, int, float, type(None))) else value_text(value)


def in_order(values: Set[Any]) -> list[Any]:
    """The members of a set in an order that is the same at every start: numbers by size, else by their text."""
    return sorted(values, key=_rank)


def _rank(value: Any) -> tuple[int, float, str, str]:
    plain = _plain(value, nested=False)
    if isinstance(plain, (int, float)) and not (isinstance(plain, float) and math.isnan(plain)):
        return (0, plain, "", "")
    return (1, 0, value_text(value), type(plain).__name__)


class _Literal:
    """Text that stands for a value inside containers as it is, without quotes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Literal) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def _plain(value: Any, *, nested: bool) -> Any:
    """The value as what Python itself has, so that its text says all; an object with a text of its own stays."""
    if type(value) in PLAIN_TYPES:
        return value
    if isinstance(value, Presence):
        if nested:
            raise DescriptionError(f"{value} must be a parameter's whole value, not part of one")
        return value
    if isinstance(value, Enum):
        return _plain(value.value, nested=nested)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise DescriptionError(f"{_kind(value)} cannot become an argument; pass text")
    if isinstance(value, PurePath):
        return str(value)
    if type(value).__module__.partition(".")[0] in _ARRAY_PACKAGES and hasattr(value, "dtype"):
        return _plain_array(value)
    container = _plain_container(value)
    return _checked_text(value, nested) if container is None else container


def _plain_container(value: Any) -> Any:
    """None when it is none of the containers that are known here."""
    cls: Any = type(value)
    if cls.__str__ is not object.__str__ or cls.__format__ is not object.__format__:
        return None  # its author has said how it reads
    if isinstance(value, Mapping):
        items = {_plain(key, nested=True): _plain(item, nested=True) for key, item in value.items()}
        if len(items) < len(value):
            raise DescriptionError(f"a {_kind(value)} has keys that have the same text; pass text")
        return items
    if isinstance(value, Set) and not isinstance(value, ItemsView):
        members = [repr(_plain(item, nested=True)) for item in in_order(value)]
        return _Literal(f"{{{', '.join(members)}}}" if members else "set()")
    if (fields := _fields(value)) is not None:
        name = type(value).__name__ if isinstance(value, tuple) else type(value).__qualname__
        usual = repr(value) == f"{name}({_listed(fields, repr)})"
        return _Literal(f"{name}({_listed(fields, _nested_text)})") if usual else None
    if isinstance(value, tuple):
        return tuple(_plain(item, nested=True) for item in value)
    if isinstance(value, (Sequence, ValuesView, ItemsView)) and not isinstance(value, range):
        return [_plain(item, nested=True) for item in value]
    return None


def _fields(value: Any) -> list[tuple[str, Any]] | None:
    """What the text of a record shows: a dataclass, a namedtuple, a class made by attrs; None for anything else."""
    names: Iterable[str]
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if field.repr]
    elif hasattr(type(value), "__attrs_attrs__"):
        names = [field.name for field in type(value).__attrs_attrs__ if field.repr]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        names = value._fields
    else:
        return None
    return [(name, getattr(value, name)) for name in names]


def _listed(fields: Iterable[tuple[str, Any]], text: Callable[[Any], str]) -> str:
    return ", ".join(f"{name}={text(item)}" for name, item in fields)


def _nested_text(value: Any) -> str:
    return repr(_plain(value, nested=True))


def _checked_text(value: Any, nested: bool) -> Any:
    """An object of any class, if its text can be relied on."""
    text = repr(value) if nested else format(value)
    if "<" in text and _ADDRESS.search(text):
        raise DescriptionError(f"a value of type {_kind(value)} has no stable text ({text!r}); pass text or a number")
    if hasattr(value, "__array__") or hasattr(value, "__dataframe__"):
        raise DescriptionError(f"a value of type {_kind(value)} has no text that shows all of it; pass a list or text")
    if _HOLDS_ARRAYS.search(text):
        raise DescriptionError(
            f"a value of type {_kind(value)} holds numbers of another library, and its text ({text[:80]!r}) may leave "
            "some out; pass plain numbers or text"
        )
    return value


# Numbers and arrays of libraries


def _plain_array(value: Any) -> Any:
    """A number or an array of numpy, torch, jax or cupy as Python's numbers and lists."""
    if type(value).__module__.startswith("numpy.ma"):
        raise DescriptionError(f"a {_kind(value)} has values that are not there; pass a list")
    dtype = value.dtype
    kind = str(dtype).rpartition(".")[2]
    names = getattr(dtype, "names", None)
    if names or kind.startswith(("datetime64", "timedelta64")):
        if value.shape:
            return [_plain_array(item) for item in value]
        return tuple(_plain(value[name], nested=True) for name in names) if names else str(value)
    return _shortened(value.tolist(), kind)


def _shortened(number: Any, kind: str) -> Any:
    """What `tolist` gave, with numbers of less precision than Python's as the shortest that are the same in theirs."""
    if type(number) is list:
        return [_shortened(item, kind) for item in number]
    if type(number) is float:
        return _shortest(number, kind)
    if type(number) is complex:
        return complex(_shortest(number.real, kind), _shortest(number.imag, kind))
    if str(getattr(number, "dtype", None)) == kind:  # longer than Python's: `tolist` left it
        exact = complex(number) if "complex" in kind else float(number)
        if exact != number and not math.isnan(abs(exact)):
            raise DescriptionError(f"a {_kind(number)} has more digits than a float; pass text")
        return exact
    return _plain(number, nested=True)


def _shortest(number: float, kind: str) -> float:
    """The float with the fewest digits that is `number` when it is rounded to that kind of number."""
    if (kind not in _LAYOUTS and kind != "bfloat16") or not math.isfinite(number):
        return number
    for digits in range(17):
        candidate = float(f"{number:.{digits}e}")
        if _rounded(candidate, kind) == number:
            return candidate
    return number


def _rounded(number: float, kind: str) -> float | None:
    """None where it is too large for that kind of number."""
    try:
        if kind != "bfloat16":
            packed: tuple[float] = struct.unpack(_LAYOUTS[kind], struct.pack(_LAYOUTS[kind], number))
            return packed[0]
        (bits,) = struct.unpack("=I", struct.pack("=f", number))
        upper = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000  # to the nearest, ties to even
        packed = struct.unpack("=f", struct.pack("=I", upper))
        return packed[0]
    except (OverflowError, struct.error):
        return None


def _shown(value: object) -> str:
    text = one_line(repr(value))
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({_kind(value)})"


def _kind(value: object) -> str:
    return type(value).__name__
