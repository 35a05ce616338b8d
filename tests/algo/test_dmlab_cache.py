"""The level cache: shared by processes, whole after any kill, never one map for two workers at the same time."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sf_algo.envs.dmlab.level_cache import LevelCache
from sf_algo.envs.dmlab.level_maps import MapStore
from sf_algo.envs.dmlab.level_seeds import SeedDraws, SeedLists
from sf_algo.envs.dmlab.levels import Task, tasks_of
from sf_algo.envs.spec import EnvPlacement
from tests.algo.dmlab_case import ROOT, command_environment, double, lab, play

__all__ = ["double"]
MAZE = "dmlab_explore_goal_locations_small"
(TASK,) = tasks_of(MAZE)
KEY = "explore_maze_noaas_" + "5" * 32
IN_WORKERS = EnvPlacement(reproducible=False)


def pk3(path: Path, size: int = 100) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("maps/x.bsp", os.urandom(size))
    return path


def played(log: Path) -> list[tuple[int, str]]:
    """(seed, key) of the episodes that the double has begun."""
    return [(int(seed), key) for _, _, seed, key in (line.split() for line in log.read_text().splitlines())]


def test_a_map_comes_back_as_it_was(tmp_path: Path) -> None:
    store, other = MapStore(tmp_path / "cache"), MapStore(tmp_path / "cache")
    source = pk3(tmp_path / "a.pk3")
    assert not store.fetch(KEY, tmp_path / "b.pk3")
    assert not (tmp_path / "b.pk3").exists()
    assert store.write(KEY, source)
    assert other.fetch(KEY, tmp_path / "b.pk3")
    assert (tmp_path / "b.pk3").read_bytes() == source.read_bytes()
    assert store.size() == (1, source.stat().st_size)


@pytest.mark.parametrize("key", ["", "../../x_5a", "a/b_5a", ".x_5a", "x_zz"])
def test_keys_that_are_no_names(key: str, tmp_path: Path) -> None:
    assert not MapStore(tmp_path / "cache").write(key, pk3(tmp_path / "a.pk3"))
    assert not MapStore(tmp_path / "cache").holds(key)


def test_a_damaged_map_is_compiled_again(tmp_path: Path) -> None:
    """The engine would die of it."""
    store, source = MapStore(tmp_path), pk3(tmp_path / "a.pk3")
    store.write(KEY, source)
    (kept,) = tmp_path.glob("maps/5/*.pk3")
    kept.write_bytes(source.read_bytes()[:-30])
    assert not store.fetch(KEY, tmp_path / "b.pk3")
    assert not (tmp_path / "b.pk3").exists()
    assert store.write(KEY, source)
    assert store.fetch(KEY, tmp_path / "b.pk3")


def test_a_full_disk_costs_nothing_but_the_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, source = MapStore(tmp_path / "cache"), pk3(tmp_path / "a.pk3")

    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"PK")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    assert not store.write(KEY, source)
    assert not store.write(KEY, source)
    said = capsys.readouterr().err
    assert said.count("note: ") == 1
    assert "No space left on device; free some space" in said
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_bound_is_kept(tmp_path: Path) -> None:
    store, source = MapStore(tmp_path / "cache", max_bytes=16 * 3000), pk3(tmp_path / "a.pk3", 1000)
    kept = [store.write(f"m_noaas_{digit}{number:031d}", source) for digit in "05" for number in range(5)]
    assert sum(kept) == 2 * (3000 // source.stat().st_size)
    assert store.size()[1] <= 16 * 3000


def test_remains_of_the_killed_are_removed(tmp_path: Path) -> None:
    store = MapStore(tmp_path)
    store.write(KEY, pk3(tmp_path / "a.pk3"))
    program = (
        "import os, shutil, sys\nfrom pathlib import Path\nfrom sf_algo.envs.dmlab.level_maps import MapStore\n"
        "def killed(source, target): target.write_bytes(b'PK'); os.kill(os.getpid(), 9)\n"
        "shutil.copyfile = killed\nMapStore(Path(sys.argv[1])).write(sys.argv[2], Path(sys.argv[3]))"
    )
    key = KEY.replace("5" * 32, "5" * 31 + "6")
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), key, str(tmp_path / "a.pk3")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == -signal.SIGKILL
    assert not store.holds(key)
    assert len(list(tmp_path.glob("maps/5/.*"))) == 1
    store.remove_leftovers()
    assert [path.name for path in tmp_path.glob("maps/5/*")] == [f"{KEY}.pk3"]


def test_lists_survive_cut_lines_and_nonsense(tmp_path: Path) -> None:
    lists = SeedLists(tmp_path, TASK)
    assert lists.add(11, ["a_1"])
    (file,) = lists.files()
    with file.open("a") as lines:
        lines.write("rubbish here\n99999999999 a_1\n12 a")
    assert lists.all() == [11]
    assert lists.add(13, ["b_1", "b_2"])
    assert lists.all() == [11, 12, 13], "what was cut off ends where the next one begins"


def test_seeds_are_drawn_once_then_fresh_ones(tmp_path: Path) -> None:
    lists = SeedLists(tmp_path / "cache", TASK)
    for seed in (5, 6, 5):
        lists.add(seed, ["k_1"])
    one, other = (SeedDraws(tmp_path / "experiment", lists, TASK) for _ in range(2))
    assert [one.draw(100), other.draw(100), one.draw(100)] == [(5, True), (6, True), (100, False)]
    lists.add(100, ["k_1"])  # what it has generated itself
    lists.add(7, ["k_1"])  # somebody else's
    again = SeedDraws(tmp_path / "experiment", lists, TASK)
    assert [again.draw(100), again.draw(100)] == [(7, True), (101, False)]
    assert SeedDraws(tmp_path / "second", lists, TASK).draw(1) == (5, True)


def test_a_draw_that_was_killed_in_the_middle_is_not_repeated(tmp_path: Path) -> None:
    lists = SeedLists(tmp_path / "cache", TASK)
    for seed in (5, 6, 7):
        lists.add(seed, ["k_1"])
    draws = SeedDraws(tmp_path, lists, TASK)
    assert draws.draw(1)[0] == 5
    (memory,) = tmp_path.glob("dmlab_levels/*.read")
    memory.unlink()
    (drawn,) = tmp_path.glob("dmlab_levels/*.played")
    with drawn.open("ab") as file:
        file.write(b"\x06\x00")  # half a seed
    assert draws.draw(1)[0] == 6
    assert np.fromfile(drawn, "<u4").tolist() == [5, 6]


def test_settings_of_a_level_have_lists_of_their_own(tmp_path: Path) -> None:
    ((sparse,), (very,)) = (tasks_of(name) for name in ("dmlab_sparse", "dmlab_very_sparse"))
    SeedLists(tmp_path, sparse).add(3, ["k_1"])
    assert SeedLists(tmp_path, very).all() == []


def test_a_cache_of_the_predecessor_is_read(tmp_path: Path, double: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sample Factory 1.x: maps by key in the folder itself, `<seed> <key>` in _<level>.dm_lvl_seeds."""
    monkeypatch.setenv("FAKE_DMLAB_LOG", str(tmp_path / "log"))
    with lab(MAZE, tmp_path / "filled") as env:
        play(env, 5, steps=1)
    seed, key = played(tmp_path / "log")[-1]
    old = tmp_path / "old"
    listed = old / "_contributed" / "dmlab30" / "explore_goal_locations_small.dm_lvl_seeds"
    listed.parent.mkdir(parents=True)
    listed.write_text(f"{seed} {key}\n")
    shutil.copyfile(next((tmp_path / "filled").rglob(f"{key}.pk3")), old / key)
    monkeypatch.setattr("zipfile.ZipFile", None)  # of the compiler
    with lab(MAZE, old, IN_WORKERS, experiment=tmp_path / "experiment") as env:
        env.reset(env.spec.empty_rows(), seed=1)
    assert played(tmp_path / "log")[-1] == (seed, key)
    assert listed.read_text() == f"{seed} {key}\n"


def test_workers_draw_what_is_there_and_add_what_is_new(
    tmp_path: Path, double: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DMLAB_LOG", str(tmp_path / "log"))
    for experiment in ("first", "second"):
        with lab(MAZE, tmp_path / "cache", IN_WORKERS, experiment=tmp_path / experiment) as env:
            for _ in range(3):
                play(env, None, steps=1)
    seeds = [seed for seed, _ in played(tmp_path / "log")]
    assert seeds[:3] == seeds[3:]
    assert len(set(seeds)) == 3
    assert SeedLists(tmp_path / "cache", TASK).all() == seeds[:3]
    assert MapStore(tmp_path / "cache").size()[0] == 3


def test_what_is_not_kept_is_not_listed(tmp_path: Path) -> None:
    cache = LevelCache(tmp_path / "cache", TASK, max_bytes=1)
    cache.begin_episode()
    assert not cache.fetch(KEY, str(tmp_path / "b.pk3"))
    cache.write(KEY, str(pk3(tmp_path / "a.pk3")))
    assert not cache.end_of_reset(4)
    assert SeedLists(tmp_path / "cache", TASK).all() == []


def test_callbacks_of_the_engine_never_raise(tmp_path: Path) -> None:
    cache = LevelCache(tmp_path / "cache", TASK)
    assert cache.fetch("x" * 5000 + "_5", str(tmp_path / "b.pk3")) is False
    cache.write(KEY, "/nowhere/at/all.pk3")
    assert not cache.end_of_reset(1)


WORKER = """
import os, sys, time
from pathlib import Path
from tests.algo.dmlab_case import lab, play
from sf_algo.envs.spec import EnvPlacement
cache, experiment, count = sys.argv[1:]
with lab("dmlab_explore_goal_locations_small", Path(cache), EnvPlacement(reproducible=False),
         experiment=Path(experiment)) as env:
    for _ in range(int(count)):
        play(env, None, steps=1)
"""


@pytest.mark.slow
def test_two_experiments_fill_one_cache_while_workers_are_killed(tmp_path: Path) -> None:
    """No episode is played twice within an experiment, every list and map is whole, and a third one finds them."""
    log, cache = tmp_path / "log", tmp_path / "cache"
    environment = command_environment(FAKE_DMLAB_COMPILE_S="0.01", TMPDIR=str(tmp_path))

    def start(experiment: str, count: int) -> subprocess.Popen[bytes]:
        more = {"FAKE_DMLAB_LOG": str(log.with_suffix(f".{experiment}"))}
        words = [sys.executable, "-c", WORKER, str(cache), str(tmp_path / experiment), str(count)]
        return subprocess.Popen(words, env={**environment, **more})

    doomed = [start(experiment, 10_000) for experiment in ("one", "two")]
    others = [start(experiment, 25) for experiment in ("one", "one", "two", "two")]
    while len(SeedLists(cache, TASK).all()) < 10:
        time.sleep(0.05)
    for process in doomed:
        process.kill()
        process.wait()
    assert [process.wait(timeout=120) for process in others] == [0] * 4
    for experiment in ("one", "two"):
        counts = Counter(played(log.with_suffix(f".{experiment}")))
        assert max(counts.values()) == 1
        assert len(counts) >= 50
    listed = SeedLists(cache, TASK).all()
    store = MapStore(cache)
    lines = [line for file in SeedLists(cache, TASK).files() for line in file.read_text().splitlines()]
    keys = {key for line in lines for key in line.split()[1:]}
    assert all(store.fetch(key, tmp_path / "x.pk3") for key in keys)
    third = start("three", len(listed))
    assert third.wait(timeout=120) == 0
    assert {seed for seed, _ in played(log.with_suffix(".three"))} == set(listed)


def populate(cache: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sf_algo.envs.dmlab.populate_cache", f"--dmlab_level_cache_path={cache}", *words]
    return subprocess.run(command, env=command_environment(**environment), capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_the_cache_is_filled_ahead(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    words = ("--env=dmlab_sparse", "--processes=2")
    ended = populate(cache, *words, "--episodes=3", TMPDIR=str(tmp_path))
    assert (ended.returncode, "3 of 3 episodes" in ended.stdout) == (0, True), ended.stderr
    (task,) = tasks_of("dmlab_sparse")
    first = SeedLists(cache, task).all()
    assert len(first) == 3
    populate(cache, *words, "--episodes=5", TMPDIR=str(tmp_path))
    assert SeedLists(cache, task).all()[:3] == first
    assert len(SeedLists(cache, task).all()) == 5
    assert not list(tmp_path.glob("dmlab_temp_folder_*"))


@pytest.mark.slow
def test_levels_that_end_their_process_are_given_up(tmp_path: Path) -> None:
    ended = populate(
        tmp_path / "cache",
        "--env=dmlab_sparse",
        "--processes=2",
        "--episodes=2",
        FAKE_DMLAB_ABORT="explore_goal_locations_large:1",
        TMPDIR=str(tmp_path),
    )
    assert ended.returncode == 1
    assert "level contributed/dmlab30/explore_goal_locations_large ended its engine with seed" in ended.stderr
    assert "ended the engine, 5 times: given up" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.glob("dmlab_temp_folder_*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--env=dmlab_benchmark"], "nothing is to be compiled"),
        (["--env=dmlab_lt_chasm"], "--for_frames: nobody knows how long episodes of lt_chasm are"),
        (["--env=dmlab_explore_nowhere", "--episodes=1"], "the engine has no level explore_nowhere"),
    ],
)
def test_what_cannot_be_filled_is_told_at_once(words: list[str], message: str, tmp_path: Path) -> None:
    ended = populate(tmp_path / "cache", *words)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert message in ended.stderr
    assert not (tmp_path / "cache").exists()


def test_tasks_can_be_told_apart() -> None:
    assert len({TASK, Task(script=TASK.script), *tasks_of("dmlab_very_sparse")}) == 2
