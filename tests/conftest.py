"""Settings of the whole test suite, and the Slurm that its parts share."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.runner.slurm_cluster import SlurmCluster

# No deadline: how long an example takes says something about the machine, not about the code. The same examples at
# every run, so that a failure is about the change that was tested.
settings.register_profile("project", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("project")

# Who starts the suite in the background of a script, or under nohup, has it ignore Ctrl-C or the hangup of a terminal,
# and so would every program that the tests start and signal. With a handler here, that does nothing, they do not.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[SlurmCluster]:
    with SlurmCluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def strict_cluster() -> Iterator[SlurmCluster]:
    """Two nodes; accounting is kept, and the limits of accounts and QOS are enforced."""
    with SlurmCluster(limits=True) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: SlurmCluster) -> Iterator[SlurmCluster]:
    """Two nodes with 32 cores and 2 GPUs each; empty."""
    yield shared_cluster
    shared_cluster.clear()
