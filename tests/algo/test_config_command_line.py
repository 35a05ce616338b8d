"""Words of a command line -> values, and every fault at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sf_algo.config import Command, Config, parse_args
from sf_algo.errors import ConfigError

ENV = "--env=doom_basic"


def parsed(*argv: str) -> Config:
    return parse_args([ENV, *argv]).config


def faults(*argv: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as error:
        parse_args(list(argv))
    return error.value.faults


def test_both_spellings_of_a_value() -> None:
    assert parsed("--gamma=0.9").rl.gamma == 0.9
    assert parsed("--gamma", "0.9").rl.gamma == 0.9


@pytest.mark.parametrize("text", ["True", "true", "1", "yes"])
def test_true(text: str) -> None:
    assert parsed(f"--normalize_input={text}").rl.normalize_input is True


@pytest.mark.parametrize("text", ["False", "false", "0", "no"])
def test_false(text: str) -> None:
    assert parsed(f"--use_rnn={text}").model.use_rnn is False


def test_a_bare_boolean_is_true() -> None:
    assert parsed("--normalize_input", "--gamma=0.9").rl.normalize_input is True
    assert parsed("--gamma=0.9", "--normalize_input").rl.normalize_input is True


def test_lists() -> None:
    assert parsed("--with_wandb=True", "--wandb_tags", "a", "b", "c").wandb.wandb_tags == ("a", "b", "c")
    assert parsed("--encoder_mlp_layers=[64, 32]").model.encoder_mlp_layers == (64, 32)
    assert parsed("--encoder_mlp_layers", "64", "32").model.encoder_mlp_layers == (64, 32)
    assert parsed("--encoder_mlp_layers=64,32", "--gamma=0.9").model.encoder_mlp_layers == (64, 32)
    assert parsed("--wandb_tags").wandb.wandb_tags == ()


def test_none_and_negative_and_exponential_numbers() -> None:
    config = parsed("--seed=None", "--save_milestones_sec", "-1", "--train_for_env_steps=5e6")
    assert config.run.seed is None
    assert config.run.save_milestones_sec == -1
    assert config.run.train_for_env_steps == 5_000_000


def test_the_last_of_a_repeated_flag_wins() -> None:
    assert parsed("--ppo_epochs=1", "--ppo_epochs=3").rl.ppo_epochs == 3


def test_a_value_may_hold_blanks_and_equal_signs() -> None:
    assert parsed("--experiment=a b=c").run.experiment == "a b=c"


def test_synonyms() -> None:
    config = parsed(
        "--num_epochs=2",
        "--rnn_size=64",
        "--num_batches_per_epoch=3",
        "--encoder_conv_architecture=resnet_impala",
    )
    assert (config.rl.ppo_epochs, config.model.hidden_size) == (2, 64)
    assert config.rl.num_batches_per_iteration == 3
    assert config.model.encoder_subtype == "resnet_impala"
    assert parsed("--device=cuda").run.device == "gpu"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--gamm=0.9", "unknown flag --gamm; did you mean --gamma?"),
        ("--num-workers=3", "unknown flag --num-workers; did you mean --num_workers?"),
        ("--qqqqqqqqqqq=3", "unknown flag --qqqqqqqqqqq; --help lists all flags"),
        ("gamma=0.9", "'gamma=0.9' is not a flag: write --name=value, with quotes around blanks"),
        ("--gamma=1.5", "--gamma=1.5: must be at most 1 (it is a fraction)"),
        ("--gamma=nan", "--gamma=nan: must be a number, and a finite one"),
        ("--gamma=x", "--gamma=x: must be a number"),
        ("--gamma", "--gamma: a value is missing"),
        ("--rollout=2.5", "--rollout=2.5: must be a whole number"),
        ("--rollout=0", "--rollout=0: must be at least 1 (a trajectory has at least one step)"),
        ("--use_rnn=maybe", "--use_rnn=maybe: must be True or False"),
        ("--nonlinearity=relo", "--nonlinearity=relo: must be one of elu, relu, tanh; did you mean relu?"),
        ("--obs_scale=0", "--obs_scale=0: must be greater than 0 (it divides)"),
    ],
)
def test_faults(word: str, message: str) -> None:
    assert faults(ENV, word) == (message,)


def test_all_faults_are_reported_together() -> None:
    found = faults(
        "--env=CartPole-v1",
        "--gamma=2",
        "--fsp=3",
        "--num_bots=4",
        "--num_envs_per_worker=3",
        "--worker_num_splits=2",
        "--batch_size=1000",
        "--rollout=24",
        "--recurrence=7",
    )
    named = (
        "--gamma=2",
        "--fsp",
        "--num_bots",
        "--num_envs_per_worker=3",
        "--batch_size=1000",
        "--recurrence=7",
    )
    for flag in named:
        assert any(flag in fault for fault in found), flag
    assert len(found) == len(named)


def test_a_flag_that_was_not_understood_is_not_judged_by_its_default() -> None:
    assert faults(ENV, "--rollout=x", "--batch_size=48", "--recurrence=48") == ("--rollout=x: must be a whole number",)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--num_envs_per_worker=3", "--worker_num_splits=2"], "must be a multiple of the splits"),
        (["--recurrence=8"], "must be the rollout or 1"),
        (["--recurrence=1"], "a recurrent core learns nothing over time"),
        (["--batch_size=1000"], "use 992 or 1024"),
        (["--batch_size=8"], "use 32"),
        (["--experiment=../x"], "must be a plain folder name"),
        (["--experiment="], "must be a plain folder name"),
        (["--save_milestones_sec=-3"], "-1 for none"),
        (["--encoder_type=mlp", "--encoder_subtype=convnet_simple"], "belongs to encoder_type=conv"),
        (["--encoder_custom=mine"], "write package.module:make_encoder"),
        (["--encoder_mlp_layers", "64", "0"], "every width must be at least 1"),
        (["--lr_adaptive_min=1"], "must not exceed the largest"),
        (["--pbt_perturb_min=2"], "must not exceed the largest"),
    ],
)
def test_cross_checks(argv: list[str], expected: str) -> None:
    (fault,) = faults(ENV, *argv)
    assert expected in fault


def test_an_environment_is_needed() -> None:
    (fault,) = faults("--gamma=0.9")
    assert fault.startswith("--env is missing")


@pytest.mark.parametrize("env", ["CartPole-v1", "my_pkg.envs:make"])
def test_flags_of_another_family_are_refused(env: str) -> None:
    assert faults(f"--env={env}", "--wide_aspect_ratio=False") == (
        f"--wide_aspect_ratio is a flag of doom_* environments; --env={env} does not know it: remove it",
    )


def test_a_name_shared_by_two_families_means_each_one() -> None:
    assert parsed("--res_w=160").doom.res_w == 160
    assert parse_args(["--env=dmlab_30", "--res_w=160"]).config.dmlab.res_w == 160
    assert (parsed().doom.res_w, parsed().dmlab.res_w) == (128, 96)


def test_flags_without_effect_are_told() -> None:
    notes = parse_args([ENV, "--max_num_episodes=3", "--pbt_mutation_rate=0.2", "--wandb_tags", "a"]).notes
    assert notes == (
        "no effect in this command: --max_num_episodes",
        "no effect without --with_pbt=True: --pbt_mutation_rate",
        "no effect without --with_wandb=True: --wandb_tags",
    )
    assert parse_args([ENV, "--with_wandb=True", "--wandb_tags", "a"]).notes == ()
    sampler = parse_args([ENV, "--algo=DUMMY_SAMPLER", "--sample_env_frames=1"], Command.RUN_ALGORITHM)
    assert sampler.notes == ()


def test_flags_that_do_nothing_any_more_are_told() -> None:
    assert parse_args([ENV, "--policy_workers_per_policy=2"]).notes == (
        "--policy_workers_per_policy has no effect: one batched pass serves all requests of a policy",
    )
    assert parse_args([ENV, "--policy_workers_per_policy=1"]).notes == ()


def test_the_dummy_sampler_is_not_trained() -> None:
    (fault,) = faults(ENV, "--algo=DUMMY_SAMPLER")
    assert fault == "--algo=DUMMY_SAMPLER: start it with python -m sf_algo.run_algorithm"


def test_a_limit_below_one_iteration_is_told() -> None:
    (note,) = parse_args([ENV, "--train_for_env_steps=1000"]).notes
    assert "less than one iteration of 1024 samples" in note
    assert parse_args([ENV, "--train_for_env_steps=1024"]).notes == ()


def test_configuration_imports_neither_torch_nor_numpy() -> None:
    check = "import sys, sf_algo.config; assert not {'torch', 'numpy', 'gymnasium'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)
