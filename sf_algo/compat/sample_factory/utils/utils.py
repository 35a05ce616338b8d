"""Small things that projects import."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

log = logging.getLogger("sf_algo")
"""The trainer's log."""


def str2bool(value: Any) -> bool:
    """True for true, t, yes, y and 1, False for their opposites, in any case. Raises ValueError for the rest."""
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word in ("true", "t", "yes", "y", "1"):
        return True
    if word in ("false", "f", "no", "n", "0"):
        return False
    raise ValueError(f"{value!r} is no truth value; write True or False")


def is_module_available(module_name: str) -> bool:
    """Whether a module can be imported."""
    return importlib.util.find_spec(module_name) is not None


def ensure_dir_exists(path: str) -> str:
    """Make the folder where there is none; returns it."""
    Path(path).mkdir(parents=True, exist_ok=True)
    return path


def project_root() -> str:
    """The folder of work."""
    return str(Path.cwd())


def experiment_dir(cfg: Any, mkdir: bool = True) -> str:
    """The folder of the experiment."""
    path = str(Path(cfg.train_dir, cfg.experiments_root or "", cfg.experiment))
    return ensure_dir_exists(path) if mkdir else path
