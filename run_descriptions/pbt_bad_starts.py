"""Does exchange find good hyperparameters where most policies begin with bad ones?

    python -m sf_runner.run --run=run_descriptions.pbt_bad_starts
    python -m sf_runner.report pbt_bad_starts

Eight policies on CartPole-v1 whose learning rates begin between 1e-7 and 1e-2, where about 1e-3 learns well: with
exchange, and without, five seeds each; and eight policies that all begin with the good one, for comparison. The
report's picture shows who descends from whom, and where the learning rates went. docs/population.md has the results.
"""

from sf_runner import Experiment, ParamGrid, RunDescription

_COMMAND = (
    "python -m sf_algo.train_appo --env=CartPole-v1 --algo=APPO --serial_mode=True --num_policies=8 --stats_avg=30 "
    "--num_envs_per_worker=64 --hidden_size=64 --learner_main_loop_num_cores=1 --train_for_env_steps=240000"
)
_BAD = "--per_policy learning_rate:1e-7..1e-2"
_PBT = "--with_pbt=True --pbt_start_mutation=3000 --pbt_period_env_steps=3000"
_seeds = ParamGrid([("seed", [0, 1, 2, 3, 4])])

_experiments = [
    Experiment("exchange", f"{_COMMAND} {_BAD} {_PBT}", _seeds.generate_params(randomize=False)),
    Experiment("no_exchange", f"{_COMMAND} {_BAD}", _seeds.generate_params(randomize=False)),
    Experiment("good", _COMMAND, _seeds.generate_params(randomize=False)),
]

RUN_DESCRIPTION = RunDescription("pbt_bad_starts", experiments=_experiments, max_parallel=2)
