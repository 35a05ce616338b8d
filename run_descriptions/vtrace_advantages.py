"""Does V-trace learn better when its advantages do not carry rho beside the ratio of the PPO objective?

    python -m sf_runner.run --run=run_descriptions.vtrace_advantages
    python -m sf_runner.report vtrace_advantages

The advantage of V-trace has a factor rho = min(1, ratio), and the PPO objective multiplies it by the ratio again: at a
ratio of 0.5 a sample weighs 0.25, where the policy gradient of Espeholt et al. 2018 weighs it 0.5. Both ways, five
seeds each, on CartPole-v1 (where 16 updates are made of each batch, so that ratios leave 1).
"""

from sf_runner import Experiment, ParamGrid, RunDescription

_params = ParamGrid([("seed", [0, 1, 2, 3, 4]), ("vtrace_weighs_advantages", [True, False])])

_cartpole = Experiment(
    "cartpole",
    "python -m sf_algo.train_appo --env=CartPole-v1 --algo=APPO --serial_mode=True --with_vtrace=True "
    "--learner_main_loop_num_cores=1 --train_for_env_steps=60000 --stats_avg=50",
    _params.generate_params(randomize=False),
)

RUN_DESCRIPTION = RunDescription("vtrace_advantages", experiments=[_cartpole], max_parallel=2)
