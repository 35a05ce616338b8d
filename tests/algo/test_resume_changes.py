"""What a resume does when flags or the start have changed since the checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sf_algo.checkpoints import CheckpointStore, load_checkpoint
from sf_algo.config import LearnerConfig
from sf_algo.learner.learner import Learner
from sf_algo.learner.lr_schedule import LearningRate
from sf_algo.sampling.open_sampler import SamplerParts
from sf_algo.sampling.worker_process import WorkerFailure
from sf_algo.train_appo import main
from sf_algo.training import launch
from tests.algo.sampling_harness import SamplingHarness

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SMALL = (
    "--env=CartPole-v1",
    "--serial_mode=True",
    "--async_rl=False",
    "--use_rnn=False",
    "--hidden_size=8",
    "--num_envs_per_worker=4",
    "--rollout=8",
    "--batch_size=32",
    "--num_batches_per_iteration=1",
    "--ppo_epochs=1",
    "--seed=3",
    "--learner_main_loop_num_cores=1",
)


def train(folder: Path, *more: str) -> int:
    return main([*SMALL, f"--train_dir={folder}", "--experiment=e", *more])


def newest(folder: Path, policy: int = 0) -> dict[str, Any]:
    loaded = CheckpointStore(folder / "e" / f"checkpoint_p{policy}", keep=9).load_latest()
    assert loaded is not None
    return dict(loaded.checkpoint.learner)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("--num_policies=2",), "another number of policies than before: all environments begin new episodes"),
        (("--num_envs_per_worker=2", "--batch_size=16"), "another number of environments than before"),
        (("--rollout=4", "--batch_size=16"), ""),
        (("--seed=4",), "another seed than before"),
        (("--async_rl=True",), ""),
        (("--serial_mode=False", "--async_rl=True", "--num_workers=1"), ""),
    ],
)
def test_a_resume_with_other_flags_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, ...], told: str
) -> None:
    assert train(tmp_path, "--train_for_env_steps=336") == 0
    before = newest(tmp_path)["policy_version"]
    assert train(tmp_path, "--train_for_env_steps=700", *change) == 0
    captured = capsys.readouterr()
    assert told in captured.out
    assert captured.out.count("begin new episodes") == bool(told)
    assert "Traceback" not in captured.err
    assert newest(tmp_path)["policy_version"] > before
    # And back again.
    assert train(tmp_path, "--train_for_env_steps=1100", *SMALL[1:]) == 0


def test_with_more_policies_the_new_ones_begin_at_zero(tmp_path: Path) -> None:
    assert train(tmp_path, "--train_for_env_steps=336") == 0
    assert train(tmp_path, "--train_for_env_steps=1000", "--num_policies=2") == 0
    assert newest(tmp_path, 0)["policy_version"] > newest(tmp_path, 1)["policy_version"] > 0


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Seeds of the environments, one for each start of a training."""
    found: list[int] = []

    def noting(**parts: Any) -> SamplerParts:
        found.append(parts["env_seed"])
        return SamplerParts(**parts)

    monkeypatch.setattr(launch, "SamplerParts", noting)
    return found


def test_the_seed_of_the_environments_changes_with_every_start(tmp_path: Path, seeds: list[int]) -> None:
    """A resumed training does not play its first episodes once more."""
    for frames in (200, 400, 600):
        assert train(tmp_path, "--async_rl=True", f"--train_for_env_steps={frames}") == 0
    assert seeds[0] == 3
    assert len(set(seeds)) == 3


def test_a_serial_training_keeps_the_seed_of_the_episodes_it_goes_on_in(tmp_path: Path, seeds: list[int]) -> None:
    assert train(tmp_path, "--train_for_env_steps=336") == 0
    assert train(tmp_path, "--train_for_env_steps=700") == 0
    fewer = ("--num_envs_per_worker=2", "--batch_size=16")
    assert train(tmp_path, "--train_for_env_steps=1100", *fewer) == 0
    assert train(tmp_path, "--train_for_env_steps=1500", *fewer) == 0
    assert seeds[0] == seeds[1] == 3
    assert seeds[2] == seeds[3] != 3


def test_a_replaced_worker_does_not_play_the_same_episodes_again() -> None:
    with SamplingHarness("--env=sf_algo.testing:make_counting", "--num_workers=1") as harness:
        harness.until(lambda: harness.pool.num_ready == 1, what="the worker")
        pool = harness.pool
        before = pool._workers[0].settings.seed
        pool._replace(0, WorkerFailure(what="a test", trace=""), 0.0)
        once = pool._workers[0].settings.seed
        pool._replace(0, WorkerFailure(what="a test", trace=""), 0.0)
        assert len({before, once, pool._workers[0].settings.seed}) == 3


@pytest.mark.parametrize("rate", ["0.00031", "0"])
def test_a_typed_learning_rate_counts_on_a_resume(tmp_path: Path, rate: str) -> None:
    assert train(tmp_path, "--train_for_env_steps=336") == 0
    assert newest(tmp_path)["learning_rate"] == pytest.approx(2e-3)
    assert train(tmp_path, "--train_for_env_steps=700", f"--learning_rate={rate}") == 0
    assert newest(tmp_path)["learning_rate"] == pytest.approx(float(rate))


def rate(**changes: Any) -> LearningRate:
    cfg = replace(LearnerConfig(learning_rate=1e-3, lr_schedule="kl_adaptive_epoch"), **changes)
    return LearningRate(cfg, 1000)


def test_an_adapted_rate_is_kept_unless_another_one_is_typed() -> None:
    adapted = rate()
    adapted.value = 4e-4
    state = adapted.state()
    resumed, typed, constant = rate(), rate(learning_rate=2e-3), rate(lr_schedule="constant")
    for schedule in (resumed, typed, constant):
        schedule.resume(state)
    assert (resumed.value, typed.value, constant.value) == (4e-4, 2e-3, 1e-3)
    older = rate()
    older.resume({"learning_rate": 3e-4})
    assert older.value == 3e-4, "checkpoints that do not say what they began with"


def test_weights_that_are_none_are_neither_saved_nor_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path, "--train_for_env_steps=336") == 0
    (sound,) = (tmp_path / "e" / "checkpoint_p0").glob("checkpoint_*.pth")
    checkpoint = load_checkpoint(sound)
    state = {**checkpoint.learner, "model": {k: v.clone() for k, v in checkpoint.learner["model"].items()}}
    state["model"]["heads.0.weight"][0, 0] = float("nan")
    damaged = replace(checkpoint, learner=state, policy_version=checkpoint.policy_version + 1)
    CheckpointStore(sound.parent, keep=3).save(damaged)
    assert train(tmp_path, "--train_for_env_steps=700") == 0
    out = capsys.readouterr().out
    assert "is of no use: heads.0.weight holds numbers that are none" in out
    assert f"goes on from {sound}" in out


def test_a_policy_that_has_become_nothing_does_not_push_out_a_sound_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Learner.train

    def spoil(self: Learner, *args: Any, **options: Any) -> Any:
        stats = original(self, *args, **options)
        if self.policy_version == 20:
            next(self.model.parameters()).data.fill_(float("nan"))
        return stats

    assert train(tmp_path, "--train_for_env_steps=336") == 0
    monkeypatch.setattr(Learner, "train", spoil)
    assert train(tmp_path, "--train_for_env_steps=5000", "--save_every_sec=0.0001") == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    kept = sorted((tmp_path / "e" / "checkpoint_p0").glob("*.pth"))
    for path in kept:
        load_checkpoint(path)
    assert kept
