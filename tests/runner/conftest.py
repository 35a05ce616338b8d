"""One Slurm for all tests that need a plain one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.runner.slurm_cluster import SlurmCluster, why_not


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[SlurmCluster]:
    if why := why_not():
        pytest.skip(why)
    with SlurmCluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: SlurmCluster) -> Iterator[SlurmCluster]:
    """Two nodes with 32 cores and 2 GPUs each; empty."""
    yield shared_cluster
    shared_cluster.clear()
