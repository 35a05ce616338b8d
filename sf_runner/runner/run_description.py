"""Run descriptions with the arguments and commands of Sample Factory 1.x: those of this project."""

from sf_runner.run_description import Experiment, ParamGenerator, ParamGrid, ParamList, RunDescription

__all__ = ["Experiment", "ParamGenerator", "ParamGrid", "ParamList", "RunDescription"]
