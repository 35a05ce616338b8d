"""One engine of DeepMind Lab: started, played, quiet, and never left behind.

Create it in the process that plays it: a child that is forked while an engine is open hangs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.dmlab.level_cache import LevelCache
from sf_algo.envs.dmlab.levels import Task
from sf_algo.envs.dmlab.quiet import Noise
from sf_algo.envs.dmlab.temp_folders import TempFolder
from sf_algo.errors import EnvCrashedError, EnvError, MissingDependencyError

FRAMES_PER_SECOND = 60
_FRAME, _WORDS, _FRAMES_LEFT = "RGB_INTERLEAVED", "INSTR", "FRAMES_REMAINING_AT_60"
_TEST_MIXER_SEED = str(0x600D5EED)
"""What evaluations mix into their seeds, so that they play other episodes than trainings; the value is IMPALA's."""
_ONE_THREAD = {"LP_NUM_THREADS": "0"}
"""Mesa's rasterizer: without threads of its own it is slightly faster and can be used after a fork."""


def load_engine() -> Any:
    """The module `deepmind_lab`. Raises MissingDependencyError."""
    for name, value in _ONE_THREAD.items():
        os.environ.setdefault(name, value)
    try:
        import deepmind_lab
    except ImportError as error:
        why = "" if error.name == "deepmind_lab" else f" ({error})"
        raise MissingDependencyError(
            f"dmlab_* environments need the package deepmind_lab{why}; it is on no package index, so build it from "
            "github.com/google-deepmind/lab as docs/dmlab.md says"
        ) from error
    return deepmind_lab


def known_levels(module: Any) -> list[str]:
    """Paths of all levels that the engine has; empty where it does not tell."""
    folders = []
    with suppress(Exception):
        folders.append(Path(module.runfiles_path()))
    folders.append(Path(str(module.__file__)).parent)
    for folder in folders:
        levels = folder / "baselab" / "game_scripts" / "levels"
        if levels.is_dir():
            return sorted(str(path.relative_to(levels).with_suffix("")) for path in levels.rglob("*.lua"))
    return []


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What an engine is made with."""

    task: Task
    width: int
    height: int
    """Of a frame; multiples of 4."""
    hardware: bool = False
    gpu: int = 0
    pictures: str = ""
    """Folder of the photographs that two levels show."""
    with_instructions: bool = False
    test: bool = False
    """Play as in an evaluation: held-out levels are allowed, and seeds lead to other episodes than in trainings."""

    def config(self) -> dict[str, str]:
        """The engine takes strings only."""
        values = {
            "width": str(self.width),
            "height": str(self.height),
            "logLevel": "ERROR",
            "datasetPath": self.pictures,
            **dict(self.task.settings),
        }
        if self.hardware:
            values["gpuDeviceIndex"] = str(self.gpu)
        if self.test or self.task.held_out:
            values |= {"allowHoldOutLevels": "true", "mixerSeed": _TEST_MIXER_SEED}
        return values


@dataclass(kw_only=True)
class Observation:
    """What the engine shows."""

    frame: NDArray[np.uint8] = field(repr=False)
    """[H, W, 3]."""
    words: str = ""
    frames_left: float = 0.0
    """Until the level's time is up."""


class LabEngine:
    """An engine with its level. It starts with the first reset. Raises EnvCrashedError, naming the level, when the
    engine fails in a way that it survives; a fault in a level's script may also end the process."""

    def __init__(self, settings: EngineSettings, cache: LevelCache | None = None) -> None:
        self._settings = settings
        self._cache = cache
        self._lab: Any = None
        self._folder: TempFolder | None = None
        self._noise: Noise | None = None

    @property
    def is_open(self) -> bool:
        return self._lab is not None

    def start(self) -> None:
        """About 0.3 s. Raises EnvError where the engine refuses its settings."""
        module = load_engine()
        settings, self._folder = self._settings, TempFolder()
        self._noise = Noise(self._folder.noise)
        names = [_FRAME, _FRAMES_LEFT, *([_WORDS] if settings.with_instructions else [])]
        more: Mapping[str, Any] = {} if self._cache is None else {"level_cache": self._cache}
        try:
            with self._noise.caught():
                self._lab = module.Lab(
                    settings.task.script,
                    names,
                    config=settings.config(),
                    renderer="hardware" if settings.hardware else "software",
                    temp_folder=str(self._folder.path),
                    **more,
                )
        except Exception as error:
            message = f"level {settings.task.script} cannot be opened: {self._why(error)}"
            self.close()
            raise EnvError(message) from error

    def reset(self, seed: int) -> Observation:
        """Begin an episode; `seed` is below 2^32."""
        assert self._noise is not None, "start before reset"
        try:
            with self._noise.caught():
                self._lab.reset(seed=int(seed))
                return self.observe()
        except Exception as error:
            raise self._failure(f"did not begin an episode (seed {seed})", error) from error

    def observe(self) -> Observation:
        """Renders. Only while the episode runs."""
        seen = self._lab.observations()
        return Observation(
            frame=seen[_FRAME], words=str(seen.get(_WORDS, "")), frames_left=float(seen[_FRAMES_LEFT][0])
        )

    def step(self, action: NDArray[np.intc], frames: int) -> tuple[float, Observation | None]:
        """`action` [7], contiguous, for so many frames: the sum of rewards, and what is seen then; None at the end of
        the episode, after which the engine shows nothing any more."""
        try:
            reward = float(self._lab.step(action, num_steps=frames))
            return reward, self.observe() if self._lab.is_running() else None
        except Exception as error:
            raise self._failure("broke in an episode", error) from error

    def close(self) -> None:
        """May be called twice."""
        lab, self._lab = self._lab, None
        if lab is not None and self._noise is not None:
            with suppress(Exception), self._noise.caught():
                lab.close()
        if self._folder is not None:
            self._folder.remove()
        if self._noise is not None:
            self._noise.close()
        self._noise = self._folder = None

    def _failure(self, what: str, error: Exception) -> EnvCrashedError:
        return EnvCrashedError(f"level {self._settings.task.script} {what}: {self._why(error)}")

    def _why(self, error: Exception) -> str:
        """One line: the exception's, or what the engine printed last where that says nothing."""
        text = " ".join(str(error).split()).strip('" -')
        said = self._noise.last_words if self._noise is not None else ""
        return text if len(text) > len("Failed to connect RL API") or not said else f"{text}; it said: {said}"
