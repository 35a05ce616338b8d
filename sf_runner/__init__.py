"""Run grids of experiments on GPUs and cores.

The names below are loaded when they are first used, so that a program which only reports its progress
(`from sf_runner.progress import report`) pays for nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sf_runner.basics.errors import DescriptionError, SfRunnerError, UsageError
    from sf_runner.describe.description import Experiment, Resources, RunDescription
    from sf_runner.describe.params import (
        Choice,
        IntUniform,
        LogUniform,
        ParamGenerator,
        ParamGrid,
        ParamList,
        RandomParams,
        Uniform,
        seeds,
    )
    from sf_runner.describe.values import ABSENT, BARE

__all__ = [
    "ABSENT",
    "BARE",
    "Choice",
    "DescriptionError",
    "Experiment",
    "IntUniform",
    "LogUniform",
    "ParamGenerator",
    "ParamGrid",
    "ParamList",
    "RandomParams",
    "Resources",
    "RunDescription",
    "SfRunnerError",
    "Uniform",
    "UsageError",
    "seeds",
]

_HOME = {
    **dict.fromkeys(("Experiment", "Resources", "RunDescription"), "sf_runner.describe.description"),
    **dict.fromkeys(("ABSENT", "BARE"), "sf_runner.describe.values"),
    **dict.fromkeys(("DescriptionError", "SfRunnerError", "UsageError"), "sf_runner.basics.errors"),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'sf_runner' has no attribute {name!r}")
    value: object = getattr(import_module(_HOME.get(name, "sf_runner.describe.params")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
