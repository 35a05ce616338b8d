"""An experiment of format version 1 that must load for ever: the same flags, weights, outputs, and more
training.

`python -m tests.algo.test_golden_checkpoint` writes a new one: only for a new format version, beside this
one.
"""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from sf_algo.checkpoints import Checkpoint, CheckpointStore
from sf_algo.config import Command, Config, configure
from sf_algo.envs.factory import EnvSections, make_env
from sf_algo.envs.spec import EnvSpec
from sf_algo.learner.learner import Learner
from sf_algo.model.actor_critic import ActorCritic, make_actor_critic
from sf_algo.paths import ExperimentPaths
from sf_algo.train_appo import main as train

GOLDEN = Path(__file__).parent.parent / "golden" / "experiment_v1"
EXPERIMENT = "cartpole"
FLAGS = (
    "--env=CartPole-v1",
    f"--experiment={EXPERIMENT}",
    "--seed=5",
    "--serial_mode=True",
    "--use_rnn=True",
    "--rnn_type=lstm",
    "--hidden_size=4",
    "--rollout=8",
    "--num_envs_per_worker=4",
    "--batch_size=32",
    "--normalize_input=True",
    "--normalize_returns=True",
)


def experiment(train_dir: Path) -> tuple[Config, Checkpoint]:
    """The configuration and the newest checkpoint of the experiment in the folder `train_dir`."""
    config = configure([f"--train_dir={train_dir}", f"--experiment={EXPERIMENT}"], Command.ENJOY).config
    paths = ExperimentPaths(config.run.experiment_dir)
    loaded = CheckpointStore(paths.checkpoints(0), keep=1).load_latest()
    assert loaded is not None
    assert loaded.notes == ()
    return config, loaded.checkpoint


def network(config: Config, spec: EnvSpec) -> ActorCritic:
    return make_actor_critic(
        config.model,
        spec,
        obs_subtract_mean=config.rl.obs_subtract_mean,
        obs_scale=config.rl.obs_scale,
        normalize_input=config.rl.normalize_input,
        normalize_returns=config.rl.normalize_returns,
        seed=0,
    )


def outputs(config: Config, checkpoint: Checkpoint) -> dict[str, list[list[float]]]:
    """What the stored policy makes of two fixed observations."""
    env = make_env(config.run.env, EnvSections(env=config.env))
    env.close()
    model = network(config, env.spec)
    learner = Learner(0, config.rl, model, device=torch.device("cpu"), max_policy_lag=10, seed=0)
    learner.load_state_dict(checkpoint.learner)
    assert learner.policy_version == checkpoint.policy_version
    obs = torch.tensor([[0.1, -0.2, 0.03, 0.4], [-1.0, 0.5, -0.1, -0.7]])
    states = torch.linspace(-1, 1, 2 * model.rnn_state_size).reshape(2, -1)
    with torch.inference_mode():
        acted = model.act({"obs": obs}, states)
    return {
        "action_params": acted.action_params.tolist(),
        "values": [acted.values.tolist()],
        "rnn_states": acted.rnn_states.tolist(),
    }


@pytest.fixture
def train_dir(tmp_path: Path) -> Path:
    """A copy of the old experiment as it was written."""
    copy = tmp_path / "train_dir"
    shutil.copytree(GOLDEN, copy)
    for packed in copy.rglob("*.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    return copy


def test_the_policy_is_the_same(train_dir: Path) -> None:
    config, checkpoint = experiment(train_dir)
    assert (config.model.hidden_size, config.model.rnn_type, config.run.seed) == (4, "lstm", 5)
    expected = json.loads((GOLDEN / "outputs.json").read_text())
    found = outputs(config, checkpoint)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(torch.tensor(found[name]), torch.tensor(values), rtol=1e-4, atol=1e-5)


def test_training_goes_on(train_dir: Path) -> None:
    _, before = experiment(train_dir)
    frames = before.env_steps + 320
    where = (f"--train_dir={train_dir}", f"--experiment={EXPERIMENT}")
    assert train([*where, f"--train_for_env_steps={frames}"]) == 0
    _, after = experiment(train_dir)
    assert after.policy_version > before.policy_version
    assert after.env_steps >= frames
    assert after.train_seconds > before.train_seconds


def _write() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assert train([*FLAGS, f"--train_dir={folder}", "--train_for_env_steps=640"]) == 0
        paths = ExperimentPaths(folder / EXPERIMENT)
        shutil.rmtree(GOLDEN, ignore_errors=True)
        target = GOLDEN / EXPERIMENT
        (target / "checkpoint_p0").mkdir(parents=True)
        for path in paths.checkpoints(0).iterdir():
            packed = gzip.compress(path.read_bytes(), mtime=0)
            (target / "checkpoint_p0" / f"{path.name}.gz").write_bytes(packed)
        stored = json.loads(paths.config.read_text())
        stored["config"]["run"]["train_dir"] = "./train_dir"
        (target / "cfg.json").write_text(json.dumps(stored, indent=2) + "\n")
        (GOLDEN / "outputs.json").write_text(json.dumps(outputs(*experiment(folder)), indent=2) + "\n")


if __name__ == "__main__":
    _write()
