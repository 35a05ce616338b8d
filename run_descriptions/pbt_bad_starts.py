"""Does exchange find good hyperparameters where every policy begins with bad ones?

    python -m sf_runner.run --run=run_descriptions.pbt_bad_starts
    python -m sf_runner.report pbt_bad_starts

Eight policies on CartPole-v1 whose learning rates begin between 1e-6 and 1e-5, all of them far too small (the default
is 3e-3): no policy learns the task with what it begins with, so a population gets there only if rates grow from turn to
turn and spread. With exchange, and without, five seeds each; and eight policies that begin with the default, for
comparison. Mutations are frequent and large, for the good rates are a hundred times away and a policy has thirty turns.
The report's picture shows who descends from whom, and where the learning rates went.
"""

from sf_runner import Experiment, ParamGrid, RunDescription

_COMMAND = (
    "python -m sf_algo.train_appo --env=CartPole-v1 --algo=APPO --serial_mode=True --num_policies=8 --stats_avg=30 "
    "--num_envs_per_worker=64 --hidden_size=64 --learner_main_loop_num_cores=1 --train_for_env_steps=480000"
)
_BAD = "--per_policy learning_rate:1e-6..1e-5"
_PBT = (
    "--with_pbt=True --pbt_start_mutation=2000 --pbt_period_env_steps=2000 --pbt_mutation_rate=0.5 "
    "--pbt_perturb_min=1.5 --pbt_perturb_max=4"
)
_seeds = ParamGrid([("seed", [0, 1, 2, 3, 4])])

_experiments = [
    Experiment("exchange", f"{_COMMAND} {_BAD} {_PBT}", _seeds.generate_params(randomize=False)),
    Experiment("no_exchange", f"{_COMMAND} {_BAD}", _seeds.generate_params(randomize=False)),
    Experiment("good", _COMMAND, _seeds.generate_params(randomize=False)),
]

RUN_DESCRIPTION = RunDescription("pbt_bad_starts", experiments=_experiments, max_parallel=2)
