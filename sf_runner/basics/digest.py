"""Short hashes that are the same on every machine and at every start."""

from __future__ import annotations

from collections.abc import Iterable

try:
    from _blake2 import blake2b  # hashlib would load OpenSSL for the same function: 3 MB in every runner
except ImportError:  # an interpreter that keeps it elsewhere
    from hashlib import blake2b


def digest(parts: Iterable[str], *, size: int = 8) -> str:
    """`size` bytes in hexadecimal over parts that contain no NUL character."""
    return blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=size).hexdigest()
