"""DeepMind Lab's environments, played against the double."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sf_algo.config import DmlabConfig, EnvConfig, parse_args
from sf_algo.envs.dmlab.actions import action_rows
from sf_algo.envs.dmlab.instructions import INSTRUCTIONS, MAX_WORDS, VOCABULARY, word_token, write_tokens
from sf_algo.envs.dmlab.levels import DMLAB_30, NAMED, tasks_of
from sf_algo.envs.dmlab.make import describe_task, make_dmlab
from sf_algo.envs.dmlab.shaping import shaped_reward
from sf_algo.envs.dmlab.temp_folders import TempFolder, remove_dead_folders
from sf_algo.envs.factory import EnvSections, make_env
from sf_algo.envs.spec import PLAIN_OBS, EnvPlacement
from sf_algo.errors import EnvCrashedError, EnvError, MissingDependencyError, UnknownEnvError
from tests.algo.dmlab_case import ROOT, double, lab, play

__all__ = ["double"]
ROOMS = "dmlab_benchmark"


def test_names() -> None:
    assert len({level.name for level in DMLAB_30}) == 30
    assert len(NAMED["dmlab_level_cache"]) == 15
    assert tasks_of("dmlab_very_sparse")[0].settings == (("minGoalDistance", "10"),)
    assert tasks_of("dmlab_very_sparse")[0].maps_id != tasks_of("dmlab_sparse")[0].maps_id
    assert tasks_of("dmlab_rooms_watermaze")[0].script == "contributed/dmlab30/rooms_watermaze"
    assert tasks_of("dmlab_lt_chasm")[0].script == "lt_chasm"
    assert tasks_of("dmlab_contributed/psychlab/x")[0].script == "contributed/psychlab/x"
    with pytest.raises(UnknownEnvError):
        tasks_of("dmlab_../x")


@pytest.mark.usefixtures("double")
def test_levels_are_shared_out_by_environment_or_by_worker() -> None:
    flags = DmlabConfig()
    there = EnvPlacement(worker_index=31, env_index=62)
    assert describe_task("dmlab_30", flags, there) == f"level contributed/dmlab30/{DMLAB_30[2].name}"
    by_worker = replace(flags, dmlab_one_task_per_worker=True)
    assert describe_task("dmlab_30", by_worker, there) == f"level contributed/dmlab30/{DMLAB_30[1].name}"
    for_test = replace(flags, dmlab_test_levels=True)
    assert describe_task("dmlab_30", for_test, EnvPlacement()).endswith("rooms_collect_good_objects_test")


@pytest.mark.usefixtures("double")
def test_what_is_seen_and_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DMLAB_FRAMES", "42")
    with lab("dmlab_language_select_described_object") as env:
        assert {name: (obs.shape, str(obs.dtype)) for name, obs in env.spec.obs.items()} == {
            PLAIN_OBS: ((3, 72, 96), "uint8"),
            INSTRUCTIONS: ((16,), "int16"),
        }
        assert str(env.spec.actions) == "Discrete(9)"
        rows = env.spec.empty_rows()
        env.reset(rows, seed=1)
        assert rows[0][INSTRUCTIONS].tolist()[:3] == [word_token(word) for word in ("walk", "to", "the")]
        assert np.array_equal(rows[0][PLAIN_OBS].transpose(1, 2, 0), env.render())  # type: ignore[attr-defined]
        seen, stats = play(env, 1, action=0)
    assert len(seen) - 1 == 11, "42 frames of 4 at a time"
    assert seen[-1][0] == seen[-2][0], "the engine shows nothing after the end"
    assert seen[-1][2:] == (False, True)
    assert not any(ended for _, _, *both in seen[1:-1] for ended in both)
    assert stats is not None
    assert stats["true_reward"] == stats["dmlab_raw/language_select_described_object"]
    with lab(ROOMS, dmlab_extended_action_set=True) as env:
        assert list(env.spec.obs) == [PLAIN_OBS]
        assert str(env.spec.actions) == "Discrete(15)"


@pytest.mark.usefixtures("double")
def test_rewards_are_shaped_and_told_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DMLAB_FRAMES", "40")
    totals = []
    with lab(ROOMS) as env:
        for action in range(4):
            seen, stats = play(env, 5, action=action)
            assert stats is not None
            totals.append((sum(step[1] for step in seen[1:]), stats["true_reward"]))
    assert max(totals) == (pytest.approx(10 * 5 * math.tanh(0.2)), 10.0)
    assert shaped_reward(-50) == pytest.approx(-1.5, abs=1e-6)
    assert shaped_reward(0.1) == pytest.approx(0.1, rel=1e-3)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", [ROOMS, "dmlab_sparse", "dmlab_language_execute_random_task"])
def test_an_episode_follows_from_its_seed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also as the first one of its engine, and whatever is in the cache."""
    monkeypatch.setenv("FAKE_DMLAB_FRAMES", "40")
    found = []
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        with lab(name, cache) as env:
            found += [play(env, 7)[0], play(env, 8)[0], play(env, 7)[0]]
    assert all(episode == found[0] for episode in found[::3] + found[2::3])
    assert found[1] != found[0]


@pytest.mark.usefixtures("double")
def test_test_levels_play_other_episodes() -> None:
    with lab("dmlab_rooms_watermaze") as env:
        training = [play(env, seed, steps=3)[0] for seed in range(8)]
    with lab("dmlab_rooms_watermaze", dmlab_test_levels=True) as env:
        assert [play(env, seed, steps=3)[0] for seed in range(8)] != training


@pytest.mark.usefixtures("double")
def test_a_benchmark_plays_one_episode_again_and_again(double: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    os.environ["FAKE_DMLAB_LOG"] = str(log)
    try:
        with lab("dmlab_benchmark_slow_reset", tmp_path / "cache", dmlab_throughput_benchmark=True) as env:
            for _ in range(3):
                play(env, None, steps=2)
    finally:
        del os.environ["FAKE_DMLAB_LOG"]
    assert len({line.split(None, 1)[1] for line in log.read_text().splitlines()}) == 1


@pytest.mark.usefixtures("double")
def test_a_policy_is_watched_on_one_level_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DMLAB_FRAMES", "8")
    with lab("dmlab_30", placement=EnvPlacement(watched=True), dmlab_test_levels=True) as env:
        names = [next(name for name in play(env, e)[1] or {} if name.startswith("dmlab_raw/")) for e in range(31)]
    assert names == [f"dmlab_raw/{level.test_name}" for level in (*DMLAB_30, DMLAB_30[0])]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("name", "flags", "error", "message"),
    [
        ("dmlab_30", {"dmlab30_dataset": "/nowhere"}, MissingDependencyError, "psychlab_continuous_recognition"),
        ("dmlab_rooms_watermase", {}, UnknownEnvError, "did you mean dmlab_rooms_watermaze"),
        ("dmlab_31", {}, UnknownEnvError, "did you mean dmlab_30"),
        (ROOMS, {"res_w": 90}, EnvError, "--res_w=90: DeepMind Lab renders multiples of 4; use 92"),
    ],
)
def test_faults_are_told_before_an_engine_starts(name: str, flags: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message) as caught, lab(name, **flags):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("double")
def test_no_window_and_no_stack() -> None:
    with pytest.raises(EnvError, match="no window"), lab(ROOMS, placement=EnvPlacement(render_mode="human")):
        pass
    with pytest.raises(EnvError, match="env_framestack"):
        make_dmlab(ROOMS, EnvConfig(env_framestack=4), DmlabConfig(), EnvPlacement())


def test_without_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepmind_lab", None)
    with pytest.raises(MissingDependencyError, match=r"build it from .* as docs/dmlab.md says"):
        make_env(ROOMS, EnvSections())


def test_a_level_that_breaks_is_named(double: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, seed: int) -> None:
        os.write(2, b"noise\nERROR: no such texture\n")
        raise RuntimeError('Failed to start environment - "script error"')

    monkeypatch.setattr(double.Lab, "reset", broken)
    with lab(ROOMS) as env, pytest.raises(EnvCrashedError) as caught:
        env.reset(env.spec.empty_rows(), seed=3)
    assert str(caught.value).startswith("level contributed/dmlab30/rooms_collect_good_objects_train did not begin")
    assert "script error" in str(caught.value)


@pytest.mark.usefixtures("double")
def test_engine_and_map_compiler_are_quiet(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with lab("dmlab_sparse") as env:
        play(env, 1, steps=3)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("double")
def test_folders_of_dead_processes_are_removed() -> None:
    program = (
        "import os, sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from sf_algo.envs.dmlab.temp_folders import TempFolder\n"
        "folder = TempFolder(); print(folder.path, flush=True); sys.stdin.read() if len(sys.argv) > 2 else os.abort()"
    )
    root = tempfile.gettempdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    dead = subprocess.run([sys.executable, "-c", program, root], capture_output=True, env=environment, text=True)
    assert Path(dead.stdout.strip()).is_dir()
    alive = subprocess.Popen(
        [sys.executable, "-c", program, root, "live"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert alive.stdout is not None
    other = Path(alive.stdout.readline().strip())
    own, engines = TempFolder(), Path(root) / "dmlab_temp_folder_aB3dE6"
    engines.mkdir()
    assert remove_dead_folders() == [Path(dead.stdout.strip()).name]
    assert other.is_dir()
    assert own.path.is_dir()
    assert engines.is_dir(), "nobody knows whose that is"
    alive.communicate("")
    assert remove_dead_folders() == [other.name]
    own.remove()
    assert not own.path.exists()


def test_tokens_are_the_same_in_every_process() -> None:
    """The predecessor used `hash()`, which differs from process to process."""
    words = [f"word{number}" for number in range(300)] + ["Red", "ball", "Ünïcode"]
    program = (
        "import sys\nfrom sf_algo.envs.dmlab.instructions import word_token\n"
        "print([word_token(word) for word in sys.argv[1:]])"
    )
    found = set()
    for seed in ("0", "1", "random"):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        run = subprocess.run([sys.executable, "-c", program, *words], env=environment, capture_output=True, text=True)
        found.add(run.stdout)
    assert found == {f"{[word_token(word) for word in words]}\n"}
    tokens = [word_token(word) for word in words]
    assert 1 <= min(tokens) <= max(tokens) < VOCABULARY
    assert len(set(tokens)) > 200


def test_long_instructions_are_cut_off() -> None:
    out = np.ones(MAX_WORDS, np.int16)
    write_tokens("a " * 40, out)
    assert (out == word_token("a")).all()
    write_tokens("Go  to", out)
    assert out.tolist() == [word_token("go"), word_token("to")] + [0] * 14


def test_actions() -> None:
    usual, extended = action_rows(extended=False), action_rows(extended=True)
    assert (usual.shape, extended.shape, usual.dtype) == ((9, 7), (15, 7), np.dtype(np.intc))
    assert len({tuple(row) for row in extended.tolist()}) == 15
    assert all(row.flags.c_contiguous for row in extended)


def test_defaults_of_the_family() -> None:
    config = parse_args(["--env=dmlab_benchmark"]).config
    assert config.model.encoder_custom == "dmlab_instructions"
    assert config.env.env_frameskip == 4
    assert config.sampling.reset_timeout_seconds == 300
