"""A double of DeepMind Lab's Python module. It refuses what the engine refuses, and breaks as the engine breaks; the
same contract test (`test_dmlab_contract.py`) runs on both.

Its levels: a goal lies in one of the four directions, walking there is rewarded. Environment variables:

    FAKE_DMLAB_FRAMES=1200        length of an episode in frames
    FAKE_DMLAB_COMPILE_S=0.0      time to compile a map
    FAKE_DMLAB_ABORT=level:n      a level whose reset ends the process for seeds that n divides
    FAKE_DMLAB_ABORT_ONCE=path    a file that is made by the first of these, after which there are no others
    FAKE_DMLAB_LOG=path           a line "pid level seed key" for every episode that begins
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np

_SUITE = "contributed/dmlab30/"
_GENERATES = ("rooms_keys", "lasertag", "skymaze", "explore")
_FRAME_PLANES = {"RGB": 3, "RGBD": 4}
_OBSERVATIONS = {
    **dict(_FRAME_PLANES.items()),
    **{f"{name}_INTERLEAVED": planes for name, planes in _FRAME_PLANES.items()},
    "INSTR": 0,
    "FRAMES_REMAINING_AT_60": 0,
}
_OPEN, _RUNNING, _ENDED, _CLOSED = range(4)


def runfiles_path() -> str:
    return str(Path(__file__).parent)


def _levels() -> set[str]:
    folder = Path(__file__).parent / "baselab" / "game_scripts" / "levels"
    return {str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.lua")}


class Lab:
    def __init__(self, level, observations, config=None, renderer="software", level_cache=None, temp_folder=None):
        if not isinstance(level, str) or not isinstance(observations, list):
            raise TypeError("argument 2 must be list")
        config = {} if config is None else config
        if not isinstance(config, dict):
            raise TypeError("argument 3 must be dict")
        if renderer not in ("", "software", "hardware"):
            raise RuntimeError(f'Failed to set renderer must be "hardware" or "software" actual "{renderer}"!')
        for key, value in config.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise TypeError("bad argument type for built-in operation")
        os.write(2, b"Opening the engine\n" * (config.get("logLevel") != "ERROR"))
        if level not in _levels():
            raise RuntimeError(f"Invalid levelName flag '{level}' - \"cannot open {level}.lua\"")
        if level.endswith("_test") and config.get("allowHoldOutLevels") != "true":
            raise RuntimeError('Failed to init environment - "Hold-out levels are not allowed"')
        self._size = tuple(int(config.get(name, default)) for name, default in (("height", 240), ("width", 320)))
        if any(side % 4 for side in self._size):
            raise RuntimeError('Failed to init environment - "width and height must be multiples of 4"')
        for name in observations:
            if name not in _OBSERVATIONS:
                raise ValueError(f"Unknown observation '{name}'.")
        self._names, self._level, self._config, self._cache = observations, level, dict(config), level_cache
        self._own_folder = temp_folder is None
        self._folder = Path(temp_folder or tempfile.mkdtemp(prefix="dmlab_temp_folder_"))
        self._status, self._episode, self._pid = _OPEN, 0, os.getpid()
        self._length = int(os.environ.get("FAKE_DMLAB_FRAMES", "1200"))

    def reset(self, episode=-1, seed=None):
        self._only_in_its_process()
        if self._status == _CLOSED:
            raise RuntimeError("Environment is closed")
        if seed is None:
            seed = int(time.time())
        elif not isinstance(seed, int):
            raise ValueError(f"'seed' must be int or None, was '{type(seed).__name__}'.")
        seed = int(np.int64(seed).astype(np.int32))
        self._episode += 1
        if any(name in self._level for name in ("arbitrary_visuomotor", "continuous_recognition")):
            pictures = self._config.get("datasetPath", "")
            if pictures != "dummy" and not (Path(pictures) / "0001.png").is_file():
                raise RuntimeError('Failed to start environment - "Follow instructions to download datasets"')
        fatal, _, divisor = os.environ.get("FAKE_DMLAB_ABORT", "").partition(":")
        once = os.environ.get("FAKE_DMLAB_ABORT_ONCE")
        if fatal and self._level.endswith(fatal) and seed % int(divisor) == 0 and not (once and Path(once).exists()):
            if once:
                Path(once).touch()
            os.write(2, b"********************\nERROR: script of the level failed\n")
            os.abort()
        mixed = f"{seed}/{self._config.get('mixerSeed', '')}/{self._config.get('minGoalDistance', '')}"
        first = "first" if self._episode == 1 else ""
        key = self._load_map(mixed) if any(name in self._level for name in _GENERATES) else "-"
        self._rng = np.random.default_rng(list(hashlib.md5(f"{self._level}{mixed}{first}".encode()).digest()))
        self._goal, self._frames, self._status = int(self._rng.integers(4)), 0, _RUNNING
        self._texture = int(self._rng.integers(256))
        log = os.environ.get("FAKE_DMLAB_LOG")
        if log:
            with Path(log).open("a") as file:
                file.write(f"{os.getpid()} {self._level} {seed} {key}\n")
        return True

    def _load_map(self, mixed):
        name = self._level.rpartition("/")[2].partition("_")[0] + "_maze"
        key = f"{name}_noaas_{hashlib.md5((self._level + mixed).encode()).hexdigest()}"
        pk3 = self._folder / f"{name}.pk3"
        pk3.unlink(missing_ok=True)
        if self._cache is not None and self._cache.fetch(key, str(pk3)):
            if not pk3.is_file():
                os.write(2, b"ERROR: Couldn't load maps\n")
                os.abort()
            return key
        os.write(1, b"q3map2: compiling\n" * 50)
        time.sleep(float(os.environ.get("FAKE_DMLAB_COMPILE_S", "0")))
        with zipfile.ZipFile(pk3, "w") as archive:
            archive.writestr(f"maps/{name}.bsp", key * 20)
        if self._cache is not None:
            self._cache.write(key, str(pk3))
        return key

    def _only_in_its_process(self):
        if os.getpid() != self._pid:
            time.sleep(1e6)

    def is_running(self):
        return self._status == _RUNNING

    def num_steps(self):
        return self._frames

    def observations(self):
        self._only_in_its_process()
        if self._status != _RUNNING:
            raise RuntimeError("Environment in wrong status for call to observations()")
        found = {}
        for name in self._names:
            if name == "INSTR":
                words = f"Walk to the {['red', 'green', 'blue', 'black'][self._goal]} wall"
                found[name] = words if "language" in self._level else ""
            elif name == "FRAMES_REMAINING_AT_60":
                found[name] = np.asarray([float(self._length - self._frames)])
            else:
                frame = np.zeros((*self._size, _OBSERVATIONS[name]), np.uint8)
                frame[:, :, self._goal % 3] = 255 - self._goal * 40
                frame[0, 0, :2] = self._frames % 256, self._texture
                found[name] = frame if name.endswith("_INTERLEAVED") else np.ascontiguousarray(frame.transpose(2, 0, 1))
        return found

    def step(self, action, num_steps=1):
        self._only_in_its_process()
        if not isinstance(action, np.ndarray):
            raise TypeError("argument 1 must be numpy.ndarray")
        if self._status != _RUNNING:
            raise RuntimeError("Environment in wrong status to advance.")
        if action.shape != (7,):
            raise ValueError("action must have shape (7)")
        if action.dtype != np.intc:
            raise ValueError("action must have dtype np.intc")
        values = (ctypes.c_int * 7).from_address(action.ctypes.data)[:]  # the engine knows nothing of strides
        walked = [values[3] > 0, values[3] < 0, values[2] < 0, values[2] > 0]
        reward = 0.0
        for _ in range(num_steps):
            self._frames += 1
            reward += walked[self._goal] * 0.25
            if self._frames >= self._length:
                self._status = _ENDED
                break
        self._frames = self._frames if self._status == _RUNNING else max(self._frames, num_steps)
        return reward

    def action_spec(self):
        return [{"name": f"ACTION_{index}", "min": -512, "max": 512} for index in range(7)]

    def close(self):
        if self._status == _CLOSED:
            return False
        self._status = _CLOSED
        if self._own_folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        return True
