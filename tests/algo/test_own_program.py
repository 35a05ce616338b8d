"""A whole program of a user's: told of the training, with losses, numbers of every step, observers and their state."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sf_algo import App, load_policy
from sf_algo.buffers.layout import make_layout
from sf_algo.config import parse_args
from sf_algo.envs.spec import ActionSpec, Discrete
from sf_algo.errors import CheckpointError, ConfigError
from sf_algo.sampling.serial import misfit
from sf_algo.training.launch import run_training
from tests.algo import own_program
from tests.algo.test_summaries import points, tags
from tests.algo.training_command import TrainingCommand

SERIAL = ("--serial_mode=True", "--seed=1", "--device=cpu")


def train(folder: Path, *flags: str, code: int = 0) -> own_program.Curriculum:
    """Trains in this process; returns the observer."""
    places = (f"--train_dir={folder}", "--experiment=e")
    assert own_program.app.main([*places, *SERIAL, *flags]) == code
    return own_program.seen[-1]


def results(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "e" / "results.json").read_text())
    return document


def test_observers_see_the_training_and_change_it(tmp_path: Path) -> None:
    observer = train(tmp_path, "--env=short", "--cells=3", "--train_for_env_steps=3000")
    frames = results(tmp_path)["env_steps"]
    assert observer.iterations == results(tmp_path)["policies"][0]["policy_version"]
    assert observer.episodes > 50
    assert observer.training.env_steps >= frames
    assert observer.training.shaping(0) == {"reward": {"end": 3.0}, "step": -0.01}
    assert results(tmp_path)["metrics"]["end_reward"] == 3.0  # what the environments say of themselves
    last = observer.last
    assert last.extras["path"][-1] == 3
    assert last.extras["won"] is True
    assert 0 < last.extras["frames"] <= observer.training.env_steps
    assert last.num_frames == len(last.extras["path"])
    assert observer.stats["loss_plain"] == 2.5
    assert observer.stats["loss_cost"] < 0


def test_state_and_shaping_go_on_with_the_checkpoint(tmp_path: Path) -> None:
    first = train(tmp_path, "--env=short", "--cells=3", "--train_for_env_steps=1500")
    second = train(tmp_path, "--train_for_env_steps=3000")
    assert second is not first
    assert (second.starts, second.training.shaping(0)["reward"]["end"]) == (2, 3.0)
    assert second.episodes > first.episodes
    assert results(tmp_path)["metrics"]["end_reward"] == 3.0


def test_a_training_with_observers_repeats_itself(tmp_path: Path) -> None:
    """Though they change the rewards: they are told between iterations."""
    rewards = []
    for name in ("a", "b"):
        train(tmp_path / name, "--env=short", "--cells=3", "--train_for_env_steps=1500")
        rewards.append(results(tmp_path / name)["metrics"]["reward"])
    assert rewards[0] == rewards[1]


def test_summaries_of_observers_are_in_tensorboard(tmp_path: Path) -> None:
    observer = train(tmp_path, "--env=short", "--cells=3", "--train_for_env_steps=1500")
    folder = tmp_path / "e" / ".summary" / "0"
    assert points(folder, "own/episodes")[-1][1] == observer.episodes
    assert {"own/twice", "train/loss_cost", "train/loss_plain"} <= tags(folder)


def test_workers_have_all_of_it_and_those_that_replace_others(tmp_path: Path) -> None:
    places = (f"--train_dir={tmp_path}", "--experiment=e", "--device=cpu", "--train_for_env_steps=16000")
    flags = ("--env=long", "--cells=2", "--num_workers=2", "--status_interval=0.2", *places)
    root = Path(__file__).parent.parent.parent
    with TrainingCommand(*flags, program=["-m", "tests.algo.own_program"], cwd=root) as training:
        training.wait_for("frames")
        os.kill(training.pids("sf_worker")[0], signal.SIGKILL)
        training.wait_for("it is started again")
        assert training.finish() == 0, training.text
        assert "failed" not in training.text
        training.wait_until_nothing_is_left()
    assert results(tmp_path)["metrics"]["end_reward"] == 3.0


def test_a_policy_is_used_from_python(tmp_path: Path) -> None:
    train(tmp_path, "--env=short", "--cells=3", "--train_for_env_steps=3000", "--learning_rate=0.01")
    policy = load_policy(tmp_path / "e", deterministic=True, seed=1)
    assert policy.env_steps == results(tmp_path)["env_steps"]
    action, state = policy.act(np.array([0.0, 1.0], np.float32))
    assert (action, state.shape) == (1, (0,))
    actions, states = policy.act_rows({"obs": np.zeros((5, 2), np.float32)})
    assert (actions.shape, states.shape) == ((5, 1), (5, 0))
    env = policy.make_env()
    assert env.spec == policy.spec
    env.close()
    assert load_policy(tmp_path / "e", flags=["--cells=9"]).config.own["walk"].cells == 9


@pytest.mark.parametrize("path", [None, "__main__:app"])
def test_help_of_a_script_names_the_script(
    path: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["folder/play.py"])
    assert App(path, sections={"walk": own_program.Walk}).main(["enjoy", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: python play.py enjoy --experiment=NAME")


def test_a_policy_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no experiment there"):
        load_policy(tmp_path / "nowhere")
    train(tmp_path, "--env=short", "--train_for_env_steps=500", "--save_best_after=10000000")
    with pytest.raises(CheckpointError, match="no best checkpoint"):
        load_policy(tmp_path / "e", kind="best")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--extra_losses=tests.algo.own_losses:nothing"], "error: --extra_losses=tests.algo.own_losses:nothing"),
        (
            ["--extra_losses=tests.algo.own_losses:wrong"],
            "its loss 'wrong' is a tensor of shape (8, 8);",
        ),
        (["--extra_losses=loss"], "error: --extra_losses=loss: write package.module:loss"),
        (["--step_fields=cost:x"], "the length of a vector is a whole number of at least 1"),
    ],
)
def test_faults_are_one_line(
    tmp_path: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = (f"--train_dir={tmp_path}", "--experiment=e", "--train_for_env_steps=500")
    assert own_program.app.main([*places, *SERIAL, "--env=short", *flags]) in (1, 2)
    assert message in capsys.readouterr().err


def test_other_numbers_of_every_step_than_before(tmp_path: Path) -> None:
    none = ("--extra_losses", "--step_fields")
    train(tmp_path, "--env=short", "--cells=3", "--train_for_env_steps=700", *none, "where:2")
    train(tmp_path, "--train_for_env_steps=1400", "--step_fields", "cost", "where:2")
    train(tmp_path, "--train_for_env_steps=2100", "--step_fields")
    assert results(tmp_path)["env_steps"] >= 2100


def test_a_slot_in_the_middle_without_what_is_recorded_now() -> None:
    layouts = [
        make_layout(
            obs={},
            actions=ActionSpec((Discrete(2),)),
            rollout=4,
            rnn_state_width=0,
            step_fields=fields,
        )
        for fields in ({}, {"cost": ()})
    ]
    plan: Any = SimpleNamespace(
        num_policies=1, num_acting=1, envs_per_split=1, slot_trajectories=1, rollout=4, batch_trajectories=8
    )
    for row, told in ((2, "other numbers of every step than before"), (0, "")):
        split = SimpleNamespace(episodes=[0], policy_ids=np.zeros(1), row=row, slot=layouts[0].allocate(1))
        state: Any = SimpleNamespace(split=split, unfinished=[{}])
        assert misfit(state, plan, layouts[1]) == told
        assert misfit(state, plan, layouts[0]) == ""


def test_new_processes_find_the_program_by_its_path(tmp_path: Path) -> None:
    """As where copies cannot be forked: workers and the learner are started anew."""
    places = (f"--train_dir={tmp_path}", "--experiment=e", "--device=cpu", "--train_for_env_steps=1000")
    words = ("--env=short", "--cells=3", "--num_workers=1", "--serial_mode=False", *places)
    config = parse_args(words, program=own_program.app).config
    assert run_training(config, additions=own_program.app) == 0
    assert results(tmp_path)["metrics"]["end_reward"] > 0
    assert "train/loss_cost" in tags(tmp_path / "e" / ".summary" / "0")


PROGRAM = """
import sys
from sf_algo import App
from tests.algo.bad_envs import make_threaded

app = App(envs={"threaded": make_threaded})

if __name__ == "__main__":
    code = app.main()
    print("nothing is left behind" if code else "left behind")
    sys.exit(code)
"""


@pytest.mark.parametrize("env", ["threaded", "unknown"])
def test_a_program_does_not_wait_for_threads_that_its_environments_left(tmp_path: Path, env: str) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    sizes = ("--num_envs_per_worker=2", "--rollout=8", "--batch_size=16", "--train_for_env_steps=64", "--use_rnn=False")
    places = (f"--train_dir={tmp_path}", "--experiment=e", "--serial_mode=True")
    root = {"PYTHONPATH": str(Path(__file__).parents[2])}
    with TrainingCommand(f"--env={env}", *sizes, *places, program=[str(script)], cwd=tmp_path, env=root) as program:
        code = program.finish()
    assert code == (0 if env == "threaded" else 2), program.text
    assert ("nothing is left behind" in program.text) is (env == "unknown")
