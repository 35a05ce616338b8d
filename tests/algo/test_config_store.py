"""cfg.json, and the command line winning over it on resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sf_algo.config import (
    Command,
    Config,
    config_from_dict,
    config_to_dict,
    configure,
    parse_args,
    save_config,
)
from sf_algo.config.store import FORMAT_VERSION, load_stored_values
from sf_algo.errors import ConfigError, StorageError


def argv(folder: Path, *more: str) -> list[str]:
    return [f"--train_dir={folder}", "--experiment=e", *more]


def stored(folder: Path, *more: str) -> Config:
    """Saves the configuration of an experiment as a training would; returns it."""
    config = parse_args(argv(folder, *more)).config
    save_config(config, config.run.experiment_dir)
    return config


def edit(folder: Path, change: dict[str, Any]) -> Path:
    """Changes sections of the stored configuration; a value of ... removes the entry."""
    path = folder / "e" / "cfg.json"
    document = json.loads(path.read_text())
    for section, flags in change.items():
        for name, value in flags.items():
            if value is ...:
                del document["config"][section][name]
            else:
                document["config"].setdefault(section, {})[name] = value
    path.write_text(json.dumps(document))
    return path


def test_round_trip(tmp_path: Path) -> None:
    config = stored(tmp_path, "--env=doom_basic", "--seed=3", "--wandb_tags", "a", "b", "--decoder_mlp_layers=64")
    again = configure(argv(tmp_path)).config
    assert again == config
    assert configure(argv(tmp_path)).resumed


def test_a_typed_flag_wins_and_is_told(tmp_path: Path) -> None:
    stored(tmp_path, "--env=doom_basic", "--learning_rate=0.01", "--gamma=0.9")
    again = configure(argv(tmp_path, "--learning_rate=0.02"))
    assert (again.config.rl.learning_rate, again.config.rl.gamma) == (0.02, 0.9)
    assert again.notes == ("changed against the stored configuration: --learning_rate 0.01 -> 0.02",)


@pytest.mark.parametrize("behavior", ["restart", "overwrite"])
def test_a_new_beginning_ignores_what_is_stored(tmp_path: Path, behavior: str) -> None:
    stored(tmp_path, "--env=doom_basic", "--gamma=0.9")
    again = configure(argv(tmp_path, "--env=doom_basic", f"--restart_behavior={behavior}"))
    assert again.config.rl.gamma == 0.99
    assert not again.resumed


def test_an_experiment_that_was_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(tmp_path / "old", "--env=doom_basic", "--gamma=0.9")
    (tmp_path / "old").rename(tmp_path / "train_dir")
    monkeypatch.chdir(tmp_path)
    again = configure(["--experiment=e"])
    assert again.config.rl.gamma == 0.9
    assert str(again.config.run.experiment_dir) == "train_dir/e"
    assert again.notes == ()


def test_wishes_for_one_start_are_not_repeated(tmp_path: Path) -> None:
    """Or a training that was once restarted would be restarted by every resume."""
    stored(tmp_path, "--env=doom_basic", "--restart_behavior=overwrite", "--load_checkpoint_kind=best")
    again = configure(argv(tmp_path)).config
    assert (again.run.restart_behavior, again.run.load_checkpoint_kind) == ("resume", "latest")


def test_watching_needs_an_experiment(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no experiment there; check --train_dir"):
        configure(argv(tmp_path, "--env=doom_basic"), Command.ENJOY)
    stored(tmp_path, "--env=doom_basic", "--hidden_size=32")
    watched = configure(argv(tmp_path, "--no_render"), Command.ENJOY).config
    assert (watched.model.hidden_size, watched.evaluation.fps, watched.evaluation.no_render) == (32, 35, True)


def test_an_environment_of_another_family_is_refused(tmp_path: Path) -> None:
    stored(tmp_path, "--env=doom_battle")
    assert configure(argv(tmp_path, "--env=doom_battle2")).config.run.env == "doom_battle2"
    with pytest.raises(ConfigError, match="was trained on doom_battle"):
        configure(argv(tmp_path, "--env=CartPole-v1"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rl": {"gama": 1}}, "unknown entry rl.gama; did you mean gamma?"),
        ({"rl": {"gamma": ...}}, "entry rl.gamma is missing"),
        ({"rl": {"gamma": "0.9"}}, 'rl.gamma is "0.9", but must be a number'),
        ({"rl": {"rollout": 1.5}}, "rl.rollout is 1.5, but must be a whole number"),
        ({"model": {"use_rnn": 1}}, "model.use_rnn is 1, but must be True or False"),
        ({"model": {"rnn_type": "rnn"}}, 'model.rnn_type is "rnn", but must be one of gru, lstm'),
        ({"wandb": {"wandb_tags": "a"}}, 'wandb.wandb_tags is "a", but must be a list (a text each)'),
        ({"other": {"x": 1}}, "unknown entry other.x; it is of a program of your own: start that instead"),
    ],
)
def test_a_file_that_is_not_quite_right(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    stored(tmp_path, "--env=doom_basic")
    path = edit(tmp_path, change)
    with pytest.raises(ConfigError) as error:
        configure(argv(tmp_path))
    assert error.value.faults == (f"{path}: {message}",)


def test_all_faults_of_a_file_together(tmp_path: Path) -> None:
    stored(tmp_path, "--env=doom_basic")
    edit(tmp_path, {"rl": {"gamma": ..., "rollout": "x"}, "run": {"sed": 1}})
    with pytest.raises(ConfigError) as error:
        configure(argv(tmp_path))
    assert len(error.value.faults) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "is not a configuration of this trainer"),
        ('{"version": 1, "config": {"rl": 3}}', "is not a configuration of this trainer"),
        (json.dumps({"version": FORMAT_VERSION + 1, "config": {}}), "update this package"),
    ],
)
def test_a_file_that_is_something_else(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "cfg.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_stored_values(path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "e").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="cannot write configuration"):
        stored(tmp_path, "--env=doom_basic")


def test_between_processes() -> None:
    config = parse_args(["--env=doom_basic", "--decoder_mlp_layers", "8", "--max_num_episodes=3"]).config
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config
