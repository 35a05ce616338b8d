"""Projects written for Sample Factory train here after their import prefixes were replaced."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from sf_algo.compat.sample_factory.algo.learning.learner import Learner
from sf_algo.compat.sample_factory.algo.utils.context import reset_global_context
from sf_algo.compat.sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args
from sf_algo.compat.sample_factory.envs.create_env import create_env
from sf_algo.compat.sample_factory.envs.registered import _adapted
from sf_algo.compat.sample_factory.model.actor_critic import create_actor_critic
from sf_algo.compat.sample_factory.utils.attr_dict import AttrDict
from sf_algo.compat.sample_factory.utils.utils import str2bool
from sf_algo.envs.agent_lists import AgentLists
from sf_algo.errors import SfAlgoError, UnknownEnvError
from tests.algo.moved_project import train
from tests.algo.training_command import TrainingCommand

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    reset_global_context()
    train.register()
    yield
    reset_global_context()


def parsed(*words: str, evaluation: bool = False) -> Any:
    return train.parse(["--env=flock", *words], evaluation)


def test_the_configuration_is_flat_typed_and_knows_both_names() -> None:
    cfg = parsed("--flock_speed=2", "--flock_wind", "--flock_sizes", "5", "6", "--num_epochs=2", "--flock_table={1: 2}")
    assert (cfg.flock_speed, cfg.flock_wind, cfg.flock_sizes, cfg.flock_table) == (2.0, True, [5, 6], {1: 2})
    assert (cfg.flock_num_agents, cfg.flock_mode, cfg.flock_verbose) == (2, "calm", False)
    assert (cfg.num_epochs, cfg.ppo_epochs) == (2, 2)
    assert (cfg.rnn_size, cfg.hidden_size, cfg.env_frameskip, cfg.use_rnn) == (32, 32, 2, False)
    # Values that our flags do not know are kept for the project.
    assert (cfg.no_such_flag, cfg.encoder_subtype) == (7, "auto")


def test_partial_configuration_before_the_projects_own_flags() -> None:
    _, partial = parse_sf_args(["--env=flock", "--flock_wind=True", "--num_workers=3"])
    assert (partial.env, partial.num_workers, partial.experiment) == ("flock", 3, "default_experiment")


def test_what_a_program_changes_reaches_the_trainer() -> None:
    cfg = parsed("--num_workers=1")
    cfg.num_workers = 2
    cfg.flock_sizes = [7]
    assert cfg.words() == ["--env=flock", "--num_workers=1", "--num_workers=2", "--flock_sizes", "7"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--flock_mode=stormy"], "--flock_mode=stormy: must be one of calm, wild"),
        (["--flock_mod=calm"], "unknown flag --flock_mod; did you mean --flock_mode?"),
        (["--optimizer=lamb"], "--optimizer=lamb: must be one of adam"),
    ],
)
def test_faults_are_one_line(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(*words)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: {line}\n"


def test_arguments_without_a_counterpart_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    for option, more in (("--quiet", {"action": "store_false"}), ("-x", {"dest": "exact"})):
        parser, _ = parse_sf_args(["--env=flock"])
        parser.add_argument(option, **more)  # type: ignore[arg-type]
        with pytest.raises(SystemExit):
            parse_full_cfg(parser, ["--env=flock"])
    told = capsys.readouterr().err.splitlines()
    assert "declare it with type=str2bool" in told[0]
    assert "has to be called --exact" in told[1]


def test_help_lists_the_projects_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed("--help")
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "--flock_num_agents" in out
    assert "100% is 1" in out


def test_environments_without_a_training() -> None:
    env = create_env("flock", cfg=parsed())
    obs, _ = env.reset()
    assert len(obs) == 2
    with pytest.raises(UnknownEnvError, match="this program has registered flock"):
        create_env("herd")


class Counted(gymnasium.Env[Any, Any]):
    """As Godot's wrapper is: it counts its agents, and says nothing of lists."""

    observation_space, action_space = gymnasium.spaces.Discrete(3), gymnasium.spaces.Discrete(2)
    num_agents = 2


@pytest.mark.parametrize(("says", "agents"), [({}, 2), ({"is_multiagent": False}, 1), ({"num_agents": 1}, 1)])
def test_environments_that_only_count_their_agents_have_lists_of_them(says: dict[str, Any], agents: int) -> None:
    parsed()
    env = Counted()
    vars(env).update(says)
    adapted = _adapted(env)
    assert (adapted.spec.num_agents, adapted.spec.frameskip) == (agents, 2)
    assert isinstance(adapted, AgentLists) is (agents == 2)


def test_what_is_left_out_says_so() -> None:
    with pytest.raises(SfAlgoError, match="load_policy"):
        create_actor_critic(None, None, None)
    with pytest.raises(SfAlgoError, match="is not in the compatibility module"):
        Learner()


def test_small_things() -> None:
    assert [str2bool(word) for word in ("True", "f", "yes", "0", True)] == [True, False, True, False, True]
    with pytest.raises(ValueError, match="no truth value"):
        str2bool("perhaps")
    attributes = AttrDict(a=1)
    attributes.b = 2
    assert (attributes.a, attributes["b"], hasattr(attributes, "c")) == (1, 2, False)


def run(*words: str, module: str = "train") -> str:
    with TrainingCommand(
        *words, program=("-m", f"tests.algo.moved_project.{module}"), env={"PYTHONPATH": str(ROOT)}
    ) as command:
        assert command.finish(120) == 0, command.text
    return command.text


TRAIN = ("--env=flock", "--experiment=moved", "--num_workers=2", "--num_envs_per_worker=4", "--batch_size=128")
TRAIN += ("--flock_num_agents=3", "--device=cpu", "--rollout=16", "--decorrelate_experience_max_seconds=0")


def test_a_moved_project_trains_resumes_and_is_watched(tmp_path: Path) -> None:
    run(*TRAIN, "--train_for_env_steps=4000")
    stored = json.loads((tmp_path / "train_dir/moved/cfg.json").read_text())
    assert stored["config"]["project"]["flock_num_agents"] == 3
    out = run("--env=flock", "--experiment=moved", "--train_for_env_steps=8000", "--device=cpu")
    assert "end of training: train_for_env_steps is reached" in out
    results = json.loads((tmp_path / "train_dir/moved/results.json").read_text())
    # Frames seen by wrappers are those of the training, frame skip included.
    assert "steps_seen" in json.dumps(results)
    out = run("--experiment=moved", "--no_render", "--max_num_episodes=6", "--device=cpu", module="enjoy")
    assert "reward" in out


def test_observers_of_a_moved_project_follow_it(tmp_path: Path) -> None:
    out = run(*TRAIN, "--train_for_env_steps=4000", "--flock_verbose", "--experiment_summaries_interval=0.5")
    assert "observer: start" in out
    assert re.search(r"observer: [1-9]\d* iterations, [34]\d\d\d frames", out)
    (events,) = (tmp_path / "train_dir/moved/.summary/0").glob("events*")
    assert b"flock/steps_seen" in events.read_bytes()
