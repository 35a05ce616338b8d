"""Command lines that users of the predecessor have: they work after a change of the module's name."""

from __future__ import annotations

import shlex

import pytest

from sf_algo.config import Command, Config, parse_args

DMLAB = (
    "python -m sf_algo.train_appo --env=dmlab_30 --train_for_seconds=3600000 --algo=APPO --gamma=0.99 "
    "--use_rnn=True --num_workers=90 --num_envs_per_worker=12 --ppo_epochs=1 --rollout=32 --recurrence=32 "
    "--batch_size=2048 --benchmark=False --ppo_epochs=1 --max_grad_norm=0.0 --dmlab_renderer=software "
    "--decorrelate_experience_max_seconds=120 --reset_timeout_seconds=300 "
    "--encoder_custom=dmlab_instructions --encoder_type=resnet --encoder_subtype=resnet_impala "
    "--encoder_extra_fc_layers=1 --hidden_size=256 --nonlinearity=relu --rnn_type=lstm "
    "--dmlab_extended_action_set=True --num_policies=4 --pbt_replace_reward_gap=0.05 "
    "--pbt_replace_reward_gap_absolute=5.0 --pbt_period_env_steps=10000000 --pbt_start_mutation=100000000 "
    "--with_pbt=True --experiment=dmlab_30_resnet_4pbt_w90_v12 --dmlab_one_task_per_worker=True "
    "--set_workers_cpu_affinity=True --max_policy_lag=35 --pbt_target_objective=dmlab_target_objective "
    "--dmlab30_dataset=~/datasets/brady_konkle_oliva2008 --dmlab_use_level_cache=True "
    "--dmlab_level_cache_path=/home/user/dmlab_cache"
)
WANDB = (
    "python -m sf_algo.train_appo --env=doom_basic --algo=APPO --train_for_env_steps=30000000 "
    "--num_workers=20 --num_envs_per_worker=20 --experiment=doom_basic --with_wandb=True "
    "'--wandb_user=<your_wandb_user>' --wandb_tags test benchmark doom appo"
)
BASIC_ENVS = (
    "python -m sf_algo.train_appo --train_for_env_steps=500000000 --algo=APPO --env_frameskip=4 "
    "--use_rnn=True --num_workers=36 --num_envs_per_worker=8 --num_policies=1 --ppo_epochs=1 --rollout=32 "
    "--recurrence=32 --batch_size=2048 --wide_aspect_ratio=False"
)
DUMMY_SAMPLER = (
    "python -m sf_algo.run_algorithm --algo=DUMMY_SAMPLER --env=doom_benchmark --num_workers=20 "
    "--num_envs_per_worker=1 --experiment=dummy_sampler --sample_env_frames=5000000"
)
BASIC_ENV_NAMES = (
    "doom_my_way_home",
    "doom_deadly_corridor",
    "doom_defend_the_center",
    "doom_defend_the_line",
    "doom_health_gathering",
    "doom_health_gathering_supreme",
)


def parse(command_line: str) -> Config:
    python, dash_m, module, *argv = shlex.split(command_line)
    assert (python, dash_m) == ("python", "-m")
    invocation = parse_args(argv, Command(module))
    assert invocation.notes == ()
    return invocation.config


def test_dmlab_30() -> None:
    config = parse(DMLAB)
    assert config.run.train_for_seconds == 3_600_000
    assert config.model.encoder_custom == "dmlab_instructions"
    assert (config.model.rnn_type, config.rl.max_grad_norm) == ("lstm", 0.0)
    assert config.pbt.pbt_target_objective == "dmlab_target_objective"
    assert config.dmlab.dmlab_level_cache_path == "/home/user/dmlab_cache"
    assert config.sampling.max_policy_lag == 35


def test_wandb() -> None:
    config = parse(WANDB)
    assert config.wandb.wandb_tags == ("test", "benchmark", "doom", "appo")
    assert config.wandb.wandb_user == "<your_wandb_user>"
    assert config.wandb.wandb_project == "sample_factory"
    assert config.sampling.num_workers * config.sampling.num_envs_per_worker == 400


@pytest.mark.parametrize("seed", [0, 9999])
@pytest.mark.parametrize("env", BASIC_ENV_NAMES)
def test_basic_environments(env: str, seed: int) -> None:
    config = parse(
        f"{BASIC_ENVS} --seed={seed} --env={env} --experiment=00_basic_envs_fs4_see_{seed}_env_{env} "
        "--train_dir=train_dir/doom_basic_envs_appo/basic_envs_fs4_"
    )
    assert (config.run.seed, config.run.env) == (seed, env)
    assert config.run.env_steps_limit == 500_000_000


def test_experiments_root() -> None:
    config = parse(f"{BASIC_ENVS} --env=doom_basic --train_dir=/t --experiments_root=run/basic_ --experiment=e")
    assert str(config.run.experiment_dir) == "/t/run/basic_/e"


def test_dummy_sampler() -> None:
    config = parse(DUMMY_SAMPLER)
    assert config.dummy.sample_env_frames == 5_000_000
    assert config.sampling.num_envs_per_worker == 1


def test_watching_with_every_flag() -> None:
    config = parse(
        "python -m sf_algo.enjoy_appo --algo=APPO --env=doom_battle --experiment=battle --fps=35 "
        "--render_action_repeat=4 --no_render --policy_index=0 --record_to=~/demos --save_video "
        "--video_frames=1000 --max_num_frames=1e5 --max_num_episodes=10 --eval_deterministic=True "
        "--continuous_actions_sample=False"
    )
    assert config.evaluation.no_render
    assert config.evaluation.save_video
    assert config.evaluation.max_num_frames == 100_000
