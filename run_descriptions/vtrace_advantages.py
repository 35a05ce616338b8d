"""Does V-trace learn better when its advantages do not carry rho beside the ratio of the PPO objective?

    python -m sf_runner.run --run=run_descriptions.vtrace_advantages --max_parallel=1
    python -m sf_runner.report vtrace_advantages

The advantage of V-trace has a factor rho = min(1, ratio), and the PPO objective multiplies it by the ratio again: at a
ratio of 0.5 a sample weighs 0.25, where the policy gradient of Espeholt et al. 2018 weighs it 0.5. Both ways, five
seeds each (with more of them the same run goes on): on CartPole-v1 (where 16 updates are made of each batch, so that
ratios leave 1), and on Doom in asynchronous mode, where actions are older than the policy that learns from them
(`train/version_diff_avg`).
"""

from sf_runner import Experiment, ParamGrid, RunDescription

_params = ParamGrid([("seed", [0, 1, 2, 3, 4]), ("vtrace_weighs_advantages", [True, False])])

_cartpole = Experiment(
    "cartpole",
    "python -m sf_algo.train_appo --env=CartPole-v1 --algo=APPO --serial_mode=True --with_vtrace=True "
    "--learner_main_loop_num_cores=1 --train_for_env_steps=60000 --stats_avg=50",
    _params.generate_params(randomize=False),
)

_health_gathering = Experiment(
    "health_gathering",
    "python -m sf_algo.train_appo --env=doom_health_gathering --algo=APPO --device=cpu --train_for_env_steps=600000 "
    "--res_w=64 --res_h=36 --wide_aspect_ratio=False --env_frameskip=4 --encoder_subtype=convnet_impala "
    "--hidden_size=128 --nonlinearity=elu --use_rnn=False --normalize_input=False --normalize_returns=False "
    "--rollout=32 --batch_size=512 --ppo_epochs=2 --with_vtrace=True --learning_rate=0.001 --gamma=0.99 "
    "--exploration_loss_coeff=0.01 --num_workers=2 --num_envs_per_worker=8 --worker_num_splits=2 --stats_avg=50 "
    "--experiment_summaries_interval=3",
    _params.generate_params(randomize=False),
)

_basic = Experiment(
    "basic",
    "python -m sf_algo.train_appo --env=doom_basic --algo=APPO --device=cpu --train_for_env_steps=300000 "
    "--res_w=64 --res_h=36 --wide_aspect_ratio=False --env_frameskip=4 --encoder_subtype=convnet_impala "
    "--hidden_size=128 --nonlinearity=elu --use_rnn=False --normalize_input=False --normalize_returns=False "
    "--rollout=32 --batch_size=512 --ppo_epochs=2 --with_vtrace=True --learning_rate=0.001 --gamma=0.99 "
    "--exploration_loss_coeff=0.001 --num_workers=2 --num_envs_per_worker=8 --worker_num_splits=2 --stats_avg=50 "
    "--experiment_summaries_interval=3",
    _params.generate_params(randomize=False),
)

_defend_the_center = Experiment(
    "defend_the_center",
    "python -m sf_algo.train_appo --env=doom_defend_the_center --algo=APPO --device=cpu --train_for_env_steps=1000000 "
    "--res_w=128 --res_h=72 --wide_aspect_ratio=False --env_frameskip=4 --encoder_subtype=convnet_impala "
    "--hidden_size=128 --nonlinearity=elu --use_rnn=False --normalize_input=False --normalize_returns=False "
    "--rollout=32 --batch_size=512 --ppo_epochs=2 --with_vtrace=True --learning_rate=0.0005 --gamma=0.99 "
    "--exploration_loss_coeff=0.001 --num_workers=2 --num_envs_per_worker=8 --worker_num_splits=2 --stats_avg=50 "
    "--experiment_summaries_interval=3",
    _params.generate_params(randomize=False),
)

RUN_DESCRIPTION = RunDescription(
    "vtrace_advantages", experiments=[_health_gathering, _basic, _defend_the_center, _cartpole], max_parallel=2
)
