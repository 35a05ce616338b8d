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
_FILE_ONLY = "file_only"
_FILE_FORMAT = "[%(asctime)s][%(process)d][%(levelname)s] %(message)s"


def log_to_file_only(logger: logging.Logger, message: str) -> None:
    """Logs an error that the command prints on the screen itself."""
    logger.error("%s", message, extra={_FILE_ONLY: True})


class _LogFile(logging.Handler):
    """Appends each record at once. A file that can no longer be written (full disk) is told once on the
    screen and ends nothing, which logging's own handler does not manage: it raises when it is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._told = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._file.write(self.format(record).encode(errors="replace") + b"\n")
        except OSError as error:
            if not self._told:
                print(f"warning: {storage_fault('log', self._path, error)}", file=sys.stderr)
            self._told = True

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def logging_to(path: Path | None) -> Iterator[logging.Logger]:
    """Sends what the package logs to the screen and, unless `path` is None, to the end of that file.

    Raises:
        StorageError: the file cannot be opened.
    """
    logger = logging.getLogger(ROOT_LOGGER)
    screen: logging.Handler = logging.StreamHandler(sys.stdout)
    screen.setFormatter(logging.Formatter(_SCREEN_FORMAT, datefmt="%H:%M:%S"))
    screen.addFilter(lambda record: not getattr(record, _FILE_ONLY, False))
    handlers = [screen]
    if path is not None:
        try:
            file_handler = _LogFile(path)
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
