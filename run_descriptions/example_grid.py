"""Twelve short experiments that need neither a GPU nor the trainer: about twenty seconds on two cores.

python -m sf_runner.run --run=run_descriptions.example_grid --max_parallel=2
"""

from sf_runner import Experiment, ParamGrid, RunDescription, seeds

_params = ParamGrid([("seed", seeds(4)), ("learning_rate", [0.02, 0.1, 0.5])])

_experiments = [
    Experiment("cliff_walk", "python -m run_descriptions.example_job --epsilon=0.1", _params.generate_params())
]

RUN_DESCRIPTION = RunDescription(
    "example_grid",
    experiments=_experiments,
    experiment_dirs_sf_format=False,  # one directory argument, as most programs have it
    max_parallel=2,
)
