"""The population of the paper's DMLab-30 command (Petrenko et al. 2020, arXiv 2006.11751) on a task of minutes.

    python -m sf_runner.run --run=run_descriptions.pbt_small
    python -m sf_runner.report pbt_small

Four policies, the same gaps, share and sizes of mutations; turns a thousand times as often, for a training that is a
thousand times as short: `dmlab_30` needs 10 million frames between two turns, CartPole-v1 ten thousand. The absolute
gap of 5 points is of DMLab's score from 0 to 100, and of the 500 steps that CartPole can last.
"""

from sf_runner import Experiment, ParamGrid, RunDescription

_params = ParamGrid([("seed", [0, 1, 2])])

_experiments = [
    Experiment(
        "cartpole",
        "python -m sf_algo.train_appo --env=CartPole-v1 --algo=APPO --serial_mode=True --num_policies=4 "
        "--with_pbt=True --pbt_replace_reward_gap=0.05 --pbt_replace_reward_gap_absolute=5.0 "
        "--pbt_period_env_steps=10000 --pbt_start_mutation=10000 --max_policy_lag=35 --stats_avg=50 "
        "--train_for_env_steps=400000",
        _params.generate_params(randomize=False),
    ),
]

RUN_DESCRIPTION = RunDescription("pbt_small", experiments=_experiments)
