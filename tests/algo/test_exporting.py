"""Exported policies act as the policies do: every kind of network and action, rows of any number, and a whole game."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sf_algo import export
from sf_algo.config import ModelConfig
from sf_algo.envs.spec import ActionSpec, Box, Discrete, EnvSpec, ObsSpec
from sf_algo.exporting.check import OnnxPolicy, compare
from sf_algo.exporting.form import METADATA, PolicyForm
from sf_algo.exporting.onnx_file import PolicyGraph, export_onnx
from sf_algo.model.actor import Actor
from sf_algo.model.actor_critic import ActorCritic, make_actor_critic
from sf_algo.testing import MemoryEnv

pytest.importorskip("onnxscript", reason="needs the packages of the extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the packages of the extra onnx")

ROOT = Path(__file__).parent.parent.parent
IMAGE = ObsSpec(shape=(3, 36, 64), dtype=np.dtype(np.uint8))
VECTOR = ObsSpec(shape=(5,), dtype=np.dtype(np.float32))
MASK = ObsSpec(shape=(7,), dtype=np.dtype(np.int8))
BOX = Box((-2.0, -1.0), (2.0, float("inf")))

Case = tuple[dict[str, ObsSpec], ActionSpec, dict[str, Any], dict[str, Any]]
CASES: dict[str, Case] = {
    "gru_mask_tuple": (
        {"obs": VECTOR, "action_mask": MASK},
        ActionSpec((Discrete(3), BOX, Discrete(4))),
        {"use_rnn": True, "hidden_size": 16},
        {"normalize_input": True, "normalize_returns": True},
    ),
    "conv_gru": (
        {"obs": IMAGE, "measurements": VECTOR},
        ActionSpec((Discrete(3), Discrete(4))),
        {"use_rnn": True, "hidden_size": 64, "encoder_subtype": "convnet_impala"},
        {"obs_scale": 255.0},
    ),
    "lstm": (
        {"obs": VECTOR},
        ActionSpec((Discrete(7),)),
        {"use_rnn": True, "rnn_type": "lstm", "rnn_num_layers": 2, "hidden_size": 32},
        {"normalize_input": True},
    ),
    "perceptrons_box": (
        {"obs": VECTOR},
        ActionSpec((BOX,)),
        {"use_rnn": False, "hidden_size": 32, "actor_critic_share_weights": False},
        {"normalize_input": True, "normalize_returns": True},
    ),
    "resnet_adaptive": (
        {"obs": IMAGE},
        ActionSpec((Discrete(3), BOX)),
        {"use_rnn": True, "hidden_size": 32, "adaptive_stddev": True, "encoder_type": "resnet"},
        {"obs_scale": 255.0, "obs_subtract_mean": 10.0},
    ),
}  # fmt: skip


def rows_of(spec: ObsSpec, rng: np.random.Generator, rows: int) -> Any:
    if spec.dtype == np.float32:
        return rng.normal(size=(rows, *spec.shape)).astype(np.float32)
    return rng.integers(0, 2 if spec.dtype == np.int8 else 256, (rows, *spec.shape)).astype(spec.dtype)


def model_of(name: str) -> tuple[ActorCritic, PolicyForm]:
    """A network whose normalizers have seen something."""
    obs, actions, model_cfg, learner_cfg = CASES[name]
    spec = EnvSpec(obs=obs, actions=actions)
    model = make_actor_critic(ModelConfig(**model_cfg), spec, seed=1, **learner_cfg)
    rng = np.random.default_rng(1)
    for module in model.modules():
        if type(module).__name__ == "RunningMeanStd":
            shape = tuple(module.mean.shape)  # type: ignore[union-attr, arg-type]
            module.update(torch.from_numpy(3.0 + 2.0 * rng.normal(size=(50, *shape))))  # type: ignore[operator]
    return model, PolicyForm(spec=spec, state_size=model.rnn_state_size)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if number else []) for number, name in enumerate(CASES)]
)
def test_every_kind_of_network(name: str, tmp_path: Path) -> None:
    model, form = model_of(name)
    path = tmp_path / "policy.onnx"
    export_onnx(model, form, path, env="e")
    exported, rng = OnnxPolicy(path, form), np.random.default_rng(2)
    actor = Actor(model, seed=0, deterministic=True)
    for rows in (1, 4, 300):
        obs = {n: rows_of(s, rng, rows) for n, s in form.spec.obs.items()}
        state = rng.normal(size=(rows, form.state_size)).astype(np.float32)
        silent = np.zeros((rows, form.noise_size), np.float32)
        actions, values, states = exported.step(obs, silent, state)
        tensors = {n: torch.from_numpy(x) for n, x in obs.items()}
        acted = actor.step(tensors, torch.from_numpy(state))
        assert np.abs(values - acted.values.numpy()).max() < 1e-4
        assert states == pytest.approx(acted.rnn_states.numpy(), abs=1e-5)
        assert actions == pytest.approx(acted.actions.numpy(), abs=1e-4)
        noise = form.noise(rng, rows)
        drawn, _, _ = exported.step(obs, noise, state)
        given = [*tensors.values(), torch.from_numpy(noise)] + [torch.from_numpy(state)] * bool(form.state_size)
        with torch.no_grad():
            wanted = PolicyGraph(model, form)(*given)[0].numpy()
        assert drawn == pytest.approx(wanted, abs=1e-4)


def test_noise_draws_as_the_policy_does() -> None:
    """Frequencies of choices, mean and spread of numbers: 20,000 draws each way, for one observation."""
    model, form = model_of("gru_mask_tuple")
    rows, rng = 20_000, np.random.default_rng(0)
    obs = {"obs": torch.zeros(rows, 5), "action_mask": torch.tensor([[1, 0, 1, 1, 1, 1, 0]]).expand(rows, -1)}
    state = torch.zeros(rows, form.state_size)
    with torch.no_grad():
        drawn = PolicyGraph(model, form)(*obs.values(), torch.from_numpy(form.noise(rng, rows)), state)[0].numpy()
    sampled = Actor(model, seed=0).step(obs, state).actions.numpy()
    for column, choices in ((0, 3), (3, 4)):
        shares = [np.bincount(one[:, column].astype(int), minlength=choices) / rows for one in (drawn, sampled)]
        assert shares[0] == pytest.approx(shares[1], abs=0.02)
    assert set(drawn[:, 0]) == {0.0, 2.0}, "what the mask forbids is never drawn"
    for column in (1, 2):
        assert drawn[:, column].mean() == pytest.approx(sampled[:, column].mean(), abs=0.05)
        assert drawn[:, column].std() == pytest.approx(sampled[:, column].std(), rel=0.03)


def test_a_policy_that_acts_otherwise_is_found_out(tmp_path: Path) -> None:
    env = MemoryEnv()
    cfg = ModelConfig(use_rnn=True, hidden_size=8)
    models = [make_actor_critic(cfg, env.spec, seed=seed) for seed in (1, 2)]
    form = PolicyForm(spec=env.spec, state_size=models[0].rnn_state_size)
    export_onnx(models[0], form, tmp_path / "policy.onnx")
    assert compare(tmp_path / "policy.onnx", form, models[0], env, steps=200, seed=0).is_same
    assert not compare(tmp_path / "policy.onnx", form, models[1], env, steps=200, seed=0).is_same


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, "--env=CartPole-v1", "--train_for_env_steps=4000")
    assert export.main([f"--train_dir={tmp_path}", "--experiment=e", "--check_steps=1000"]) == 0
    told = capsys.readouterr().out
    assert "checked against the policy: 1000 steps, 0 of 1000 choices differ" in told
    path = tmp_path / "e" / "policy.onnx"
    described = json.loads(onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map[METADATA])
    assert (described["env"], described["state_size"]) == ("CartPole-v1", 0)
    assert described["actions"] == [{"kind": "discrete", "n": 2}]
    # The example of the guide, where neither torch nor this package can be imported.
    example = ROOT / "docs" / "examples" / "play_onnx.py"
    barred = "import sys; sys.modules['torch'] = sys.modules['sf_algo'] = None; sys.argv = sys.argv[1:]; "
    run = f"{barred}import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    words = [sys.executable, "-c", run, str(example), str(path), "--episodes=2"]
    played = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert played.returncode == 0, played.stderr
    assert "2 episodes, mean reward" in played.stdout


@pytest.mark.slow
def test_the_example_plays_continuous_actions(tmp_path: Path) -> None:
    train(tmp_path, "--env=Pendulum-v1", "--train_for_env_steps=2000", "--use_rnn=True")
    assert export.main([f"--train_dir={tmp_path}", "--experiment=e", f"--output={tmp_path / 'policy.onnx'}"]) == 0
    words = [sys.executable, str(ROOT / "docs/examples/play_onnx.py"), str(tmp_path / "policy.onnx"), "--episodes=1"]
    assert subprocess.run(words, cwd=tmp_path, check=False).returncode == 0


def test_faults_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main([f"--train_dir={tmp_path}"]) == 2
    assert capsys.readouterr().err == (
        "error: the following arguments are required: --experiment; see python -m sf_algo.export --help\n"
    )
    assert export.main([f"--train_dir={tmp_path}", "--experiment=nobody"]) == 2
    assert "nobody" in capsys.readouterr().err


def train(folder: Path, *flags: str) -> None:
    words = [sys.executable, "-m", "sf_algo.train_appo", "--experiment=e", f"--train_dir={folder}", "--seed=1", *flags]
    assert subprocess.run(words, cwd=ROOT, capture_output=True, check=False).returncode == 0
