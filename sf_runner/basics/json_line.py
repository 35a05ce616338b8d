"""Values as one line of JSON, ASCII without spaces; for the journal and exit records, of which there are thousands."""

from __future__ import annotations

import json
from collections.abc import Callable
from json import encoder as _encoder
from typing import Any


def _refuse(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} is nothing that JSON has")


def _make() -> Callable[[Any], str]:
    """`JSONEncoder.encode` builds the encoder of the C library anew for each call, which takes most of its time."""
    make_c_encoder = getattr(_encoder, "c_make_encoder", None)
    if make_c_encoder is None:  # another Python
        return json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
    parts = make_c_encoder(None, _refuse, _encoder.encode_basestring_ascii, None, ":", ",", False, False, True)
    return lambda value: "".join(parts(value, 0))


quoted: Callable[[str], str] = _encoder.encode_basestring_ascii
"""The text of a string, in quotes."""

json_line: Callable[[Any], str] = _make()
"""The text of a value; TypeError for what JSON does not have."""
