"""Environments whose episodes are parts of a longer game: the game goes on, and a resume brings it back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sf_algo.envs.spec import PLAIN_OBS, EndsInParts, Env, ObsRow, StepResult, goes_on
from sf_algo.summaries.episodes import EpisodeWindow
from sf_algo.testing import FakeEnv
from sf_algo.watching.evaluation import Player, PlayLimits
from tests.algo.split_harness import Harness


class ThreeLives(FakeEnv):
    """Observation: [seed of the game, life, step]. A life has 2 to 4 steps, drawn when the game begins."""

    def __init__(self, cut: bool = False) -> None:
        """`cut`: a life ends by a time limit."""
        super().__init__(obs_size=3, num_actions=10)
        self._cut = cut
        self._seed = self._life = self._step = 0
        self._lengths = [1]
        self._over, self._lost = True, False
        self.games = 0

    @property
    def goes_on(self) -> bool:
        return self._lost

    def reset(self, out: Sequence[ObsRow], *, seed: int | None = None) -> None:
        if seed is not None or self._over:
            self._seed = self._seed if seed is None else seed % 1000
            self._lengths = np.random.default_rng(self._seed).integers(2, 5, 3).tolist()
            self._life, self._over = 0, False
            self.games += 1
        elif self._lost:
            self._life += 1
        self._lost, self._step = False, 0
        self._write(out)

    def step(self, actions: NDArray[np.float32], out: Sequence[ObsRow]) -> StepResult:
        assert not self._lost, "step after a lost life"
        assert not self._over, "step after the end"
        self._step += 1
        self._write(out)
        ended = self._step == self._lengths[self._life]
        self._over = ended and self._life == 2
        self._lost = ended and not self._over
        stats = {"true_reward": 42.0 if self._over else float("nan")}
        cut = ended and self._cut
        return self._result(1.0, terminated=ended and not cut, truncated=cut, stats=stats)

    def _write(self, out: Sequence[ObsRow]) -> None:
        out[0][PLAIN_OBS][:] = (self._seed, self._life, self._step)


def harness(cut: bool = False) -> Harness:
    def make(e: int) -> Env:
        return ThreeLives(cut)

    return Harness(make, num_envs=2, remember_actions=True, seed_every_episode=True, warm_up_steps=3)


def test_the_protocol_is_optional() -> None:
    assert isinstance(ThreeLives(), EndsInParts)
    assert not goes_on(FakeEnv(obs_size=1, num_actions=2))  # type: ignore[arg-type]
    assert not goes_on(None)


@pytest.mark.parametrize("cut", [False, True])
def test_every_life_of_a_game_is_played_before_the_next_game(cut: bool) -> None:
    """Also where a time limit ends a part: the game goes on behind the filler row."""
    played = harness(cut)
    played.open()
    seen: list[tuple[int, int]] = []
    for _ in range(12):
        slot = played.fill_slot()
        for seed, life, _ in slot["obs/obs"][: played.split.rollout, 0].astype(int).tolist():
            if not seen or seen[-1] != (seed, life):
                seen.append((seed, life))
        played.next_slot()
    games = [seed for seed, life in seen if life == 0]
    assert len(games) >= 3
    assert len(set(games)) == len(games), "every game has a seed of its own"
    lives = [life for _, life in seen]
    first = lives.index(0)  # what comes before is the rest of the game that the warm-up began
    assert lives[first : first + 9] == [0, 1, 2] * 3


@pytest.mark.parametrize("rows_into_the_slot", [0, 1, 2, 3])
@pytest.mark.parametrize("slots", [1, 2, 3, 4])
@pytest.mark.parametrize("cut", [False, True])
def test_a_resume_in_any_life_goes_on_exactly_there(slots: int, rows_into_the_slot: int, cut: bool) -> None:
    original = harness(cut)
    original.open()
    for _ in range(slots):
        original.fill_slot()
        original.next_slot()
    for _ in range(rows_into_the_slot):
        original.act()
    restored = harness(cut)
    restored.split.restore(original.split.state(), original.position)
    restored.position = original.position
    for _ in range(3):
        expected, found = original.fill_slot(), restored.fill_slot()
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
        original.next_slot()
        restored.next_slot()


class FirstAction:
    """An actor without a network."""

    def step(self, obs: dict[str, torch.Tensor], states: torch.Tensor) -> FirstAction:
        self.rnn_states, self.actions = states, torch.zeros(1, 1)
        return self


@pytest.mark.parametrize("cut", [False, True])
def test_an_evaluation_counts_games_not_lives(cut: bool) -> None:
    env = ThreeLives(cut)
    player = Player(env, FirstAction(), rnn_state_size=0, seed=1)  # type: ignore[arg-type]
    limits = PlayLimits(max_episodes=2, max_frames=1000, frames_per_second=0)
    episodes = [result for results in player.play(limits) for result in results]
    assert env.games == 2
    assert [episode.metrics()["true_reward"] for episode in episodes] == [42.0, 42.0]
    assert all(6 <= episode.reward <= 12 for episode in episodes)
    assert player.frames == sum(episode.num_frames for episode in episodes)


def test_a_lost_life_has_no_true_reward_of_its_own() -> None:
    window = EpisodeWindow(10)
    window.add(reward=3.0, num_frames=5, stats={"true_reward": float("nan")})
    window.add(reward=1.0, num_frames=5, stats={"true_reward": 42.0})
    assert window.means() == {"reward": 2.0, "len": 5.0, "true_reward": 42.0}
