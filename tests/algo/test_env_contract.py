"""One contract for every environment: what the spec says is what is written, ends, repeats and closes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sf_algo.envs.factory import make_env
from sf_algo.envs.spec import Env, SupportsRender
from sf_algo.errors import MissingDependencyError
from tests.algo.env_cases import CASES, EnvCase

Step = tuple[list[bytes], list[float], list[bool], list[bool]]

PARAMETERS = [
    pytest.param(case, marks=[pytest.mark.doom] if case.is_doom else [], id=f"{i}-{case}")
    for i, case in enumerate(CASES)
]


def open_env(case: EnvCase) -> Env:
    try:
        return make_env(case.name, case.sections)
    except MissingDependencyError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=PARAMETERS)
def case(request: pytest.FixtureRequest) -> EnvCase:
    found = request.param
    assert isinstance(found, EnvCase)
    return found


@pytest.fixture(scope="module")
def env(case: EnvCase) -> Iterator[Env]:
    """One for all tests of a case: starting a game engine takes longer than playing it."""
    env = open_env(case)
    yield env
    env.close()


def actions_for(env: Env, steps: int, seed: int = 0) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return [env.spec.actions.sample(rng, env.spec.num_agents) for _ in range(steps)]


def play(env: Env, seed: int | None, steps: int, *, filler: int = 0) -> list[Step]:
    """Plays with the same actions every time; rows are filled with garbage before each write."""
    rows = env.spec.empty_rows()

    def spoil() -> None:
        for row in rows:
            for array in row.values():
                array[...] = filler

    def seen() -> list[bytes]:
        return [array.tobytes() for row in rows for array in row.values()]

    spoil()
    env.reset(rows, seed=seed)
    trace: list[Step] = [(seen(), [], [], [])]
    for actions in actions_for(env, steps):
        spoil()
        result = env.step(actions, rows)
        rewards, terminated, truncated = (result.rewards, result.terminated, result.truncated)
        trace.append((seen(), rewards.tolist(), terminated.tolist(), truncated.tolist()))
        if terminated[0] or truncated[0]:
            spoil()
            env.reset(rows)
            trace.append((seen(), [], [], []))
    return trace


def test_all_that_the_spec_names_is_written_and_nothing_else(env: Env) -> None:
    assert env.spec.obs, "an environment observes something"
    assert play(env, 5, 12, filler=0) == play(env, 5, 12, filler=77)


def test_results_have_the_promised_shapes(env: Env, case: EnvCase) -> None:
    agents = env.spec.num_agents
    rows = env.spec.empty_rows()
    env.reset(rows, seed=1)
    for actions in actions_for(env, 20):
        result = env.step(actions, rows)
        assert result.rewards.shape == (agents,)
        assert result.rewards.dtype == np.float32
        assert np.isfinite(result.rewards).all()
        for flags in (result.terminated, result.truncated, result.active):
            assert flags.shape == (agents,)
            assert flags.dtype == np.bool_
        if result.terminated.any() or result.truncated.any():
            env.reset(rows)
    assert env.spec.frameskip == (case.sections.env.env_frameskip or env.spec.frameskip)


def test_a_seed_makes_episodes_repeatable_whatever_came_before(env: Env, case: EnvCase) -> None:
    first = play(env, 11, 25)
    play(env, None, 5)
    assert play(env, 11, 25) == first
    other = open_env(case)
    try:
        assert play(other, 11, 25) == first
        if case.seed_matters:
            assert play(other, 12, 25) != first
    finally:
        other.close()


def test_episodes_end_and_say_so_once(env: Env, case: EnvCase) -> None:
    if case.ends_within is None:
        pytest.skip("no bound on the length of an episode is known")
    rows = env.spec.empty_rows()
    for seed in (2, None):
        env.reset(rows, seed=seed)
        for actions in actions_for(env, case.ends_within):
            result = env.step(actions, rows)
            ended = bool(result.terminated[0] or result.truncated[0])
            assert (result.episode is not None) == ended
            if ended:
                break
        assert ended, f"no end within {case.ends_within} steps"


def test_frames_to_watch_are_colour_images(env: Env, case: EnvCase) -> None:
    if not (case.is_doom or case.name.startswith("atari_")):
        pytest.skip("draws only when made with a render mode")
    assert isinstance(env, SupportsRender)
    env.reset(env.spec.empty_rows(), seed=1)
    frame = env.render()
    assert frame is not None
    assert frame.dtype == np.uint8
    assert frame.shape[2] == 3
    assert frame.std() > 0


def belongings() -> tuple[Any, ...]:
    """What a process can leave behind: descriptors, children, shared memory of its own."""
    own = Path(f"/proc/{os.getpid()}")
    children = " ".join(path.read_text() for path in own.glob("task/*/children")).split()
    segments = {line.split()[-1] for line in (own / "maps").read_text().splitlines() if "/dev/shm/" in line}
    return len(list((own / "fd").iterdir())), sorted(children), sorted(segments)


def test_closing_leaves_nothing(env: Env, case: EnvCase) -> None:
    env.reset(env.spec.empty_rows())  # what a library opens for good is open before we look
    before = belongings()
    other = open_env(case)
    rows = other.spec.empty_rows()
    other.reset(rows, seed=1)
    other.step(actions_for(other, 1)[0], rows)
    other.close()
    other.close()
    assert belongings() == before
