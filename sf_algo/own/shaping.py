"""Reward shaping that is changed while a training runs: numbers with names, between nested dictionaries as users write
them and flat ones as we keep them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sf_algo.errors import EnvError

SEPARATOR = "/"


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """`{"delta": {"health": 0.1}}` -> `{"delta/health": 0.1}`. Raises EnvError for what is no number."""
    flat: dict[str, float] = {}
    for name, value in nested.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            flat |= flatten(value, path + SEPARATOR)
            continue
        try:
            flat[path] = float(value)
        except (TypeError, ValueError):
            raise EnvError(f"the reward shaping {path}={value!r} of the environment is no number") from None
    return flat


def nest(flat: Mapping[str, float]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *folders, name = path.split(SEPARATOR)
        inner = nested
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[name] = value
    return nested
