"""Where one attempt of a job runs: the devices and cores it holds and the variables that tell it so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What an attempt was given. Journaled as JSON and read back when its job is re-adopted."""

    gpu_uuids: tuple[str, ...] = ()
    gpu_indices: tuple[int, ...] = ()
    """PCI bus order, for people; a MIG instance carries the index of its GPU."""
    cores: tuple[int, ...] = ()
    """Logical CPUs to bind to; empty: not bound."""
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Variables to set for the job. They win over the runner's environment; the job's own `env_vars` win over them."""
    memory_mb: int = 0
    """GPU memory reserved on each of its GPUs; 0: nothing is known about its need."""
    room_mb: int | None = None
    """Memory that could be had when it was placed, on the fullest of its GPUs."""
    others_mb: tuple[int | None, ...] = ()
    """Per GPU: memory in use that belonged to nobody here when it was placed."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; fields that say nothing are left out."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Placement:
        """The inverse of `to_json`; unknown keys are ignored, so an older runner reads a newer journal."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """For people: `GPU 2, cores 0-3`; empty where nothing was assigned."""
        raise NotImplementedError


ANYWHERE = Placement()
"""No GPU, no cores, nothing to set."""
