"""Instructions in words as numbers, the same ones in every process, run and version of Python."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.spec import ObsSpec

INSTRUCTIONS = "instructions"
"""Name of the observation."""
VOCABULARY = 1000
"""Words fall into buckets 1..999; 0 stands for no word."""
MAX_WORDS = 16

INSTRUCTIONS_SPEC = ObsSpec(shape=(MAX_WORDS,), dtype=np.dtype(np.int16))


def word_token(word: str) -> int:
    """The bucket of a word, 1 to VOCABULARY - 1: the last eight bytes of its MD5 sum, modulo the buckets."""
    digest = hashlib.md5(word.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[-8:], "big") % (VOCABULARY - 1) + 1


@lru_cache(maxsize=4096)
def _tokens(text: str) -> tuple[int, ...]:
    words = text.lower().split()[:MAX_WORDS]
    return tuple(map(word_token, words)) + (0,) * (MAX_WORDS - len(words))


def write_tokens(text: str, out: NDArray[np.int16]) -> None:
    """The words of `text` into `out` [MAX_WORDS], zeros behind them; words beyond that are cut off."""
    out[:] = _tokens(text)
