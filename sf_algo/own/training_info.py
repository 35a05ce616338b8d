"""What environments may know of the training that they are in."""

from __future__ import annotations

from collections.abc import Sequence


class TrainingInfo:
    """Read-only; makers get one as `training`. Reading costs a memory access: no message is sent."""

    def __init__(self, words: Sequence[int] | memoryview[int] = (0,)) -> None:
        """`words[0]` is the count of frames; in a training it lies in memory that all processes share."""
        self._words = words

    @property
    def env_steps(self) -> int:
        """Environment frames collected so far by all policies together, frame skip and earlier starts included. While a
        policy is watched: those it was trained on."""
        return int(self._words[0])
