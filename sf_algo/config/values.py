"""Strict conversion between the text of a flag's value and the value."""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Iterable, Sequence
from typing import TypeGuard

from sf_algo.config.flags import FlagSpec, FlagValue

_TRUE = frozenset({"true", "1", "yes", "t", "y", "on"})
_FALSE = frozenset({"false", "0", "no", "f", "n", "off"})
_KIND_NAMES = {"bool": "True or False", "int": "a whole number", "float": "a number", "str": "a text", "any": "a value"}


class BadValueError(ValueError):
    """The text is no value of the flag; the message completes ``--flag=text: ...``."""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The valid name that `name` most probably stands for, or None."""
    matches = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return matches[0] if matches else None


def parse_value(spec: FlagSpec, texts: Sequence[str]) -> FlagValue:
    """The value that `texts` (one text unless the flag is a list) stand for.

    Raises:
        BadValueError: not a value of the flag's type, or not one of its choices.
    """
    if spec.kind == "any":
        return _parse_any(texts[0])
    if not spec.is_list:
        return _parse_scalar(spec, texts[0])
    items = [item for text in texts for item in _list_items(text)]
    return tuple([_parse_item(spec, item) for item in items])


def _parse_any(text: str) -> FlagValue:
    """As Python would read it where that is a plain value or a list of these, else the text itself."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text.lower(), text)
    value = tuple(value) if isinstance(value, list) else value
    plain = is_plain(value) and (not isinstance(value, float) or math.isfinite(value))
    return value if plain else text


def is_plain(value: object) -> TypeGuard[FlagValue]:
    """Whether a command line and JSON can say it: a truth value, a number, a text, None, or a tuple of these."""
    items = value if isinstance(value, tuple) else (value,)
    allowed = (bool, int, float, str) if isinstance(value, tuple) else (bool, int, float, str, type(None))
    return all(isinstance(item, allowed) for item in items)


def _list_items(text: str) -> list[str]:
    """Items of ``a,b``, ``[a, b]`` or ``(a, b)``, quoted or not; none of an empty text, None or []."""
    inner = text.strip()
    if inner[:1] + inner[-1:] in ("[]", "()"):
        inner = inner[1:-1]
    if inner in ("", "None"):
        return []
    items = (item.strip().strip("'\"") for item in inner.split(","))
    return [item for item in items if item]


def _parse_scalar(spec: FlagSpec, text: str) -> FlagValue:
    if spec.optional and text in ("None", "none", "null"):
        return None
    return _parse_item(spec, text)


def _parse_item(spec: FlagSpec, text: str) -> bool | int | float | str:
    if spec.kind == "bool":
        return _parse_bool(text)
    if spec.kind == "int":
        return _parse_int(text)
    if spec.kind == "float":
        return _parse_float(text)
    return _parse_choice(spec, text) if spec.choices else text


def _parse_bool(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise BadValueError("must be True or False")


def _parse_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        number = _parse_float(text, wanted="a whole number")
        if not number.is_integer():
            raise BadValueError("must be a whole number") from None
        return int(number)


def _parse_float(text: str, wanted: str = "a number") -> float:
    try:
        number = float(text)
    except ValueError:
        raise BadValueError(f"must be {wanted}") from None
    if not math.isfinite(number):
        raise BadValueError(f"must be {wanted}, and a finite one")
    return number


def _parse_choice(spec: FlagSpec, text: str) -> str:
    value = spec.info.value_aliases.get(text, text)
    if value in spec.choices:
        return value
    hint = nearest(text, spec.choices)
    raise BadValueError(f"must be one of {', '.join(spec.choices)}" + (f"; did you mean {hint}?" if hint else ""))


def format_value(value: FlagValue) -> str:
    """The text that `parse_value` turns into `value` again; a list becomes blank-separated words."""
    if isinstance(value, tuple):
        return " ".join(str(item) for item in value)
    return str(value)


def has_type(spec: FlagSpec, value: object) -> bool:
    """Whether a decoded JSON value is of the flag's type (lists as tuples); choices count as type."""
    if spec.kind == "any":
        return is_plain(value)
    if value is None:
        return spec.optional
    if spec.is_list:
        return isinstance(value, tuple) and all(_is_item(spec, item) for item in value)
    return _is_item(spec, value)


def _is_item(spec: FlagSpec, value: object) -> bool:
    if spec.kind == "bool":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if spec.kind == "int":
        return isinstance(value, int)
    if spec.kind == "float":
        return isinstance(value, int | float)
    return isinstance(value, str) and (not spec.choices or value in spec.choices)


def type_text(spec: FlagSpec) -> str:
    """What a value must be, for messages and the help."""
    text = f"one of {', '.join(spec.choices)}" if spec.choices else _KIND_NAMES[spec.kind]
    if spec.is_list:
        text = f"a list ({text} each)"
    return f"{text}, or None" if spec.optional else text
