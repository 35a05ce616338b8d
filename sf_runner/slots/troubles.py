"""Collects what is wrong with the GPUs and says each thing once, for all devices it concerns in one line."""

from __future__ import annotations

from sf_runner.basics.said import Said
from sf_runner.slots.devices import GpuWarning, Trouble


class TroubleLog:
    """Remembers what was said. A text may hold `{gpus}`, which becomes `GPU 0 and GPU 2`."""

    def __init__(self) -> None:
        self._said = Said()
        self._fresh: dict[tuple[Trouble, str], list[tuple[str, str]]] = {}

    def note(self, kind: Trouble, text: str, *, label: str = "", uuid: str = "") -> None:
        """Record a trouble; it is told by the next `drain` unless it was before."""
        if self._said.first(kind, uuid, text):
            self._fresh.setdefault((kind, text), []).append((label, uuid))

    def forget(self, kind: Trouble, *, uuid: str = "") -> bool:
        """Make the troubles of that kind news again; says whether there were any."""
        return self._said.forget(kind, uuid)

    def drain(self) -> tuple[GpuWarning, ...]:
        """What is new since the last call."""
        warnings = []
        for (kind, text), devices in self._fresh.items():
            labels = [label for label, _ in devices]
            message = text.replace("{gpus}", _enumerate(labels))
            warnings.append(GpuWarning(kind=kind, message=message, uuid=devices[0][1] if len(devices) == 1 else ""))
        self._fresh.clear()
        return tuple(warnings)


def _enumerate(labels: list[str]) -> str:
    """`GPU 0`, `GPU 0 and GPU 1`, `GPU 0, GPU 1 and GPU 2`."""
    return " and ".join(filter(None, [", ".join(labels[:-1]), labels[-1]]))
