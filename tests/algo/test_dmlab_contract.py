"""What the environments rely on in DeepMind Lab's Python module: the same test for the engine and for its double.

The double is what the other tests play against, so whatever they assume has to be asked of the engine here.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.algo.fake_dmlab import deepmind_lab as double

ROOT = Path(__file__).parent.parent.parent
FAKE = Path(__file__).parent / "fake_dmlab"
ROOMS = "contributed/dmlab30/rooms_watermaze"
MAZE = "contributed/dmlab30/explore_goal_locations_small"
NOTHING = np.zeros(7, np.intc)


def engine() -> Any:
    os.environ.setdefault("LP_NUM_THREADS", "0")
    import deepmind_lab

    return deepmind_lab


HAS_ENGINE = importlib.util.find_spec("deepmind_lab") is not None
REAL = pytest.param(
    "engine",
    marks=[pytest.mark.dmlab, pytest.mark.slow, pytest.mark.skipif(not HAS_ENGINE, reason="no deepmind_lab here")],
)


@pytest.fixture(params=["double", REAL])
def module(request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]) -> Any:
    return double if request.param == "double" else engine()


@pytest.fixture
def make(module: Any) -> Iterator[Any]:
    made: list[Any] = []

    def lab(level: str = ROOMS, names: Any = ("RGB_INTERLEAVED",), config: Any = None, **more: Any) -> Any:
        values = {"width": "96", "height": "72", "logLevel": "ERROR", **(config or {})}
        made.append(module.Lab(level, list(names) if isinstance(names, tuple) else names, config=values, **more))
        return made[-1]

    yield lab
    for one in made:
        one.close()


def test_levels_are_files_below_the_module(module: Any) -> None:
    folder = Path(module.runfiles_path()) / "baselab" / "game_scripts" / "levels"
    assert (folder / f"{ROOMS}.lua").is_file()


def test_what_the_constructor_refuses(make: Any) -> None:
    for level, names, config, error in (
        ("no_such_level", (), {}, RuntimeError),
        (ROOMS, ("NO_SUCH",), {}, ValueError),
        (ROOMS, (), {"width": 96}, TypeError),
        (ROOMS, (), {"width": "95"}, RuntimeError),
        ("contributed/dmlab30/rooms_collect_good_objects_test", (), {}, RuntimeError),
    ):
        with pytest.raises(error):
            make(level, names, config)
    with pytest.raises(TypeError):
        make(ROOMS, {"RGB": 1})
    make("contributed/dmlab30/rooms_collect_good_objects_test", (), {"allowHoldOutLevels": "true"})


def test_observations(make: Any) -> None:
    names = ("RGB_INTERLEAVED", "RGBD_INTERLEAVED", "RGB", "INSTR", "FRAMES_REMAINING_AT_60")
    lab = make(ROOMS, names)
    with pytest.raises(RuntimeError):
        lab.observations()
    lab.reset(seed=3)
    seen = lab.observations()
    assert [seen[name].shape for name in names[:3]] == [(72, 96, 3), (72, 96, 4), (3, 72, 96)]
    assert {seen[name].dtype for name in names[:3]} == {np.dtype(np.uint8)}
    assert seen["INSTR"] == ""
    assert seen["FRAMES_REMAINING_AT_60"].shape == (1,)
    assert seen["FRAMES_REMAINING_AT_60"].dtype == np.float64
    assert np.array_equal(seen["RGB"].transpose(1, 2, 0), seen["RGB_INTERLEAVED"])
    again = lab.observations()["RGB_INTERLEAVED"]
    assert not np.shares_memory(again, seen["RGB_INTERLEAVED"])


def test_instructions_come_with_the_reset(make: Any) -> None:
    lab = make("contributed/dmlab30/language_select_described_object", ("INSTR",))
    lab.reset(seed=3)
    assert len(lab.observations()["INSTR"].split()) >= 1


def test_actions_it_takes(make: Any) -> None:
    lab = make()
    lab.reset(seed=1)
    for wrong, error in (
        ([0] * 7, TypeError),
        (np.zeros(7, np.int64), ValueError),
        (np.zeros(7, np.float32), ValueError),
        (np.zeros(6, np.intc), ValueError),
    ):
        with pytest.raises(error):
            lab.step(wrong)
    assert isinstance(lab.step(NOTHING, num_steps=4), float)


def test_the_end_of_the_time(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DMLAB_FRAMES", "40")
    lab = make(ROOMS, ("FRAMES_REMAINING_AT_60",), {"episodeLengthSeconds": "2"})
    lab.reset(seed=1)
    left = [float(lab.observations()["FRAMES_REMAINING_AT_60"][0])]
    while lab.is_running():
        lab.step(NOTHING, num_steps=4)
        if lab.is_running():
            left.append(float(lab.observations()["FRAMES_REMAINING_AT_60"][0]))
    assert left[-1] <= 4 < left[-2]
    assert {round(before - after) for before, after in itertools.pairwise(left)} == {4}
    for broken in (lab.observations, lambda: lab.step(NOTHING)):
        with pytest.raises(RuntimeError):
            broken()
    lab.reset(seed=1)
    assert lab.is_running()


def test_seeds(make: Any) -> None:
    lab = make(ROOMS, ("RGB_INTERLEAVED",))
    with pytest.raises(ValueError, match="seed"):
        lab.reset(seed=np.int64(1))
    lab.reset(seed=1)
    lab.step(NOTHING)
    lab.observations()
    frames = []
    for seed in (5, 6, 5):
        lab.reset(seed=seed)
        frames.append([lab.observations()["RGB_INTERLEAVED"], lab.step(NOTHING), lab.observations()["RGB_INTERLEAVED"]])
    assert np.array_equal(frames[0][0], frames[2][0])
    assert np.array_equal(frames[0][2], frames[2][2])


class Cache:
    """Remembers what is asked, and serves what was written."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.fetched, self.written = folder, [], []

    def fetch(self, key: str, path: str) -> bool:
        self.fetched.append(key)
        if not (self.folder / key).is_file():
            return False
        Path(path).write_bytes((self.folder / key).read_bytes())
        return True

    def write(self, key: str, path: str) -> None:
        self.written.append(key)
        (self.folder / key).write_bytes(Path(path).read_bytes())


def test_the_level_cache(make: Any, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    (tmp_path / "temp").mkdir()
    lab = make(MAZE, ("RGB_INTERLEAVED",), level_cache=cache, temp_folder=str(tmp_path / "temp"))
    lab.reset(seed=7)
    assert cache.fetched == cache.written
    (key,) = cache.written
    name, _, digest = key.rpartition("_")
    assert name.endswith("_noaas")
    assert len(digest) == 32
    assert (tmp_path / key).read_bytes().startswith(b"PK")
    lab.reset(seed=8)
    lab.reset(seed=7)
    assert cache.fetched[-1] == key
    assert cache.written.count(key) == 1
    assert make(ROOMS, (), level_cache=cache).reset(seed=1) is True
    assert len(cache.fetched) == 3, "a level with a map of its own does not ask"


def test_a_folder_of_ours_is_not_removed(make: Any, module: Any, tmp_path: Path) -> None:
    """Its own would be, and is left behind by a process that dies."""
    lab = module.Lab(ROOMS, [], config={"logLevel": "ERROR"}, temp_folder=str(tmp_path))
    lab.reset(seed=1)
    lab.close()
    assert tmp_path.is_dir()
    before = set(Path(tempfile.gettempdir()).glob("dmlab_temp_folder_*"))
    other = module.Lab(ROOMS, [], config={"logLevel": "ERROR"})
    other.close()
    assert set(Path(tempfile.gettempdir()).glob("dmlab_temp_folder_*")) == before


def test_pictures_are_missed_by_the_reset(make: Any) -> None:
    lab = make("contributed/dmlab30/psychlab_continuous_recognition", (), {"datasetPath": ""})
    with pytest.raises(RuntimeError):
        lab.reset(seed=1)
    assert make("contributed/dmlab30/psychlab_continuous_recognition", (), {"datasetPath": "dummy"}).reset(seed=1)


@pytest.mark.parametrize("name", ["double", REAL])
def test_a_lie_about_the_cache_is_fatal(name: str, tmp_path: Path) -> None:
    lie = (
        "import deepmind_lab\n"
        "class Lie:\n"
        "    def fetch(self, key, path): return True\n"
        "    def write(self, key, path): pass\n"
        f"deepmind_lab.Lab('{MAZE}', [], level_cache=Lie()).reset(seed=1)\n"
    )
    path = os.pathsep.join([str(FAKE)] * (name == "double") + sys.path)
    environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", lie], env=environment, capture_output=True)
    assert ended.returncode != 0
    assert b"Traceback" not in ended.stderr
    assert len(list(tmp_path.glob("dmlab_temp_folder_*"))) == 1, "it leaves the folder that it made behind"
