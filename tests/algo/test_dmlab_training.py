"""Trainings, evaluations and speed tests on DeepMind Lab's levels, against the double."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sf_algo.config import ModelConfig, parse_args
from sf_algo.envs.dmlab.instructions import INSTRUCTIONS, INSTRUCTIONS_SPEC, write_tokens
from sf_algo.envs.dmlab.levels import DMLAB_30, NAMED
from sf_algo.envs.dmlab.scores import OBJECTIVE, human_normalized, scores_of
from sf_algo.envs.spec import PLAIN_OBS, ActionSpec, Discrete, EnvSpec, ObsSpec
from sf_algo.model.actor_critic import make_actor_critic
from sf_algo.rollout.env_maker import EnvMaker
from sf_algo.summaries.episodes import EpisodeWindow
from sf_algo.watching.level_scores import capped_mean, rows_of
from tests.algo.dmlab_case import command_environment
from tests.algo.test_config_reference import DMLAB
from tests.algo.test_summaries import tags

SMALL = (
    "--rollout=8 --recurrence=8 --batch_size=64 --hidden_size=16 --encoder_subtype=convnet_impala "
    "--decorrelate_experience_max_seconds=0 --dmlab30_dataset=dummy --device=cpu --status_interval=1"
)


def command(tmp_path: Path, line: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of ours in the test's folder; what it says is in `stdout`, faults in `stderr`."""
    words = (*words, f"--dmlab_level_cache_path={tmp_path / 'cache'}")
    return subprocess.run(
        [sys.executable, "-m", *shlex.split(line), *words],
        cwd=tmp_path,
        env=command_environment(TMPDIR=str(tmp_path), **{"FAKE_DMLAB_FRAMES": "16", **environment}),
        capture_output=True,
        text=True,
        timeout=200,
    )


def assert_clean(tmp_path: Path) -> None:
    assert not list(tmp_path.glob("dmlab_temp_folder_*"))


def test_scores() -> None:
    levels = scores_of(NAMED["dmlab_30"])
    human = {f"dmlab_raw/{level.name}": level.human for level in DMLAB_30}
    assert levels(human)[OBJECTIVE] == pytest.approx(100)
    better = {**human, "dmlab_raw/rooms_watermaze": 540.0}
    assert levels(better)[OBJECTIVE] == pytest.approx(100)
    assert levels(better)["dmlab_human_normalized_mean"] > 130
    half = {name: value for name, value in human.items() if "explore" not in name}
    assert OBJECTIVE not in levels(half), "not before every level was played"
    assert human_normalized("rooms_collect_good_objects_train", 10) == pytest.approx(100)
    assert human_normalized("lt_chasm", 10) is None


def test_a_window_has_the_scores_of_its_levels() -> None:
    window = EpisodeWindow(10, scores_of(NAMED["dmlab_watermaze"]))
    assert window.table() is None
    for reward in (4.065, 54.0):
        window.add(reward=1.0, num_frames=10, stats={"true_reward": reward, "dmlab_raw/rooms_watermaze": reward})
    assert window.means()[OBJECTIVE] == pytest.approx(50)
    assert window.count(OBJECTIVE) == 2
    assert window.count("nothing") == 0
    table = window.table()
    assert table is not None
    assert table["rows"] == [["rooms_watermaze", 2, pytest.approx(29.0325), pytest.approx(50)]]
    again = EpisodeWindow(10, scores_of(NAMED["dmlab_watermaze"]))
    again.restore(window.state())
    assert again.means() == window.means()


def test_scores_are_of_the_levels_that_a_run_has_environments_for() -> None:
    words = ["--env=dmlab_30", "--num_workers=3", "--num_envs_per_worker=4", "--dmlab_one_task_per_worker=True"]
    scores = EnvMaker(parse_args(words).config).derived_means()
    assert scores is not None
    assert scores.levels == tuple(level.name for level in DMLAB_30[:3])
    scores = EnvMaker(parse_args(words[:-1]).config).derived_means()
    assert scores is not None
    assert len(scores.levels) == 12
    assert EnvMaker(parse_args(["--env=CartPole-v1"]).config).derived_means() is None


def test_intervals() -> None:
    rng = np.random.default_rng(1)
    returns = {"rooms_watermaze": list(rng.normal(29.0, 3.0, 40)), "lt_chasm": [1.0], "rooms_keys_doors_puzzle": []}
    rows = rows_of(returns, rng)
    assert [(row.level, row.episodes) for row in rows] == [("rooms_watermaze", 40), ("lt_chasm", 1)]
    low, high = rows[0].interval or (0, 0)
    assert low < 50 < high
    assert high - low < 8
    assert rows[1].interval is None
    total = capped_mean(returns, rng)
    assert total is not None
    assert total["levels"] == 1
    assert total["interval"][0] < total["capped_mean"] < total["interval"][1]


def spec(*, words: bool) -> EnvSpec:
    obs = {PLAIN_OBS: ObsSpec(shape=(3, 72, 96), dtype=np.dtype(np.uint8))}
    return EnvSpec(
        obs={**obs, **({INSTRUCTIONS: INSTRUCTIONS_SPEC} if words else {})}, actions=ActionSpec((Discrete(9),))
    )


@pytest.mark.parametrize("subtype", ["convnet_impala", "resnet_impala"])
def test_the_encoder_reads_instructions(subtype: str) -> None:
    cfg = ModelConfig(encoder_custom="dmlab_instructions", encoder_subtype=subtype, hidden_size=32)  # type: ignore[arg-type]
    with_words, without = (make_actor_critic(cfg, spec(words=words), normalize_input=words, seed=1) for words in (1, 0))
    rows = np.zeros((3, 16), np.int16)
    for row, text in zip(rows, ("red ball", "red ball", "blue ball"), strict=True):
        write_tokens(text, row)
    obs = {PLAIN_OBS: torch.zeros(3, 3, 72, 96, dtype=torch.uint8), INSTRUCTIONS: torch.from_numpy(rows)}
    acted = with_words.act(obs, torch.zeros(3, with_words.rnn_state_size))
    assert torch.allclose(acted.action_params[0], acted.action_params[1])
    assert not torch.allclose(acted.action_params[0], acted.action_params[2])
    acted.values.sum().backward()
    touched = [name for name, weight in with_words.named_parameters() if "words" in name and weight.grad is not None]
    assert len(touched) == 5, "the embedding and the LSTM"
    assert without.towers[0].encoder.out_size == with_words.towers[0].encoder.out_size - 64  # type: ignore[union-attr,operator,index]


def test_padding_does_not_count() -> None:
    """The feature is the LSTM's output at the last word, as a sequence of that length gives it."""
    from sf_algo.model.words import WordsEncoder

    encoder = WordsEncoder()
    tokens = torch.zeros(2, 16, dtype=torch.long)
    tokens[0, :3] = torch.tensor([5, 9, 2])
    outputs, _ = encoder.core.rnn(encoder.embedding(tokens[:1, :3]).transpose(0, 1))
    assert torch.allclose(encoder(tokens)[0], outputs[-1, 0], atol=1e-6)


@pytest.mark.slow
def test_the_page_s_command_trains_with_reduced_numbers(tmp_path: Path) -> None:
    """All flags as written; numbers of workers, environments, policies, frames and seconds reduced. It exchanges
    policies by the suite's score, ends on time and goes on."""
    line = DMLAB.removeprefix("python -m ")
    small = "--num_workers=2 --num_envs_per_worker=4 --num_policies=2 --batch_size=128 --train_for_env_steps=9000"
    pbt = "--pbt_period_env_steps=1000 --pbt_start_mutation=1000 --hidden_size=32 --encoder_subtype=convnet_impala"
    more = "--experiment=page --dmlab30_dataset=dummy --decorrelate_experience_max_seconds=1 --device=cpu"
    words = shlex.split(f"{small} {pbt} --encoder_type=conv {more}")
    ended = command(tmp_path, line, *words)
    assert ended.returncode == 0, ended.stderr
    folder = tmp_path / "train_dir" / "page"
    results = json.loads((folder / "results.json").read_text())
    assert (results["outcome"], OBJECTIVE in results["metrics"]) == ("finished", True)
    events = [json.loads(text) for text in (folder / "pbt.jsonl").read_text().splitlines()]
    assert {event["objective_name"] for event in events if "objective_name" in event} <= {OBJECTIVE}
    assert any(event["event"] == "exchange" for event in events), ended.stdout
    ended = command(tmp_path, line, *words, "--train_for_env_steps=12000")
    again = json.loads((folder / "results.json").read_text())
    assert (ended.returncode, again["env_steps"] >= 12000) == (0, True), ended.stderr
    assert_clean(tmp_path)


@pytest.mark.slow
def test_levels_are_told_of_trained_watched_and_evaluated(tmp_path: Path) -> None:
    line = f"sf_algo.train_appo --env=dmlab_30 --experiment=a --num_workers=2 --num_envs_per_worker=16 {SMALL}"
    ended = command(tmp_path, line, "--train_for_env_steps=6000")
    assert ended.returncode == 0, ended.stderr
    folder = tmp_path / "train_dir" / "a"
    results = json.loads((folder / "results.json").read_text())
    assert len(results["policies"][0]["tables"][0]["rows"]) == 30
    assert 0 < abs(results["metrics"][OBJECTIVE]) <= 100
    found = tags(folder / ".summary" / "0")
    assert f"policy_stats/avg_{OBJECTIVE}" in found
    assert "policy_stats/avg_dmlab_human_normalized/rooms_watermaze" in found
    enjoy = (
        "sf_algo.enjoy_appo --env=dmlab_30 --experiment=a --no_render --max_num_episodes=30 --dmlab_test_levels=True"
    )
    watched = command(tmp_path, enjoy).stdout
    assert "capped mean of 30 levels" in watched
    assert "rooms_exploit_deferred_effects_test" in watched
    scores = command(tmp_path, "sf_algo.envs.dmlab.evaluate --experiment=a --episodes=2 --processes=2")
    assert scores.returncode == 0, scores.stderr
    assert "capped mean of 30 levels" in scores.stdout
    document = json.loads((folder / "dmlab_scores_p0_test.json").read_text())
    assert (len(document["levels"]), document["total"]["levels"]) == (30, 30)
    table = [line for line in scores.stdout.splitlines() if " to " in line and "episode " not in line]
    assert len(table) == 31
    assert_clean(tmp_path)


@pytest.mark.slow
def test_a_level_that_ends_its_process_is_named_and_survived(tmp_path: Path) -> None:
    line = (
        "sf_algo.train_appo --env=dmlab_level_cache --experiment=a --num_workers=2 --num_envs_per_worker=2 "
        f"--dmlab_one_task_per_worker=True {SMALL}"
    )
    fatal = {"FAKE_DMLAB_ABORT": "lasertag_one_opponent_small:3", "FAKE_DMLAB_ABORT_ONCE": str(tmp_path / "once")}
    ended = command(tmp_path, line, "--train_for_env_steps=4000", **fatal)
    assert ended.returncode == 0, ended.stderr
    deaths = [text for text in ended.stdout.splitlines() if "it is started again" in text]
    assert len(deaths) == 1, ended.stdout
    assert "(level contributed/dmlab30/lasertag_one_opponent_small)" in deaths[0]
    assert "an engine that died had printed: ERROR: script of the level failed" in ended.stdout
    assert_clean(tmp_path)


@pytest.mark.slow
def test_nothing_is_left_of_a_training_that_is_killed(tmp_path: Path) -> None:
    line = f"sf_algo.train_appo --env=dmlab_sparse --experiment=a --num_workers=2 --num_envs_per_worker=2 {SMALL}"
    words = [sys.executable, "-m", *shlex.split(line), f"--dmlab_level_cache_path={tmp_path / 'cache'}"]
    environment = command_environment(TMPDIR=str(tmp_path), FAKE_DMLAB_FRAMES="80")
    training = subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    assert training.stdout is not None
    for told in training.stdout:
        if "| fps" in told:
            break
    else:
        pytest.fail("it has never said anything")
    training.send_signal(signal.SIGKILL)
    training.wait()
    deadline = time.monotonic() + 30
    while list(tmp_path.glob("dmlab_temp_folder_*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert_clean(tmp_path)


def test_the_dummy_sampler(tmp_path: Path) -> None:
    line = "sf_algo.run_algorithm --algo=DUMMY_SAMPLER --env=dmlab_benchmark --num_workers=2 --num_envs_per_worker=1"
    ended = command(tmp_path, line, "--sample_env_frames=4000", "--experiment=d")
    assert ended.returncode == 0, ended.stderr
    assert "frames/s" in ended.stdout + ended.stderr


@pytest.mark.slow
def test_serial_trainings_are_reproducible(tmp_path: Path) -> None:
    """Whatever maps are in the cache by then."""
    rewards = []
    for name in ("a", "b"):
        line = f"sf_algo.train_appo --env=dmlab_sparse --experiment={name} --serial_mode=True --seed=3 {SMALL}"
        ended = command(tmp_path, line, "--num_envs_per_worker=2", "--train_for_env_steps=2000", "--batch_size=16")
        assert ended.returncode == 0, ended.stderr
        document = json.loads((tmp_path / "train_dir" / name / "results.json").read_text())
        rewards.append((document["env_steps"], document["metrics"]))
    assert rewards[0] == rewards[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--env=dmlab_30"], "--dmlab30_dataset=~/datasets/brady_konkle_oliva2008: there are no pictures"),
        (["--env=dmlab_rooms_watermase"], "did you mean dmlab_rooms_watermaze"),
    ],
)
def test_faults_before_anything_is_written(words: list[str], message: str, tmp_path: Path) -> None:
    ended = command(tmp_path, "sf_algo.train_appo --experiment=a", *words, HOME=str(tmp_path))
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert message in ended.stderr
    assert not (tmp_path / "train_dir").exists()


def test_the_command_of_the_page_parses() -> None:
    config = parse_args(shlex.split(DMLAB)[3:]).config
    assert config.dmlab.dmlab_one_task_per_worker
