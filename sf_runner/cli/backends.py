"""Backends by name: the three that are built in, and classes of users by their path."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

from sf_runner.backends.base import Backend
from sf_runner.basics.errors import UsageError, closest, did_you_mean, one_line
from sf_runner.cli.kind import BackendKind
from sf_runner.cli.options import BACKENDS


def kind_of(name: str) -> BackendKind:
    """The backend called `name`: `processes`, `slurm`, `ngc`, or `package.module:Class`.

    Raises:
        UsageError: there is no such backend, or the class lacks what a backend needs.
    """
    if name == "processes":
        from sf_runner.cli.processes_kind import ProcessesKind

        return ProcessesKind()
    if name == "slurm":
        from sf_runner.cli.slurm_kind import SlurmKind

        return SlurmKind()
    if name == "ngc":
        from sf_runner.cli.ngc_kind import NgcKind

        return NgcKind()
    if ":" in name:
        return _plugged_in(name)
    raise UsageError(f"--runner={name} is none of {', '.join(BACKENDS)}, nor a class (package.module:Class)")


def _plugged_in(name: str) -> BackendKind:
    """A user's class: a `Cluster`, or a whole `Backend`."""
    from sf_runner.backends.cluster.api import REQUIRED, Cluster
    from sf_runner.backends.cluster.checked import states_fault
    from sf_runner.cli.cluster_kind import ClusterKind
    from sf_runner.cli.plugin_kind import PluginKind

    cls = _load_class(name)
    if issubclass(cls, Cluster):
        missing = [method for method in REQUIRED if getattr(cls, method) is getattr(Cluster, method)]
        _refuse_missing(name, missing, "a Cluster")
        cluster = _make(name, cls)
        if fault := states_fault(cluster.states):
            raise UsageError(f"--runner={name}: {cls.__name__}.states: {fault}")
        return ClusterKind(name, cluster, f"{cls.__name__}.submit")
    required = [method for method, _ in inspect.getmembers(Backend, inspect.isfunction) if not method.startswith("_")]
    _refuse_missing(name, [method for method in required if not hasattr(cls, method)], "a Backend")
    try:
        inspect.signature(cls).bind("run_id")
    except (TypeError, ValueError) as exc:
        raise UsageError(f"--runner={name}: {cls.__name__}(run_id) cannot be called: {exc}") from exc
    return PluginKind(name, cls)


def _load_class(name: str) -> type[Any]:
    module_name, _, class_name = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as exc:  # whatever the user's module does
        what = one_line(f"{type(exc).__name__}: {exc}")
        here = [path.stem for path in Path.cwd().glob("*.py")] if isinstance(exc, ModuleNotFoundError) else []
        nearest = closest(module_name, here)
        hint = f". Did you mean '{nearest}'?" if nearest else ""
        raise UsageError(f"--runner={name}: module '{module_name}' cannot be imported: {what}{hint}") from exc
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise UsageError(
            f"--runner={name}: {module_name} has no class '{class_name}'.{did_you_mean(class_name, classes)}"
        )
    return found


def _refuse_missing(name: str, missing: list[str], what: str) -> None:
    if missing:
        raise UsageError(
            f"--runner={name}: the class lacks {', '.join(missing)}, which {what} needs; see docs/backends.md"
        )


def _make(name: str, cls: type[Any]) -> Any:
    try:
        return cls()
    except (Exception, SystemExit) as exc:  # whatever the user's class does
        raise UsageError(
            f"--runner={name}: {cls.__name__}() failed: {one_line(f'{type(exc).__name__}: {exc}')}"
        ) from exc
