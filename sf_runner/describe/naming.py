"""Experiment names: the format of Sample Factory, always safe as a file name, never cut into a clash.

`00_basic_see_0_env_doom_basic` is the index within the experiment, the base name, and for every parameter its
shortest unambiguous abbreviation and its value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from sf_runner.describe.values import value_text

MAX_NAME_LENGTH = 200
"""File systems allow 255 bytes; programs derive longer names (temporary files, archives) from a folder."""

_HASH_LENGTH = 8
_UNSAFE = re.compile(r"[^A-Za-z0-9_.,+=@:-]+")
_WORD_BREAK = re.compile(r"[._-]")


@lru_cache(maxsize=1024)
def abbreviations(param_names: tuple[str, ...]) -> tuple[str, ...]:
    """One abbreviation per parameter, in order: `batch_size` -> `b.siz`.

    First letters of all words but the last, then the last word's first three letters or as many more as tell
    it from the abbreviations before it. When even the whole word does not (`n_lr` after `num_lr`), the two
    stay alike.
    """
    taken: set[str] = set()
    result = []
    for param_name in param_names:
        *leading, last = _WORD_BREAK.split(param_name)
        initials = [word[:1] for word in leading]
        short = ".".join([*initials, last])
        for length in range(min(3, len(last)), len(last)):
            candidate = ".".join([*initials, last[:length]])
            if candidate not in taken:
                short = candidate
                break
        taken.add(short)
        result.append(short)
    return tuple(result)


def experiment_name(
    base_name: str,
    index: int,
    params: Mapping[str, object],
    *,
    customize: bool = True,
    texts: Callable[[object], str] = value_text,
) -> str:
    """The name of combination `index` of an experiment; with `customize=False` without its parameters.

    texts: gives the text of a value.
    """
    tokens = [f"{index:02d}", base_name]
    if customize:
        shorts = abbreviations(tuple(params))
        tokens += [f"{short}_{texts(value)}" for short, value in zip(shorts, params.values(), strict=True)]
    return safe_name("_".join(tokens))


def safe_name(name: str) -> str:
    """`name` when it is safe as a file name and in a shell, else a safe name that ends in a hash of `name`.

    Safe is: 1 to 200 ASCII letters, digits and `_.,+=@:-`, starting with a letter, a digit or `_`.
    """
    cleaned = _UNSAFE.sub("-", name)
    if not (cleaned[:1].isalnum() or cleaned[:1] == "_"):
        cleaned = "_" + cleaned
    if cleaned == name and len(name) <= MAX_NAME_LENGTH:
        return name
    import hashlib  # loads OpenSSL: only for names that need it

    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]
    return f"{cleaned[: MAX_NAME_LENGTH - _HASH_LENGTH - 1]}-{digest}"


def folder_name(base_name: str, suffix: str = "") -> str:
    """The folder that holds the experiments of one base name."""
    return safe_name(f"{base_name}_{suffix}")
