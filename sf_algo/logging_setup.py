"""The log of a training: lines on the screen and in ``sf_log.txt``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sf_algo.errors import StorageError
from sf_algo.files import storage_fault

ROOT_LOGGER = "sf_algo"
_SCREEN_FORMAT = "[%(asctime)s] %(message)s"
_FILE_FORMAT = "[%(asctime)s][%(process)d][%(levelname)s] %(message)s"


class _ForgivingFileHandler(logging.FileHandler):
    """A log that can no longer be written (full disk) is told once on the screen and ends nothing."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")
        self._told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base class's name
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._told:
            self._told = True
            print(f"warning: {storage_fault('log', Path(self.baseFilename), error)}", file=sys.stderr)


@contextmanager
def logging_to(path: Path | None) -> Iterator[logging.Logger]:
    """Sends what the package logs to the screen and, unless `path` is None, to the end of that file.

    Raises:
        StorageError: the file cannot be opened.
    """
    logger = logging.getLogger(ROOT_LOGGER)
    screen: logging.Handler = logging.StreamHandler(sys.stdout)
    screen.setFormatter(logging.Formatter(_SCREEN_FORMAT, datefmt="%H:%M:%S"))
    handlers = [screen]
    if path is not None:
        try:
            file_handler = _ForgivingFileHandler(path)
        except OSError as error:
            raise StorageError(storage_fault("log", path, error)) from error
        file_handler.setFormatter(logging.Formatter(_FILE_FORMAT))
        handlers.append(file_handler)
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield logger
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
        logger.level, logger.propagate = before
