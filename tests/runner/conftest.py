"""Fixtures that several of the runner's tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.runner.harness import RunUnderTest


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., RunUnderTest]]:
    """Makes runs, not yet started, in the test's folder; whatever is left of them is ended afterwards."""
    runs: list[RunUnderTest] = []

    def create(*experiments: str) -> RunUnderTest:
        run = RunUnderTest(tmp_path, *experiments)
        runs.append(run)
        return run

    yield create
    for run in runs:
        run.cleanup()
