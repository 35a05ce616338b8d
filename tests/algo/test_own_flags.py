"""Parameters of an environment's maker, and own sections, are flags like any other."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sf_algo.config import Command, Config, configure, parse_args, save_config
from sf_algo.config.entry import run_command
from sf_algo.config.flag import flag
from sf_algo.config.help import help_text
from sf_algo.config.store import config_from_dict, config_to_dict
from sf_algo.envs.factory import EnvSections, make_env
from sf_algo.errors import ConfigError, EnvError, UnknownEnvError
from sf_algo.own.additions import NOTHING_ADDED, Additions
from sf_algo.speed.tune import trial_words
from sf_runner.run_description import Experiment, ParamGrid, RunDescription

MODULE = """
from __future__ import annotations
from typing import Annotated, Literal
from sf_algo import testing

made = []

def make_env(
    placement,
    delay: Annotated[int, "blank steps before the question"] = 4,
    speed: float = 1,
    *,
    noisy=False,
    kind: Literal["plain", "odd"] = "plain",
    name: str | None = None,
    sizes=(1, 2),
    seed=0,
    env_cfg=None,
    helper=object(),
    _private=3,
):
    made.append(dict(delay=delay, speed=speed, noisy=noisy, kind=kind, name=name, sizes=sizes, seed=seed))
    return testing.MemoryEnv(delay=delay)

def make_anything(**given):
    made.append(given)
    return testing.MemoryEnv()

def make_needing(what, delay=3):
    pass
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "blinking.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "blinking"
    del sys.modules["blinking"]


def parsed(*argv: str, program: Additions = NOTHING_ADDED) -> Config:
    return parse_args(argv, program=program).config


def faults(*argv: str, program: Additions = NOTHING_ADDED) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as error:
        parse_args(argv, program=program)
    return error.value.faults


def made_with(config: Config) -> dict[str, Any]:
    """What the module's maker was called with."""
    make_env(config.run.env, EnvSections.of(config, NOTHING_ADDED)).close()
    last: dict[str, Any] = sys.modules["blinking"].made[-1]
    return last


def test_parameters_with_defaults_are_flags(module: str) -> None:
    env = f"--env={module}:make_env"
    assert made_with(parsed(env)) == {
        "delay": 4,
        "speed": 1.0,
        "noisy": False,
        "kind": "plain",
        "name": None,
        "sizes": (1, 2),
        "seed": 0,
    }
    typed = ("--delay=7", "--speed", "2", "--noisy", "--kind=odd", "--name=x", "--sizes", "3", "4", "--env.seed=5")
    assert made_with(parsed(env, *typed)) == {
        "delay": 7,
        "speed": 2.0,
        "noisy": True,
        "kind": "odd",
        "name": "x",
        "sizes": (3, 4),
        "seed": 5,
    }
    assert made_with(parsed(env, "--env.delay=3"))["delay"] == 3


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--delay=x", "--delay=x: must be a whole number"),
        ("--kind=od", "--kind=od: must be one of plain, odd; did you mean odd?"),
        ("--dela=3", "unknown flag --dela; did you mean --delay?"),
        ("--helper=3", "unknown flag --helper; --help lists all flags"),
        (
            "--env.dela=3",
            "unknown flag --env.dela: the environment has no such parameter; did you mean --env.delay?",
        ),
    ],
)
def test_what_no_parameter_can_be(module: str, word: str, message: str) -> None:
    assert faults(f"--env={module}:make_env", word) == (message,)


def test_a_parameter_that_is_called_like_a_flag_of_the_trainer(module: str) -> None:
    env = f"--env={module}:make_env"
    invocation = parse_args([env, "--seed=9"], program=NOTHING_ADDED)
    assert (invocation.config.run.seed, invocation.config.env_args["seed"]) == (9, 0)
    assert invocation.notes == (
        "--seed is the trainer's flag; the environment has a parameter of that name, which is --env.seed",
    )
    assert parse_args([env, "--seed=9", "--env.seed=1"], program=NOTHING_ADDED).notes == ()


def test_a_maker_that_takes_anything(module: str) -> None:
    config = parsed(f"--env={module}:make_anything", "--env.size=3", "--env.on", "--env.names=['a','b']", "--env.t=x=y")
    given = made_with(config)
    assert {name: given[name] for name in ("size", "on", "names", "t")} == {
        "size": 3,
        "on": True,
        "names": ("a", "b"),
        "t": "x=y",
    }
    assert faults(f"--env={module}:make_anything", "--size=3") == (
        "unknown flag --size; a parameter of the environment is written --env.size",
    )


def test_a_maker_that_needs_what_nobody_gives(module: str) -> None:
    config = parsed(f"--env={module}:make_needing")
    with pytest.raises(EnvError, match="requires what, but is only ever called with"):
        make_env(config.run.env, EnvSections.of(config, NOTHING_ADDED))


def test_a_module_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnknownEnvError, match="there is no module nowhere_at_all"):
        parsed("--env=nowhere_at_all:make")
    assert run_command(Command.TRAIN, lambda _: 0, ["--env=nowhere_at_all:make", "--help"], NOTHING_ADDED) == 2
    assert capsys.readouterr().err.startswith("error: --env=nowhere_at_all:make: there is no module")


def test_parameters_of_a_registered_environment() -> None:
    config = parsed("--env=FrozenLake-v1", "--env.is_slippery=False", "--env.map_name=8x8", "--env.max_episode_steps=7")
    assert (config.env_args["is_slippery"], config.env_args["map_name"]) == (False, "8x8")
    env = make_env(config.run.env, EnvSections.of(config, NOTHING_ADDED))
    assert env.spec.obs["obs"].shape == (64,)
    env.close()
    assert parsed("--env=FrozenLake-v1").env_args == {}
    needless = faults("--env=FrozenLake-v1", "--is_slippery=False", "--env.map_name=8x8")
    assert needless == ("unknown flag --is_slippery; a parameter of the environment is written --env.is_slippery",)
    assert "did you mean --env.is_slippery?" in faults("--env=FrozenLake-v1", "--env.is_slipery=False")[0]
    assert "--env.is_slippery=1.5" in faults("--env=FrozenLake-v1", "--env.is_slippery=1.5")[0]


def test_a_value_that_a_registered_environment_refuses_is_one_line() -> None:
    config = parsed("--env=FrozenLake-v1", "--env.map_name=3x3")
    with pytest.raises(EnvError, match=r"--env=FrozenLake-v1 with .*--env.map_name=3x3.*: KeyError"):
        make_env(config.run.env, EnvSections.of(config, NOTHING_ADDED))


def test_help_shows_them(module: str) -> None:
    text = help_text(Command.TRAIN, f"{module}:make_env", program=NOTHING_ADDED, width=100)
    assert "Parameters of blinking:make_env:\n  --delay N\n      blank steps before the question (default: 4)" in text
    assert "--env.seed N" in text
    assert "--helper" not in text
    lake = help_text(Command.TRAIN, "FrozenLake-v1", program=NOTHING_ADDED)
    assert "--env.is_slippery True|False\n      (default: True)" in lake
    assert "--delay" not in help_text(Command.TRAIN, None, program=NOTHING_ADDED)


def test_they_are_stored_and_taken_over(module: str, tmp_path: Path) -> None:
    places = (f"--train_dir={tmp_path}", "--experiment=e")
    config = parsed(f"--env={module}:make_env", *places, "--delay=7", "--sizes", "5")
    save_config(config, tmp_path / "e")
    again = configure(places, program=NOTHING_ADDED)
    assert again.config == config
    assert made_with(again.config)["delay"] == 7
    changed = configure([*places, "--delay=8"], program=NOTHING_ADDED)
    assert changed.notes == ("changed against the stored configuration: --delay 7 -> 8",)
    watched = configure([*places, "--no_render", "--delay=9"], Command.ENJOY, NOTHING_ADDED)
    assert watched.config.env_args["delay"] == 9


def test_a_maker_may_change(module: str, tmp_path: Path) -> None:
    places = (f"--train_dir={tmp_path}", "--experiment=e")
    save_config(parsed(f"--env={module}:make_env", *places, "--delay=7"), tmp_path / "e")
    path = tmp_path / "e" / "cfg.json"
    document = json.loads(path.read_text())
    document["config"]["env_args"]["old"] = 1
    del document["config"]["env_args"]["speed"]
    path.write_text(json.dumps(document))
    again = configure(places, program=NOTHING_ADDED)
    assert again.config.env_args["speed"] == 1.0
    assert "old" not in again.config.env_args
    assert again.notes == (f"{path}: env_args.old=1 is left out, because there is no such parameter any more",)


def test_a_trial_of_another_way_to_spread_the_training_has_them(module: str) -> None:
    words = trial_words(parse_args([f"--env={module}:make_env", "--delay=7"], program=NOTHING_ADDED), {})
    assert words[words.index("--env.delay") + 1] == "7"


@dataclass(frozen=True, kw_only=True)
class Swarm:
    """The swarm."""

    num_agents: int = flag(8, "drones per environment", at_least=1)
    anneal: float = 0.0
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Clashing:
    gamma: float = 0.5
    ppo_epochs: int = 3


@dataclass(frozen=True, kw_only=True)
class Unsayable:
    what: Any = None


def test_own_sections_are_flags() -> None:
    program = Additions(sections={"swarm": Swarm}, envs={"doom_like": lambda name, swarm: None})
    config = parsed("--env=doom_like", "--num_agents=3", "--targets", "a", "b", program=program)
    assert config.own["swarm"] == Swarm(num_agents=3, targets=("a", "b"))
    assert config.doom.num_agents == -1  # a flag of that name means nothing to an environment of one's own
    assert (
        config_from_dict(json.loads(json.dumps(config_to_dict(config))), program.facts(config_to_dict(config)))
        == config
    )
    (fault,) = faults("--env=doom_like", "--num_agents=0", program=program)
    assert fault == "--num_agents=0: must be at least 1"
    text = help_text(Command.TRAIN, "doom_like", program=program)
    assert "The swarm:\n  --num_agents N\n      drones per environment (default: 8)" in text


def test_own_sections_that_cannot_be() -> None:
    assert faults("--env=CartPole-v1", program=Additions("my.app:app", sections={"c": Clashing})) == (
        "my.app:app: --gamma of its section 'c' is a flag of the trainer already; choose another name",
        "my.app:app: --ppo_epochs of its section 'c' is a flag of the trainer already; choose another name",
    )
    for name in ("rl", "training", "no name"):
        (fault,) = faults("--env=CartPole-v1", program=Additions(sections={name: Swarm}))
        assert f"section '{name}' needs another name" in fault
    (fault,) = faults("--env=CartPole-v1", program=Additions(sections={"u": Unsayable}))
    assert "Unsayable.what: a flag is a truth value, a number" in fault
    (fault, *_) = faults("--env=CartPole-v1", program=Additions(sections={"a": Swarm, "b": Swarm}))
    assert fault == "this program: --num_agents is in two of its sections, 'a' and 'b'"


def test_defaults_of_a_program_lie_under_what_is_typed() -> None:
    program = Additions(
        envs={"maze": lambda: None},
        sections={"swarm": Swarm},
        defaults=lambda env: {"hidden_size": 32, "gamma": 1, "anneal": 5} if env == "maze" else {},
    )
    config = parsed("--env=maze", program=program)
    assert (config.model.hidden_size, config.rl.gamma, config.own["swarm"].anneal) == (32, 1.0, 5.0)
    fitted = Additions(defaults={"rollout": 8, "batch_size": 48, "num_envs_per_worker": 6})
    serial = parsed("--env=CartPole-v1", program=fitted)
    assert (serial.rl.batch_size, serial.sampling.num_envs_per_worker) == (48, 6)
    assert parsed("--env=maze", "--hidden_size=8", program=program).model.hidden_size == 8
    assert parsed("--env=CartPole-v1", program=program).rl.gamma == 0.99
    wrong = Additions("my.app:app", defaults={"hiden_size": 32, "use_rnn": "no"})
    assert faults("--env=CartPole-v1", program=wrong) == (
        "my.app:app: its default hiden_size=32 for --env=CartPole-v1 names no flag; did you mean hidden_size?",
        "my.app:app: its default use_rnn='no' for --env=CartPole-v1 must be True or False",
    )


def test_they_are_parameters_of_grids() -> None:
    """The runner writes them as the trainer reads them."""
    grid = ParamGrid([("env.is_slippery", [True, False]), ("env.map_name", ["8x8"])])
    command = "python -m sf_algo.train_appo --env=FrozenLake-v1"
    description = RunDescription("study", [Experiment("lake", command, grid.generate_params(randomize=False))])
    found = [
        parsed(*shlex.split(command)[3:]).env_args for command, *_ in description.generate_experiments("train_dir")
    ]
    assert [(args["is_slippery"], args["map_name"]) for args in found] == [(True, "8x8"), (False, "8x8")]
