"""Names: who is meant, what is missing, and a user's own environment."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from sf_algo import App
from sf_algo.config import DoomConfig, EnvConfig, ModelConfig
from sf_algo.envs.factory import EnvSections, make_env
from sf_algo.envs.gymnasium_env import GymnasiumEnv
from sf_algo.envs.spec import EnvPlacement
from sf_algo.errors import ConfigError, EnvError, MissingDependencyError, SfAlgoError, UnknownEnvError
from sf_algo.model.actor_critic import make_actor_critic
from sf_algo.testing import CountingEnv

HERE = "tests.algo.test_env_factory"
SECTIONS = EnvSections()


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (None, ConfigError, "--env is missing"),
        ("CartPole-v7", UnknownEnvError, "did you mean CartPole-v1"),
        ("Cartpole-v1", UnknownEnvError, "did you mean CartPole-v1"),
        ("doom_batle", UnknownEnvError, "did you mean doom_battle"),
        ("mujoco_hoper", UnknownEnvError, "did you mean mujoco_hopper"),
        ("ALE/Nothing-v5", UnknownEnvError, "Atari games are called atari_<game>"),
        ("NothingNoFrameskip-v4", UnknownEnvError, "Atari games are called atari_<game>"),
        ("dmlab_30", MissingDependencyError, "build it from github.com/google-deepmind/lab as docs/dmlab.md says"),
        ("no_such.module:make", UnknownEnvError, "no module no_such"),
        ("no_such:Env-v0", UnknownEnvError, "no module no_such"),
        (f"{HERE}:make_broken_shap", UnknownEnvError, "did you mean make_broken_shape"),
        (f"{HERE}:make_number", EnvError, "returned a int"),
        (f"{HERE}:make_with_demands", EnvError, "requires level"),
    ],
)
def test_faults_are_one_line_that_helps(name: str | None, error: type[SfAlgoError], message: str) -> None:
    with pytest.raises(error) as caught:
        make_env(name, SECTIONS)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_leads_to_the_programs_own_environments() -> None:
    program = App(envs={"short_corridor": CountingEnv, "long_corridor": CountingEnv})
    with pytest.raises(UnknownEnvError) as caught:
        make_env("shot_corridor", EnvSections(additions=program))
    assert "did you mean short_corridor?" in str(caught.value)
    assert "this program has short_corridor, long_corridor" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("atari_pong", "ale_py", "atari"),
        ("mujoco_ant", "mujoco", "mujoco"),
        ("doom_basic", "vizdoom", "vizdoom"),
    ],
)
def test_a_missing_package_names_what_to_install(
    name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=f"pip install.*{extra}"):
        make_env(name, SECTIONS)


def make_number() -> int:
    return 3


def make_broken_shape() -> None: ...


def make_with_demands(level: str) -> None: ...


def make_own(*, placement: EnvPlacement) -> CountingEnv:
    return CountingEnv(env_index=placement.env_index)


def make_gym(env_cfg: EnvConfig, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    assert env_cfg.env_frameskip == 3
    return gymnasium.make("CartPole-v1", render_mode=render_mode)


def make_greedy(**everything: object) -> gymnasium.Env[Any, Any]:
    assert set(everything) == {"env_cfg", "placement", "render_mode", "training"}
    return gymnasium.make("CartPole-v1")


def test_a_users_environment_may_speak_our_protocol() -> None:
    env = make_env(f"{HERE}:make_own", SECTIONS, EnvPlacement(env_index=5))
    assert isinstance(env, CountingEnv)
    rows = env.spec.empty_rows()
    env.reset(rows)
    assert rows[0]["obs"].tolist() == [5, 0, 0, 0]


def test_a_users_environment_may_be_a_gymnasium_one() -> None:
    sections = EnvSections(env=EnvConfig(env_frameskip=3))
    env = make_env(f"{HERE}:make_gym", sections, EnvPlacement(render_mode="rgb_array"))
    assert isinstance(env, GymnasiumEnv)
    assert env.spec.frameskip == 3
    env.reset(env.spec.empty_rows())
    frame = env.render()
    assert frame is not None
    assert frame.shape[2] == 3
    env.close()
    make_env(f"{HERE}:make_greedy", SECTIONS).close()


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import a_module_that_is_not_there\n", "ModuleNotFoundError: No module named 'a_module_that_is_not_there'"),
        ("def make(:\n", "SyntaxError: invalid syntax"),
        ("def make():\n    raise RuntimeError('no licence')\n", "RuntimeError: no licence"),
    ],
)
def test_a_users_failing_code_is_one_line_and_its_traceback(
    source: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_env.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_env", raising=False)
    importlib.invalidate_caches()
    with pytest.raises(EnvError) as caught:
        make_env("broken_env:make", SECTIONS)
    monkeypatch.delitem(sys.modules, "broken_env", raising=False)
    line, _, details = str(caught.value).partition("\n")
    assert line == f"--env=broken_env:make: {what}; the traceback shows where"
    assert "broken_env.py" in details


def test_environments_import_no_torch_and_doom_no_gymnasium() -> None:
    code = (
        "import sys\n"
        "import sf_algo.envs.factory, sf_algo.envs.doom.make, sf_algo.speed.dummy_sampler.worker\n"
        "assert 'gymnasium' not in sys.modules\n"
        "import sf_algo.envs.gymnasium_env, sf_algo.envs.atari, sf_algo.envs.custom, sf_algo.run_algorithm\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_own_scenarios_are_found_by_name(tmp_path: Path) -> None:
    pytest.importorskip("vizdoom")
    (tmp_path / "maze.cfg").write_text(
        "doom_scenario_path = basic.wad\n"
        "available_buttons = { TURN_LEFT TURN_RIGHT MOVE_FORWARD ATTACK TURN_LEFT_RIGHT_DELTA }\n"
        "available_game_variables = { HEALTH }\n"
    )
    doom = DoomConfig(doom_scenarios_dir=str(tmp_path))
    env = make_env("doom_maze", EnvSections(doom=doom))
    assert [getattr(c, "n", None) for c in env.spec.actions.components] == [3, 2, 2, 11]
    with pytest.raises(UnknownEnvError, match="--doom_scenarios_dir"):
        make_env("doom_maze", SECTIONS)


def test_the_example_of_a_users_own_environment_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "docs" / "examples")
    env = make_env("my_env:make_env", SECTIONS)
    assert {name: spec.shape for name, spec in env.spec.obs.items()} == {
        "board": (3, 5, 5),
        "wanted": (2,),
        "action_mask": (4,),
    }
    rng = np.random.default_rng(0)
    rows = env.spec.empty_rows()
    env.reset(rows, seed=0)
    ends = 0
    for _ in range(100):  # the example asserts that no masked action is taken
        result = env.step(env.spec.sample_actions(rng, rows), rows)
        if result.episode is not None:
            assert "right" in result.episode
            ends += 1
            env.reset(rows)
    assert ends > 3
    model = make_actor_critic(ModelConfig(encoder_custom="my_env:make_encoder", hidden_size=32), env.spec)
    obs = {name: torch.as_tensor(array[None]) for name, array in rows[0].items()}
    out = model.act(obs, torch.zeros(1, model.rnn_state_size))
    assert out.values.shape == (1,)
