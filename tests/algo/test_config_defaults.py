"""Defaults: of families, of the machine, and those that follow from other flags."""

from __future__ import annotations

from typing import Any

import pytest

from sf_algo.config import Config, EnvFamily, SamplingConfig, check_batch_can_fill, family_of, parse_args
from sf_algo.config.derive import derive_defaults
from sf_algo.config.store import config_values
from sf_algo.cpus import usable_cpus


def parsed(env: str, *argv: str) -> Config:
    return parse_args([f"--env={env}", *argv]).config


@pytest.mark.parametrize(
    ("env", "family"),
    [
        ("doom_battle", EnvFamily.DOOM),
        ("dmlab_30", EnvFamily.DMLAB),
        ("atari_pong", EnvFamily.ATARI),
        ("mujoco_ant", EnvFamily.MUJOCO),
        ("CartPole-v1", EnvFamily.CLASSIC_CONTROL),
        ("MountainCarContinuous-v0", EnvFamily.CLASSIC_CONTROL),
        ("LunarLander-v3", EnvFamily.GYMNASIUM),
        ("my_pkg.my_env:make_env", EnvFamily.CUSTOM),
    ],
)
def test_families(env: str, family: EnvFamily) -> None:
    assert family_of(env) is family


def test_doom_defaults() -> None:
    config = parsed("doom_basic")
    assert config.model.hidden_size == 512
    assert config.rl.ppo_clip_value == 0.2
    assert config.rl.obs_scale == 255
    assert config.env.env_frameskip == 4
    assert config.evaluation.fps == 35
    assert (config.rl.exploration_loss, config.rl.exploration_loss_coeff) == ("symmetric_kl", 0.001)


def test_a_typed_flag_wins_over_the_family() -> None:
    assert parsed("doom_basic", "--hidden_size=64").model.hidden_size == 64


def test_general_defaults_are_the_predecessors() -> None:
    config = parsed("LunarLander-v3")
    rl = config.rl
    assert (rl.learning_rate, rl.gamma, rl.gae_lambda, rl.rollout, rl.batch_size) == (
        1e-4,
        0.99,
        0.95,
        32,
        1024,
    )
    assert (rl.ppo_clip_ratio, rl.ppo_clip_value, rl.max_grad_norm) == (0.1, 1.0, 4.0)
    assert (rl.adam_eps, rl.adam_beta1, rl.adam_beta2, rl.with_vtrace) == (1e-6, 0.9, 0.999, True)
    assert (rl.exploration_loss_coeff, rl.value_loss_coeff, rl.kl_loss_coeff) == (0.003, 0.5, 0.0)
    assert (config.model.hidden_size, config.model.rnn_type, config.model.use_rnn) == (512, "gru", True)
    assert config.sampling.traj_buffers_excess_ratio == 1.3
    assert config.run.save_every_sec == 120
    assert config.run.keep_checkpoints == 3
    assert config.wandb.wandb_job_type == "SF"
    assert config.pbt.pbt_period_env_steps == 5_000_000


def test_workers_default_to_the_cores_and_environments_fill_a_batch() -> None:
    sampling = parsed("doom_basic").sampling
    assert sampling.num_workers == usable_cpus() == SamplingConfig().num_workers
    assert sampling.num_workers * sampling.num_envs_per_worker >= 32
    assert sampling.num_envs_per_worker % sampling.worker_num_splits == 0
    assert parsed("doom_basic", "--num_workers=36").sampling.num_envs_per_worker == 2
    assert parsed("doom_basic", "--num_workers=10").sampling.num_envs_per_worker == 4


@pytest.mark.parametrize(("cores", "workers", "each"), [(16, 14, 32), (64, 62, 16), (2, 1, 32), (1, 1, 32)])
def test_a_gpu_gets_more_environments_and_two_cores(
    cores: int, workers: int, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sf_algo.config.derive.usable_gpus", lambda: 1)
    cores_flag = f"--num_workers={cores}"
    for flags in ((), ("--device=gpu",)):
        sampling = derived_from({("sampling", "num_workers"): cores}, *flags)
        assert (sampling.num_workers, sampling.num_envs_per_worker) == (workers, each)
    assert parsed("doom_basic", cores_flag).sampling.num_workers == cores  # what was typed stays
    assert parsed("doom_basic", "--device=cpu", cores_flag).sampling.num_envs_per_worker == max(2, 32 // cores)
    assert parsed("doom_basic", "--async_rl=False", cores_flag).sampling.num_envs_per_worker <= 32
    assert parsed("CartPole-v1").sampling.num_workers == 1


def derived_from(given: dict[Any, Any], *flags: str) -> SamplingConfig:
    """As if these were the defaults of this machine."""
    config = parsed("doom_basic", "--device=cpu")
    values = {**config_values(config), **given}
    values["run", "device"] = "gpu" if "--device=gpu" in flags else "auto"
    derive_defaults(values, {})
    fields = {name: value for (section, name), value in values.items() if section == "sampling"}
    return SamplingConfig(**fields)


def test_cheap_environments_run_in_one_process_unless_asked_otherwise() -> None:
    serial = parsed("CartPole-v1").sampling
    assert (serial.serial_mode, serial.async_rl, serial.num_workers, serial.worker_num_splits) == (
        True,
        False,
        1,
        1,
    )
    assert parsed("CartPole-v1", "--num_workers=2").sampling.serial_mode is False
    beside = parsed("CartPole-v1", "--async_rl=True").sampling
    assert (beside.serial_mode, beside.async_rl) == (True, True)
    assert parsed("CartPole-v1", "--async_rl=False").sampling.serial_mode is True


def test_serial_mode_turns_asynchrony_off_unless_asked_for() -> None:
    assert parsed("doom_basic", "--serial_mode=True").sampling.async_rl is False


def test_an_odd_number_of_environments_makes_one_split() -> None:
    assert parsed("doom_basic", "--num_envs_per_worker=1").sampling.worker_num_splits == 1
    assert parsed("doom_basic", "--num_envs_per_worker=4").sampling.worker_num_splits == 2


def test_who_takes_turns_with_learning_needs_one_split() -> None:
    assert parsed("doom_basic").sampling.worker_num_splits == 2
    assert parsed("doom_basic", "--async_rl=False").sampling.worker_num_splits == 1
    assert parsed("doom_basic", "--async_rl=False", "--worker_num_splits=2").sampling.worker_num_splits == 2


def test_recurrence_follows_the_core_and_the_rollout() -> None:
    assert parsed("doom_basic", "--rollout=64").rl.recurrence == 64
    assert parsed("doom_basic", "--use_rnn=False").rl.recurrence == 1
    assert parsed("doom_basic", "--use_rnn=False", "--recurrence=1").rl.rollout == 32


def test_the_default_batch_fits_the_rollout() -> None:
    assert parsed("doom_basic", "--rollout=24").rl.batch_size == 1008
    assert parsed("doom_basic", "--rollout=2000").rl.batch_size == 2000


def test_synchronous_training_needs_whole_rounds() -> None:
    topology = ("--async_rl=False", "--num_workers=2", "--num_envs_per_worker=6")
    config = parsed("doom_basic", *topology, "--batch_size=1024")
    (fault,) = check_batch_can_fill(config, num_agents=1)
    assert "whole rounds of 12" in fault
    assert "--batch_size=1152" in fault
    assert check_batch_can_fill(parsed("doom_basic", *topology, "--batch_size=1152"), num_agents=1) == []
    assert check_batch_can_fill(parsed("doom_basic", *topology[1:], "--batch_size=1024"), num_agents=1) == []


@pytest.mark.parametrize(
    "argv",
    [
        ("--batch_size=512",),
        ("--batch_size=2048",),
        ("--batch_size=4096", "--num_batches_per_iteration=2"),
        ("--num_envs_per_worker=6",),
        ("--num_envs_per_worker=48",),
        ("--num_envs_per_worker=7", "--num_batches_per_iteration=3"),
        ("--rollout=128",),
        ("--async_rl=False", "--num_workers=2"),
        ("--async_rl=False", "--num_workers=3", "--num_envs_per_worker=4"),
        ("--async_rl=False", "--num_workers=2", "--batch_size=640"),
    ],
)
def test_defaults_of_synchronous_training_come_out_even(argv: tuple[str, ...]) -> None:
    for env in ("CartPole-v1", "doom_basic"):
        serial = () if "--async_rl=False" in argv else ("--serial_mode=True",)
        config = parsed(env, *serial, *argv)
        assert check_batch_can_fill(config, num_agents=1) == []
        assert 2 <= config.sampling.num_envs_per_worker <= 48
