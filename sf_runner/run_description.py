"""The module name that descriptions written for Sample Factory import from."""

from sf_runner.describe.description import Experiment, Resources, RunDescription
from sf_runner.describe.params import ParamGenerator, ParamGrid, ParamList

__all__ = ["Experiment", "ParamGenerator", "ParamGrid", "ParamList", "Resources", "RunDescription"]
