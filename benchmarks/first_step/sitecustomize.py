"""Put on PYTHONPATH, tells when an environment takes the first step anywhere below the started command.

The wall time of the first step of every process is written to the folder that SF_BENCH_FIRST_STEP names, one file per
process. What is wrapped is put back at that step, so the steps after it cost what they always do.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_STEPS = {
    "gymnasium.envs.classic_control.cartpole": ("CartPoleEnv", "step"),
    "vizdoom.vizdoom": ("DoomGame", "make_action"),
    "ale_py.env": ("AtariEnv", "step"),
    "sf_algo.envs.atari": ("AtariEnv", "step"),
}
_NEEDS = {"sf_examples.atari.atari_utils": "ale_py"}
"""Modules and what must be imported before they are of use: gymnasium 0.29 finds no Atari game by itself."""


class _Watch(MetaPathFinder):
    """Wraps the step of the environments above when their modules are imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if needed := _NEEDS.get(fullname):
            import_module(needed)
        if fullname not in _STEPS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            run = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                _wrap(getattr(module, _STEPS[fullname][0]), _STEPS[fullname][1])

            loader.exec_module = exec_module
        return spec


def _wrap(owner: Any, name: str) -> None:
    original = getattr(owner, name)

    def first(*args: Any, **kwargs: Any) -> Any:
        setattr(owner, name, original)
        with open(os.path.join(os.environ["SF_BENCH_FIRST_STEP"], str(os.getpid())), "w") as file:  # noqa: PTH118, PTH123
            file.write(repr(time.time()))
        return original(*args, **kwargs)

    setattr(owner, name, first)


if os.environ.get("SF_BENCH_FIRST_STEP"):
    sys.meta_path.insert(0, _Watch())
