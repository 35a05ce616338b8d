"""Run descriptions with the arguments and commands of Sample Factory 2.x: one directory argument per job."""

from __future__ import annotations

from collections.abc import Iterable

from sf_runner.describe import description
from sf_runner.describe.description import Experiment
from sf_runner.describe.params import ParamGenerator, ParamGrid, ParamList

__all__ = ["Experiment", "ParamGenerator", "ParamGrid", "ParamList", "RunDescription"]


class RunDescription(description.RunDescription):
    """A run whose programs get `--train_dir=<train_dir>/<run_name>/<folder>`; see the base class."""

    def __init__(
        self,
        run_name: str,
        experiments: Iterable[Experiment],
        experiment_arg_name: str | None = "--experiment",
        experiment_dir_arg_name: str | None = "--train_dir",
        customize_experiment_name: bool = True,
        param_prefix: str = "--",
    ) -> None:
        super().__init__(
            run_name,
            experiments,
            experiment_dirs_sf_format=False,
            experiment_arg_name=experiment_arg_name,
            experiment_dir_arg_name=experiment_dir_arg_name,
            customize_experiment_name=customize_experiment_name,
            param_prefix=param_prefix,
        )
