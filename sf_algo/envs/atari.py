"""Atari 2600 games, `atari_<game>`, straight on the Arcade Learning Environment.

Preprocessing is the customary one (Mnih et al. 2015; Machado et al. 2018, without sticky actions): up to 30
no-ops after a reset, every action for 4 frames, maximum over the last two, 84x84 in grey, 4 frames stacked,
FIRE pressed where a game waits for it, a lost life ends an episode. Going to the emulator directly spares
the colour image that nobody looks at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_algo.config import EnvConfig
from sf_algo.envs.spec import (
    PLAIN_OBS,
    ActionSpec,
    Discrete,
    EnvPlacement,
    EnvSpec,
    ObsRow,
    ObsSpec,
    StepResult,
)
from sf_algo.errors import MissingDependencyError, UnknownEnvError
from sf_algo.own.names import unknown_env

PREFIX = "atari_"
SIZE = 84
_FRAMESKIP = 4
_MAX_NOOPS = 30
_MAX_FRAMES = 108_000  # half an hour of play at 60 frames/s
_LOST_LIFE = MappingProxyType({"true_reward": math.nan})
_ALIASES = MappingProxyType({"montezuma": "montezumarevenge", "asteroid": "asteroids", "yarrevenge": "yarsrevenge"})


def rom_of(name: str) -> str:
    """The emulator's name of a game: `atari_mspacman` and `atari_ms_pacman` are both "ms_pacman".

    Raises MissingDependencyError without ale-py and UnknownEnvError for a game it does not have.
    """
    roms = _import_ale_py()[1].get_all_rom_ids()
    games = {rom.replace("_", ""): rom for rom in roms}
    wanted = name.removeprefix(PREFIX).lower().replace("_", "")
    wanted = _ALIASES.get(wanted, wanted)
    if wanted not in games:
        raise UnknownEnvError(unknown_env(name, [PREFIX + game for game in sorted(games)]))
    return str(games[wanted])


def _import_ale_py() -> tuple[Any, Any, Any]:
    """(ale_py, its ROMs, cv2)."""
    try:
        import ale_py
        import ale_py.roms
        import cv2
    except ImportError as error:
        raise MissingDependencyError(
            f'atari_* environments need the extra "atari": pip install "sf-runner[atari]" ({error})'
        ) from error
    return ale_py, ale_py.roms, cv2


class AtariEnv:
    """One game. Observation uint8 [framestack, 84, 84], oldest frame first.

    Rewards are the raw changes of the score (the family's --reward_clip=1 bounds them for training).
    `true_reward`, the score of the whole game, comes with the step that ends the game. A lost life has none:
    NaN, which averages skip.
    """

    def __init__(self, rom: str, *, frameskip: int, framestack: int, window: bool = False) -> None:
        ale_py, roms, self._cv2 = _import_ale_py()
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self._ale = ale_py.ALEInterface()
        self._ale.setFloat("repeat_action_probability", 0.0)
        self._ale.setInt("max_num_frames_per_episode", _MAX_FRAMES)
        self._ale.setBool("display_screen", window)
        # Without sticky actions the emulator draws nothing at random; only the number of no-ops is.
        self._ale.setInt("random_seed", 0)
        self._ale.loadROM(roms.get_rom_path(rom))
        self._actions = self._ale.getMinimalActionSet()
        self._noop, self._fire = ale_py.Action.NOOP, ale_py.Action.FIRE
        self._needs_fire = self._fire in self._actions
        height, width = self._ale.getScreenDims()
        self._screens = np.zeros((2, height, width), np.uint8)
        self._frames = np.zeros((framestack, SIZE, SIZE), np.uint8)
        self._frameskip = frameskip
        self.spec = EnvSpec(
            obs={PLAIN_OBS: ObsSpec(shape=self._frames.shape, dtype=np.dtype(np.uint8))},
            actions=ActionSpec((Discrete(len(self._actions)),)),
            frameskip=frameskip,
        )
        self._rng = np.random.default_rng()
        self._lives = 0
        self._score = 0.0
        self._game_over = True
        self._life_lost = False
        self._newest = 0
        self._result = StepResult.blank(1)

    def reset(self, out: Sequence[ObsRow], *, seed: int | None = None) -> None:
        if seed is not None:
            self._rng = np.random.default_rng(seed)
            self._game_over = True
        if not self._game_over:  # a life was lost: the game goes on
            self._act(self._noop)
        if self._game_over:
            self._new_game()
            for _ in range(int(self._rng.integers(1, _MAX_NOOPS + 1))):
                self._act_at_start(self._noop)
        if self._needs_fire:
            self._act_at_start(self._fire)
        self._lives, self._life_lost = self._ale.lives(), False
        self._ale.getScreenGrayscale(self._screens[1])
        self._screens[0] = self._screens[1]
        self._frames[:] = self._observed_screen()
        out[0][PLAIN_OBS][...] = self._frames

    @property
    def goes_on(self) -> bool:
        """The last step cost a life but not the game."""
        return self._life_lost

    def _new_game(self) -> None:
        self._ale.reset_game()
        self._score = 0.0
        self._game_over = False

    def _act_at_start(self, action: Any) -> None:
        """One frame before the first observation: should it end the game, another one begins."""
        self._act(action)
        if self._game_over:
            self._new_game()

    def _act(self, action: Any) -> float:
        """One frame; `action` is the emulator's own."""
        reward = float(self._ale.act(action))
        self._score += reward
        self._game_over = bool(self._ale.game_over())
        return reward

    def step(self, actions: NDArray[np.float32], out: Sequence[ObsRow]) -> StepResult:
        action = self._actions[int(actions.item(0))]
        reward = 0.0
        for frame in range(self._frameskip):
            reward += self._act(action)
            left = self._frameskip - 1 - frame
            if left < 2 or self._game_over:
                self._newest ^= 1  # the other screen holds the frame before, whatever the frame skip
                self._ale.getScreenGrayscale(self._screens[self._newest])
            if self._game_over:
                break
        self._frames[:-1] = self._frames[1:]
        self._frames[-1] = self._observed_screen()
        out[0][PLAIN_OBS][...] = self._frames
        return self._ended_or_not(reward)

    def _ended_or_not(self, reward: float) -> StepResult:
        lives = self._ale.lives()
        truncated = self._game_over and bool(self._ale.game_truncated())
        self._life_lost = lives < self._lives and not self._game_over
        self._lives = lives
        self._result.rewards[0] = reward
        self._result.truncated[0] = truncated
        self._result.terminated[0] = (self._game_over and not truncated) or self._life_lost
        if self._game_over:
            return self._result._replace(episode={"true_reward": self._score})
        return self._result._replace(episode=_LOST_LIFE) if self._life_lost else self._result

    def _observed_screen(self) -> NDArray[np.uint8]:
        brightest = np.maximum(self._screens[0], self._screens[1])
        small: NDArray[np.uint8] = self._cv2.resize(brightest, (SIZE, SIZE), interpolation=self._cv2.INTER_AREA)
        return small

    def render(self) -> NDArray[np.uint8] | None:
        """The emulator's screen in colour [210, 160, 3]."""
        frame: NDArray[np.uint8] = self._ale.getScreenRGB()
        return frame

    def close(self) -> None:
        """The emulator is plain memory; it goes with the object."""


def make_atari(name: str, env_cfg: EnvConfig, placement: EnvPlacement) -> AtariEnv:
    """Raises MissingDependencyError or UnknownEnvError. An --env_framestack of 1 is taken at its word."""
    return AtariEnv(
        rom_of(name),
        frameskip=env_cfg.env_frameskip or _FRAMESKIP,
        framestack=env_cfg.env_framestack,
        window=placement.render_mode == "human",
    )
