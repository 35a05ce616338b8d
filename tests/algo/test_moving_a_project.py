"""The command of docs/from_sample_factory.md, run on a small project as somebody may have written it: afterwards the
project trains, is watched and has its run description, and nothing else has changed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sf_algo.checkpoints import CheckpointStore
from tests.algo.training_command import TrainingCommand

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/from_sample_factory.md").read_text()

PROJECT = {
    "herd/__init__.py": "",
    "herd/train.py": '''"""Trains the herd with sample_factory."""
import sys

import sample_factory.utils.utils as utils
from sample_factory.algo.utils.context import global_model_factory
from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args
from sample_factory.envs.env_utils import register_env
from sample_factory.train import run_rl

from herd.model import HerdCore, HerdEncoder


def make_herd(full_env_name, cfg=None, env_config=None, render_mode=None):
    from herd.env import Herd

    return Herd(cfg.herd_size, render_mode)


def register_herd():
    register_env("herd", make_herd)
    global_model_factory().register_encoder_factory(HerdEncoder)
    global_model_factory().register_model_core_factory(HerdCore)


def herd_cfg(argv=None, evaluation=False):
    parser, cfg = parse_sf_args(argv, evaluation=evaluation)
    parser.add_argument("--herd_size", type=int, default=3, help="sheep")
    parser.add_argument("--herd_dog", type=utils.str2bool, default=True)
    parser.set_defaults(rnn_size=16, wandb_project="sample_factory")
    return parse_full_cfg(parser, argv)


def main():
    register_herd()
    return run_rl(herd_cfg())


if __name__ == "__main__":
    sys.exit(main())
''',
    "herd/watch.py": """import sys


def main():
    from sample_factory.enjoy import enjoy
    from herd.train import herd_cfg, register_herd

    register_herd()
    return enjoy(herd_cfg(evaluation=True))


if __name__ == "__main__":
    sys.exit(main())
""",
    "herd/model.py": """from sample_factory.algo.utils.torch_utils import calc_num_elements
from sample_factory.model.core import ModelCore
from sample_factory.model.encoder import Encoder
from sample_factory.model.model_utils import (
    create_mlp,
    nonlinearity,
)


class HerdEncoder(Encoder):
    def __init__(self, cfg, obs_space):
        super().__init__(cfg)
        shape = obs_space["obs"].shape
        self.mlp = create_mlp([cfg.rnn_size], shape[0], nonlinearity(cfg))
        self.size = calc_num_elements(self.mlp, shape)

    def forward(self, obs_dict):
        return self.mlp(obs_dict["obs"])

    def get_out_size(self):
        return self.size


class HerdCore(ModelCore):
    def __init__(self, cfg, input_size):
        super().__init__(cfg)
        self.core_output_size = input_size

    def forward(self, head_output, rnn_states):
        return head_output, rnn_states
""",
    "herd/env.py": '''import gymnasium as gym
import numpy as np


class Herd(gym.Env):
    """Call the sheep that has strayed."""

    def __init__(self, size, render_mode):
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Box(0.0, 1.0, (size,), np.float32)
        self.action_space = gym.spaces.Discrete(size)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 5
        return self.look(), {}

    def look(self):
        self.strayed = int(self.np_random.integers(self.action_space.n))
        return np.eye(self.action_space.n, dtype=np.float32)[self.strayed]

    def step(self, action):
        reward = float(action == self.strayed)
        self.left -= 1
        return self.look(), reward, self.left == 0, False, {}
''',
    "herd/runs/__init__.py": "",
    "herd/runs/sizes.py": """from sample_factory.launcher.run_description import Experiment, ParamGrid, RunDescription

_params = ParamGrid([("herd_size", [2, 4])])
_cmd = "python -m herd.train --env=herd"
RUN_DESCRIPTION = RunDescription("herds", experiments=[Experiment("sizes", _cmd, _params.generate_params(False))])
""",
    "herd/runs/older.py": """from sample_factory.runner.run_description import Experiment, ParamGrid, RunDescription

_params = ParamGrid([("seed", [1])])
_cmd = "python -m herd.train --env=herd"
RUN_DESCRIPTION = RunDescription("older", experiments=[Experiment("one", _cmd, _params.generate_params(False))])
""",
}
LEFT_ALONE = {
    "README.md": "Install it: `from sample_factory import ...`\n",
    "venv/lib/python3.11/site-packages/sample_factory/train.py": "from sample_factory.cfg import arguments\n",
}


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, after the command."""
    folder = tmp_path_factory.mktemp("a project")
    for name, text in {**PROJECT, **LEFT_ALONE}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (command,) = (block for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) if "sed -i" in block)
    subprocess.run(["bash", "-c", command], cwd=folder, check=True)
    return folder


def run(folder: Path, module: str, *words: str) -> str:
    with TrainingCommand(*words, program=("-m", module), env={"PYTHONPATH": str(ROOT)}, cwd=folder) as command:
        assert command.finish(200) == 0, command.text
    return command.text


def test_imports_and_nothing_else_have_moved(moved: Path) -> None:
    changed = 0
    for name, text in PROJECT.items():
        for before, after in zip(text.splitlines(), (moved / name).read_text().splitlines(), strict=True):
            if re.match(r"\s*(from|import) sample_factory\.", before) is None:
                assert after == before
                continue
            changed += 1
            new = "sf_runner" if re.search(r"factory\.(launcher|runner)\.", before) else "sf_algo.compat.sample_factory"
            assert after == before.replace("sample_factory", new, 1)
    assert changed == 12
    for name, text in LEFT_ALONE.items():
        assert (moved / name).read_text() == text


def test_it_trains_goes_on_and_is_watched(moved: Path) -> None:
    flags = ("--env=herd", "--experiment=first", "--herd_size=4", "--num_workers=1", "--num_envs_per_worker=8")
    flags += ("--rollout=8", "--batch_size=128", "--decorrelate_experience_max_seconds=0", "--device=cpu", "--seed=1")
    run(moved, "herd.train", *flags, "--train_for_env_steps=1000")
    assert "goes on from" in run(moved, "herd.train", *flags, "--train_for_env_steps=1500")
    stored = json.loads((moved / "train_dir/first/cfg.json").read_text())["config"]
    assert (stored["project"]["herd_size"], stored["project"]["herd_dog"]) == (4, True)
    assert (stored["model"]["hidden_size"], stored["wandb"]["wandb_project"]) == (16, "sample_factory")
    loaded = CheckpointStore(moved / "train_dir/first/checkpoint_p0", keep=1).load_latest()
    assert loaded is not None
    assert any(tuple(tensor.shape) == (16, 4) for tensor in loaded.checkpoint.learner["model"].values())  # its encoder
    watched = run(moved, "herd.watch", "--env=herd", "--experiment=first", "--no_render", "--max_num_episodes=3")
    assert "3 episodes, 15 frames" in watched


@pytest.mark.parametrize(("description", "experiments"), [("sizes", 2), ("older", 1)])
def test_its_run_descriptions_load(moved: Path, description: str, experiments: int) -> None:
    words = [sys.executable, "-m", "sf_runner.run", f"--run=herd.runs.{description}", "--dry_run"]
    ended = subprocess.run(
        words, cwd=moved, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("python -m herd.train --env=herd") == experiments
