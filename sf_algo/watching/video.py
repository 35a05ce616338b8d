"""Writes frames to an mp4 file through the optional package imageio."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sf_algo.errors import MissingDependencyError, StorageError

_FALLBACK_FPS = 30.0


def require_video() -> None:
    """Raises MissingDependencyError unless videos can be written."""
    try:
        for name in ("imageio", "imageio_ffmpeg"):
            importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"--save_video=True needs the package {error.name}: pip install 'sf-runner[video]'"
        ) from error


@contextmanager
def mp4_writer(path: Path, *, fps: float) -> Iterator[Callable[[NDArray[np.uint8]], None]]:
    """A function that appends frames [H, W, 3], all of one size. `fps` 0 stands for 30.

    Raises:
        StorageError: the file cannot be written.
    """
    require_video()
    import imageio.v2

    try:
        # Sizes that codecs dislike are kept: one pixel more or less is worth less than a surprise.
        writer = imageio.v2.get_writer(path, fps=fps or _FALLBACK_FPS, macro_block_size=1)
    except OSError as error:
        raise StorageError(f"cannot write the video {path}: {error}") from error
    try:
        yield lambda frame: writer.append_data(_even(frame))
    finally:
        writer.close()


def _even(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The usual pixel format of mp4 needs an even width and height; an odd last row or column is cut."""
    height, width = frame.shape[:2]
    return frame[: height - height % 2, : width - width % 2]
