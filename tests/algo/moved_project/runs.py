from sf_runner.launcher.run_description import Experiment, ParamGrid, RunDescription

_params = ParamGrid([("flock_num_agents", [1, 2])])
_experiment = Experiment(
    "flock", "python -m tests.algo.moved_project.train --env=flock", _params.generate_params(randomize=False)
)
RUN_DESCRIPTION = RunDescription("flocks", experiments=[_experiment])
