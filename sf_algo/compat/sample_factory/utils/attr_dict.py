"""A dictionary whose keys are attributes, too."""

from __future__ import annotations

from typing import Any


class AttrDict(dict[str, Any]):
    """`d.key` is `d["key"]`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]
