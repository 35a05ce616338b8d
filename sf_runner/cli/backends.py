"""Backends by name: the three that are built in, and classes of users by their path."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

from sf_runner.backends.base import Backend
from sf_runner.basics.errors import UsageError, closest, did_you_mean, one_line
from sf_runner.basics.paths import RunPaths
from sf_runner.cli.kind import BackendContext, BackendKind
from sf_runner.cli.options import BUILT_IN
from sf_runner.state.fold import RunState


def kind_of(name: str) -> BackendKind:
    """The backend called `name`: `processes`, `slurm`, `ngc`, or `package.module:Class`.

    Raises:
        UsageError: there is no such backend, or the class lacks what a backend needs.
    """
    if name in BUILT_IN:
        module, _, cls = BUILT_IN[name].kind.partition(":")
        kind: BackendKind = getattr(importlib.import_module(module), cls)()
        return kind
    if ":" in name:
        return _plugged_in(name)
    raise UsageError(f"--runner={name} is none of {', '.join(BUILT_IN)}, nor a class (package.module:Class)")


def _plugged_in(name: str) -> BackendKind:
    """A user's class: a `Cluster`, or a whole `Backend`."""
    from sf_runner.backends.cluster.api import REQUIRED, Cluster
    from sf_runner.backends.cluster.checked import fault_of
    from sf_runner.cli.cluster_kind import ClusterKind

    cls = _load_class(name)
    if issubclass(cls, Cluster):
        missing = [method for method in REQUIRED if getattr(cls, method) is getattr(Cluster, method)]
        _refuse_missing(name, missing, "a Cluster")
        cluster = _make(name, cls)
        if fault := fault_of(cluster):
            raise UsageError(f"--runner={name}: {cls.__name__}.{fault}")
        return ClusterKind(name, cluster, f"{cls.__name__}.submit")
    required = [method for method, _ in inspect.getmembers(Backend, inspect.isfunction) if not method.startswith("_")]
    _refuse_missing(name, [method for method in required if not hasattr(cls, method)], "a Backend")
    try:
        inspect.signature(cls).bind("run_id")
    except (TypeError, ValueError) as exc:
        raise UsageError(f"--runner={name}: {cls.__name__}(run_id) cannot be called: {exc}") from exc
    return PluginKind(name, cls)


class PluginKind(BackendKind):
    """A whole backend that a user wrote; `cls(run_id)` makes it. Its attributes `local`, `queues` and `hands_over_all`
    say what it is like; by default attempts do not run on this machine, and the runner counts how many are submitted.
    """

    def __init__(self, name: str, cls: type[Any]) -> None:
        self.name = name
        self._cls = cls
        self.local = bool(getattr(cls, "local", False))
        self.queues = bool(getattr(cls, "queues", not self.local))
        self.hands_over_all = bool(getattr(cls, "hands_over_all", False))

    def make(self, context: BackendContext) -> Backend:
        backend: Backend = _make(self.name, self._cls, context.state.run_id)
        return backend

    def reopen(self, paths: RunPaths, state: RunState) -> Backend:
        backend: Backend = _make(self.name, self._cls, state.run_id)
        return backend


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


def _make(name: str, cls: type[Any], *args: str) -> Any:
    try:
        return cls(*args)
    except (Exception, SystemExit) as exc:  # whatever the user's class does
        what = one_line(f"{type(exc).__name__}: {exc}")
        raise UsageError(f"--runner={name}: {cls.__name__}({'run_id' if args else ''}) failed: {what}") from exc
