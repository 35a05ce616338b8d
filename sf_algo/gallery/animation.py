"""Frames of an episode as one small GIF, with Pillow alone: it comes with matplotlib, and every chat shows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_algo.errors import StorageError

_COLORS = 64
_MOST_WIDTH = 320
_SAMPLES = 8
"""Frames whose colours are those of all."""
_LEAST_MS = 20
"""What browsers play at most."""


class Animation:
    """Collects frames [H, W, 3], at most `most` of them, and writes them."""

    def __init__(self, *, frame_s: float, most: int = 400) -> None:
        """`frame_s`: how long a frame is shown (s)."""
        self._every = max(1, round(_LEAST_MS / 1000 / frame_s)) if frame_s > 0 else 1
        self._frame_s = frame_s * self._every
        self._most = most
        self._seen = 0
        self._images: list[Any] = []

    def __len__(self) -> int:
        return len(self._images)

    def add(self, frame: NDArray[np.uint8]) -> None:
        """A black one is left out: an engine shows it when its episode is over."""
        if not frame.any():
            return
        if self._seen % self._every == 0 and len(self._images) < self._most:
            self._images.append(_small(frame))
        self._seen += 1

    def write(self, path: Path) -> None:
        """Raises StorageError."""
        # One palette for all frames: a palette of its own for each flickers and takes more room.
        palette = _side_by_side(self._images[:: max(1, len(self._images) // _SAMPLES)]).quantize(_COLORS)
        images = [image.quantize(palette=palette, dither=0) for image in self._images]
        try:
            images[0].save(
                path,
                save_all=True,
                append_images=images[1:],
                duration=max(_LEAST_MS, round(1000 * self._frame_s)),
                loop=0,
                optimize=True,
            )
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def _side_by_side(images: Sequence[Any]) -> Any:
    from PIL import Image

    joined = Image.new("RGB", (sum(image.width for image in images), max(image.height for image in images)))
    left = 0
    for image in images:
        joined.paste(image, (left, 0))
        left += image.width
    return joined


def _small(frame: NDArray[np.uint8]) -> Any:
    from PIL import Image

    image = Image.fromarray(frame)
    if image.width <= _MOST_WIDTH:
        return image
    return image.resize((_MOST_WIDTH, round(image.height * _MOST_WIDTH / image.width)), Image.Resampling.BILINEAR)
