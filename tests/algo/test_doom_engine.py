"""VizDoom with its engine: time limits, crashes, orphans and what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sf_algo.config import EnvConfig
from sf_algo.envs.doom import shm
from sf_algo.envs.factory import EnvSections, make_env
from sf_algo.envs.spec import Env, EnvPlacement
from sf_algo.errors import EnvCrashedError, EnvError
from tests.algo.engines import children_of, instances_of
from tests.algo.waiting import wait_for_end

pytest.importorskip("vizdoom")
pytestmark = pytest.mark.doom

NOOP = np.zeros((1, 1), np.float32)


@pytest.fixture
def basic() -> Iterator[Env]:
    env = make_env("doom_basic", EnvSections(env=EnvConfig(env_frameskip=4)))
    yield env
    env.close()


def started(env: Env) -> tuple[list[dict[str, Any]], int]:
    """Its rows, and the engine's process."""
    before = children()
    rows = env.spec.empty_rows()
    env.reset(rows, seed=1)
    (engine,) = children() - before
    return rows, engine


def children() -> set[int]:
    paths = Path("/proc/self/task").glob("*/children")
    return {int(pid) for path in paths for pid in path.read_text().split()}


def test_a_time_limit_truncates_with_a_real_final_observation(basic: Env) -> None:
    rows, _ = started(basic)
    for step in range(1, 76):
        before = rows[0]["obs"].copy()
        result = basic.step(NOOP, rows)
        assert bool(result.truncated[0]) == (step == 75), "300 tics"
        assert not result.terminated[0]
    assert result.episode == {"true_reward": -300.0}
    assert result.rewards[0] == pytest.approx(-0.04), "scaled by .01"
    assert rows[0]["obs"].std() > 5
    assert abs(rows[0]["obs"].astype(int) - before.astype(int)).mean() < 20, "it follows from the one before"


def test_the_last_step_before_a_limit_is_shorter_where_the_skip_does_not_divide_it() -> None:
    env = make_env("doom_basic", EnvSections(env=EnvConfig(env_frameskip=7)))
    rows = env.spec.empty_rows()
    env.reset(rows, seed=1)
    rewards = [float(env.step(NOOP, rows).rewards[0]) for _ in range(43)]
    env.close()
    assert rewards[:42] == pytest.approx([-0.07] * 42)
    assert rewards[42] == pytest.approx(-0.06)


@pytest.mark.parametrize("resetting", [False, True])
def test_the_death_of_an_engine_is_an_exception_and_a_new_one_works(basic: Env, resetting: bool) -> None:
    rows, engine = started(basic)
    os.kill(engine, signal.SIGKILL)
    wait_for_end(engine)
    again = (lambda: basic.reset(rows)) if resetting else (lambda: basic.step(NOOP, rows))
    with pytest.raises(EnvCrashedError, match="engine of doom_basic died"):
        again()
    basic.reset(rows, seed=1)
    basic.step(NOOP, rows)


def test_an_engine_killed_in_the_middle_of_a_step_is_noticed(basic: Env) -> None:
    rows, engine = started(basic)
    os.kill(engine, signal.SIGSTOP)
    killer = threading.Timer(0.05, os.kill, (engine, signal.SIGKILL))
    killer.start()
    with pytest.raises(EnvCrashedError):
        basic.step(NOOP, rows)
    killer.join()


PLAYER = """
import time
from sf_algo.envs.factory import EnvSections, make_env
env = make_env("doom_basic", EnvSections())
env.reset(env.spec.empty_rows(), seed=1)
print(env._engine._pid, flush=True)
time.sleep(600)
"""


def test_a_killed_player_takes_its_engine_along_and_leaves_no_segment() -> None:
    with subprocess.Popen([sys.executable, "-c", PLAYER], stdout=subprocess.PIPE, text=True) as player:
        assert player.stdout is not None
        pid = int(player.stdout.readline())
        (instance,) = instances_of([pid])
        assert Path(f"/proc/{pid}/maps").read_text().count("/dev/shm/ViZDoom") >= 3
        assert not shm.segments_of(instance), "names are needed no more once the engine has started"
        player.kill()
        player.wait()
        wait_for_end(pid)
    assert not shm.segments_of(instance)


STARTING = """
from sf_algo.config import DoomConfig
from sf_algo.envs.factory import EnvSections, make_env
env = make_env("doom_basic_of_two", EnvSections(doom=DoomConfig(doom_scenarios_dir=%r, num_agents=1, num_humans=1)))
env.reset(env.spec.empty_rows(), seed=1)
"""


def test_what_a_player_leaves_that_is_killed_while_its_engine_starts_is_removed(tmp_path: Path) -> None:
    """It waits for somebody to join, so it starts for as long as one likes."""
    (tmp_path / "basic_of_two.cfg").write_text("doom_scenario_path = basic.wad\navailable_buttons = { ATTACK }\n")
    with subprocess.Popen([sys.executable, "-c", STARTING % str(tmp_path)], stderr=subprocess.PIPE) as player:
        assert player.stderr is not None
        assert b"waiting for a person" in player.stderr.readline()
        while not (found := instances_of(engines := children_of(player.pid))):
            assert player.poll() is None
        (instance,) = found
        queues = [path.name for path in shm.segments_of(instance)]
        assert len(queues) == 2, "the third segment is the engine's"
        shm.remove_dead_segments()
        assert len(shm.segments_of(instance)) == 2, "in use: not ours to remove"
        player.kill()
        player.wait()
        for engine in engines:
            wait_for_end(engine)
    assert set(queues) <= set(shm.remove_dead_segments())
    assert not shm.segments_of(instance)


def test_the_engine_leaves_nothing_in_the_working_folder(
    basic: Env, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    started(basic)
    basic.close()
    assert list(tmp_path.iterdir()) == []


def test_recordings_are_written_and_a_path_the_engine_would_cut_is_refused(tmp_path: Path) -> None:
    short = Path(f"/tmp/sf_rec_{os.getpid()}")
    env = make_env("doom_basic", EnvSections(), EnvPlacement(record_to=str(short)))
    rows = env.spec.empty_rows()
    env.reset(rows, seed=1)
    env.step(NOOP, rows)
    env.reset(rows)
    env.close()
    try:
        assert (short / "e000.lmp").stat().st_size > 0
    finally:
        for file in short.iterdir():
            file.unlink()
        short.rmdir()
    env = make_env("doom_basic", EnvSections(), EnvPlacement(record_to=str(tmp_path / ("x" * 99))))
    with pytest.raises(EnvError, match="--record_to"):
        env.reset(rows, seed=1)
    env.close()


def test_a_window_without_a_display_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    env = make_env("doom_basic", EnvSections(), EnvPlacement(render_mode="human"))
    with pytest.raises(EnvError, match="--no_render"):
        env.reset(env.spec.empty_rows())


def test_engines_inherit_the_cores_of_their_player(basic: Env) -> None:
    cores = os.sched_getaffinity(0)
    one = {min(cores)}
    os.sched_setaffinity(0, one)
    try:
        _, engine = started(basic)
    finally:
        os.sched_setaffinity(0, cores)
    assert os.sched_getaffinity(engine) == one


def test_a_full_shared_memory_is_told_before_the_engine_trips_over_it(
    basic: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        f_bavail, f_frsize = 100, 4096

    monkeypatch.setattr(os, "statvfs", lambda path: Full)
    with pytest.raises(EnvError, match="has 0 MB left"):
        basic.reset(basic.spec.empty_rows())
