"""The GPUs as the NVIDIA driver describes them. The only importer of `pynvml`."""

from __future__ import annotations

from sf_runner.devices import GpuSnapshot


class NvmlProbe:
    """Polls the driver; cheap enough for once a second, never raises for anything the driver does.

    Each trouble is told once per device: a snapshot's `warnings` holds only what is new.
    """

    def snapshot(self) -> GpuSnapshot:
        """The devices now. Without a library or driver: no GPUs and one warning."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the library. Harmless when repeated; a later `snapshot` starts it again."""
        raise NotImplementedError
