"""Where one attempt of a job runs: the devices and cores it holds and the variables that tell it so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What an attempt was given. Journaled as JSON and read back when its job is re-adopted."""

    node: str = ""
    """Machine of a cluster; empty: this one."""
    gpu_uuids: tuple[str, ...] = ()
    gpu_indices: tuple[int, ...] = ()
    """PCI bus order, for people; a MIG instance carries the index of its GPU."""
    mig_index: int | None = None
    """Which instance of that GPU; a job gets one at most."""
    cores: tuple[int, ...] = ()
    """Logical CPUs to bind to; empty: not bound."""
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Variables to set. They win over the runner's environment, the job's own `env_vars` over them."""
    memory_mb: int = 0
    """GPU memory reserved on each of its GPUs; 0: nothing is known about its need."""
    room_mb: int | None = None
    """Memory that could be had when it was placed, on the fullest of its GPUs; None: not known."""
    others_mb: tuple[int | None, ...] = ()
    """Per GPU: memory in use that belonged to no job of this run when it was placed."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; fields that say nothing are left out."""
        nothing = vars(ANYWHERE)
        said = {name: value for name, value in vars(self).items() if value != nothing[name]}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Placement:
        """The inverse of `to_json`; unknown keys are ignored, so an older runner reads a newer journal."""
        if not data:
            return ANYWHERE
        known: dict[str, Any] = {name: value for name, value in data.items() if name in vars(ANYWHERE)}
        known |= {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
        return cls(**known)

    @property
    def label(self) -> str:
        """For people: `GPU 2, cores 0-3`; empty where nothing was assigned."""
        parts = [self.node] if self.node else []
        if self.gpu_indices:
            mig = "" if self.mig_index is None else f" MIG {self.mig_index}"
            parts.append(f"GPU{'s' if len(self.gpu_indices) > 1 else ''} {ranges(self.gpu_indices)}{mig}")
        if self.cores:
            parts.append(("core " if len(self.cores) == 1 else "cores ") + ranges(self.cores))
        return ", ".join(parts)


def ranges(numbers: Iterable[int]) -> str:
    """Numbers as the kernel lists CPUs: `0-3,8`."""
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


ANYWHERE = Placement()
"""No GPU, no cores, nothing to set."""
