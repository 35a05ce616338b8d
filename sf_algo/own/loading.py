"""Finds the user's code by its import path, and says which part of the path is wrong."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

from sf_algo.errors import ConfigError, EnvError, SfAlgoError, UnknownEnvError
from sf_algo.own.names import did_you_mean


def load_maker(name: str) -> Callable[..., Any]:
    """The callable that `--env=package.module:attribute` names. Raises UnknownEnvError: which part is wrong."""
    module_name, _, attribute = name.partition(":")
    module = _module(module_name, f"--env={name}", UnknownEnvError)
    maker: Callable[..., Any] | None = getattr(module, attribute, None)
    if not callable(maker):
        public = [n for n in dir(module) if not n.startswith("_")]
        where = getattr(module, "__file__", None) or module_name
        script = "; start from the script that defines it" if module_name == "__main__" else ""
        raise UnknownEnvError(
            f"--env={name}: {where} has no function {attribute}{script or did_you_mean(attribute, public)}"
        )
    return maker


def load_object(path: str, what: str) -> Any:
    """What the import path `package.module:attribute` names. `what` says in a fault whose path it is.

    Raises:
        ConfigError: it is not there.
        EnvError: the user's module raises while it is imported; its traceback is in the message.
    """
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"{what}={path}: write package.module:name")
    found: Any = _module(module_name, f"{what}={path}", ConfigError)
    for name in attribute.split("."):
        if not hasattr(found, name):
            public = [n for n in dir(found) if not n.startswith("_")]
            raise ConfigError(f"{what}={path}: {module_name} has no {attribute}{did_you_mean(name, public)}")
        found = getattr(found, name)
    return found


def _module(name: str, said: str, unknown: type[SfAlgoError]) -> ModuleType:
    """Imports the user's module. `said`: by which flag it was named; `unknown`: raised where there is none."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if name != missing and not name.startswith(missing + "."):
            raise failed(said, error) from error  # the module is there: an import of its own fails
        raise unknown(
            f"{said}: there is no module {missing}; start from the folder that holds it, or put that folder on "
            "PYTHONPATH"
        ) from error
    except Exception as error:
        raise failed(said, error) from error


def failed(what: str, error: BaseException) -> EnvError:
    """The user's own code raised: one line that says so, and the traceback after it."""
    said = traceback.format_exception_only(type(error), error)[-1].strip()
    details = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return EnvError(f"{what}: {said}; the traceback shows where\n{details}")
