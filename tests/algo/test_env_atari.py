"""Atari against gymnasium's own preprocessing, and what lost lives mean to training and evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("ale_py", reason='Atari needs the extra "atari"')
pytest.importorskip("cv2", reason='Atari needs the extra "atari"')

import ale_py
import gymnasium
from gymnasium.wrappers import AtariPreprocessing
from numpy.typing import NDArray

from sf_algo.config import EnvConfig
from sf_algo.config.resolve import parse_args
from sf_algo.envs import atari
from sf_algo.envs.atari import AtariEnv, make_atari
from sf_algo.envs.spec import PLAIN_OBS, EnvPlacement, goes_on


def open_game(name: str, frameskip: int = 4, framestack: int = 4) -> AtariEnv:
    return make_atari(name, EnvConfig(env_frameskip=frameskip, env_framestack=framestack), EnvPlacement())


def act(env: AtariEnv, action: int, row: dict[str, NDArray[Any]]) -> tuple[float, bool]:
    result = env.step(np.array([[action]], np.float32), [row])
    return float(result.rewards[0]), bool(result.terminated[0])


@pytest.mark.parametrize("frameskip", [4, 2])
def test_pictures_rewards_and_lives_are_those_of_gymnasiums_wrapper(
    frameskip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ms. Pac-Man: flickers, has several lives and needs no FIRE to begin."""
    monkeypatch.setattr(atari, "_MAX_NOOPS", 1)
    gymnasium.register_envs(ale_py)
    raw = gymnasium.make("ALE/MsPacman-v5", frameskip=1, repeat_action_probability=0.0, full_action_space=False)
    theirs = AtariPreprocessing(raw, noop_max=1, frame_skip=frameskip, terminal_on_life_loss=True)
    ours = open_game("atari_ms_pacman", frameskip)
    row = ours.spec.empty_rows()[0]
    expected, _ = theirs.reset(seed=3)
    ours.reset([row], seed=3)
    assert ours.spec.actions.num_choices == theirs.action_space.n
    np.testing.assert_array_equal(row[PLAIN_OBS], np.stack([expected] * 4))
    rng = np.random.default_rng(5)
    stack = [expected] * 4
    rewards = 0.0
    for _ in range(600):
        action = int(rng.integers(ours.spec.actions.num_choices))
        expected, their_reward, their_end, _, _ = theirs.step(action)
        reward, ended = act(ours, action, row)
        assert (reward, ended) == (their_reward, their_end)
        rewards += reward
        if ended:
            break
        stack = [*stack[1:], expected]
        np.testing.assert_array_equal(row[PLAIN_OBS], np.stack(stack))
    assert ended, "random play loses a life soon"
    assert rewards > 0


def test_without_frame_skip_a_picture_shows_two_frames_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atari, "_MAX_NOOPS", 1)
    env = open_game("atari_pong", frameskip=1, framestack=1)
    row = env.spec.empty_rows()[0]
    env.reset([row], seed=1)
    for _ in range(80):
        act(env, 0, row)
    before = env._ale.getScreenGrayscale()
    act(env, 0, row)
    brightest = np.maximum(before, env._ale.getScreenGrayscale())
    expected = env._cv2.resize(brightest, (84, 84), interpolation=env._cv2.INTER_AREA)
    np.testing.assert_array_equal(row[PLAIN_OBS][0], expected)


def test_a_lost_life_ends_an_episode_and_the_game_goes_on() -> None:
    env = open_game("atari_ms_pacman")
    row = env.spec.empty_rows()[0]
    env.reset([row], seed=1)
    rng = np.random.default_rng(1)
    scores: list[float] = []
    lives = [env._ale.lives()]
    total = 0.0
    while not scores:
        result = env.step(np.array([[rng.integers(9)]], np.float32), [row])
        total += float(result.rewards[0])
        if not result.terminated[0]:
            continue
        assert result.episode is not None
        true_reward = float(result.episode["true_reward"])
        assert goes_on(env) == np.isnan(true_reward)
        if goes_on(env):
            env.reset([row])
            assert not goes_on(env)
            lives.append(env._ale.lives())
        else:
            scores.append(true_reward)
    assert lives == [3, 2, 1]
    assert scores == [total]


def test_a_seed_begins_a_new_game_in_the_middle_of_one() -> None:
    env = open_game("atari_breakout")
    row = env.spec.empty_rows()[0]
    env.reset([row], seed=1)
    first = row[PLAIN_OBS].copy()
    while not goes_on(env):
        act(env, 2, row)
    env.reset([row], seed=1)
    assert env._ale.lives() == 5
    np.testing.assert_array_equal(row[PLAIN_OBS], first)


def test_the_family_trains_as_is_customary() -> None:
    config = parse_args(["--env=atari_breakout"]).config
    assert (config.env.env_frameskip, config.env.env_framestack) == (4, 4)
    assert config.rl.reward_clip == 1.0
    assert config.rl.obs_scale == 255.0
    assert config.model.encoder_subtype == "convnet_atari"
