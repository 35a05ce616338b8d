"""Two tasks, two seeds each, trained side by side on two CPU cores in a few minutes.

    python -m sf_runner.run --run=run_descriptions.quickstart

Expected at the end: CartPole-v1 at least 475 of 500 (mean reward of the last 100 episodes), doom_basic a true
reward of at least 70, where 80 is about the best possible and a random policy gets -160.
"""

from sf_runner import Experiment, ParamGrid, RunDescription

_seeds = [("seed", [0, 1])]

# Everything in one process, and in this mode a seed reproduces a training to the last bit.
_cartpole = Experiment(
    "cartpole",
    "python -m sf_algo.train_appo --env=CartPole-v1 --algo=APPO --serial_mode=True --train_for_env_steps=150000",
    ParamGrid(_seeds).generate_params(randomize=False),
)

# A small picture and network without memory are enough for this room: about 6,000 frames/s on one core.
_doom_basic = Experiment(
    "doom_basic",
    "python -m sf_algo.train_appo --env=doom_basic --algo=APPO --serial_mode=True --num_envs_per_worker=16 "
    "--res_w=64 --res_h=36 --use_rnn=False --encoder_subtype=convnet_impala --hidden_size=128 "
    "--rollout=16 --batch_size=256 --ppo_epochs=2 --learning_rate=0.001 --train_for_env_steps=400000",
    ParamGrid(_seeds).generate_params(randomize=False),
)

RUN_DESCRIPTION = RunDescription("quickstart", experiments=[_cartpole, _doom_basic], max_parallel=2)
