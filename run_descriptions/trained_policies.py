"""Trains the policies that come with the package: seed 1 of tasks of run_descriptions/reliability.py.

    python -m sf_runner.run --run=run_descriptions.trained_policies --max_parallel=2

docs/policies.md says how a training becomes a trained policy with a card.
In this mode a seed reproduces a training to the last bit, on the same machine with the same libraries.
"""

from run_descriptions import reliability
from sf_runner import Experiment, RunDescription

_NAMES = ("cartpole", "acrobot", "pendulum", "memory", "doom_basic", "health_gathering", "defend_the_center")
_experiments = {experiment.base_name: experiment for experiment in reliability.RUN_DESCRIPTION.experiments}

RUN_DESCRIPTION = RunDescription(
    "trained_policies",
    experiments=[Experiment(name, _experiments[name].cmd, [{"seed": 1}]) for name in _NAMES],
    thresholds=reliability.RUN_DESCRIPTION.thresholds,
)
