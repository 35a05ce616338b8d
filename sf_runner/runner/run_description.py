"""Run descriptions with the arguments and commands of Sample Factory 1.x: those of this project."""

from sf_runner.describe.description import Experiment, RunDescription
from sf_runner.describe.params import ParamGenerator, ParamGrid, ParamList

__all__ = ["Experiment", "ParamGenerator", "ParamGrid", "ParamList", "RunDescription"]
