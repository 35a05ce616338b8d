"""CPUs that a container allows, and the defaults that follow from them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import sf_algo.cpus
from sf_algo.config.sampling import SamplingConfig
from sf_algo.cpus import cpu_quota, usable_cpus
from sf_algo.processes.threads import prepare_threads
from sf_algo.processes.torch_threads import TorchThreads


def put(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def version_1(folder: str, quota: str, period: str = "100000") -> dict[str, str]:
    return {f"sys/fs/cgroup/{folder}cpu.cfs_quota_us": quota, f"sys/fs/cgroup/{folder}cpu.cfs_period_us": period}


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/"}, None),
        # version 2: in a container, in nested groups, without a limit, with nonsense
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2.0),
        ({"proc/self/cgroup": "0::/docker/01", "sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        ({"proc/self/cgroup": "0::/../other", "sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        (
            {
                "proc/self/cgroup": "0::/user/job",
                "sys/fs/cgroup/user/cpu.max": "250000 100000",
                "sys/fs/cgroup/user/job/cpu.max": "400000 100000",
            },
            2.5,
        ),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ({"proc/self/cgroup": "nonsense\n0::/", "sys/fs/cgroup/cpu.max": "a b"}, None),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "100000 0"}, None),
        # version 1: one mount for two controllers, a mount of its own, the host's path in a container, no limit
        ({"proc/self/cgroup": "4:cpu,cpuacct:/a", **version_1("cpu,cpuacct/a/", "300000")}, 3.0),
        ({"proc/self/cgroup": "5:memory:/a\n4:cpu,cpuacct:/a\n0::/", **version_1("cpu/a/", "50000")}, 0.5),
        ({"proc/self/cgroup": "4:cpu:/docker/01", **version_1("cpu/", "200000")}, 2.0),
        ({"proc/self/cgroup": "4:cpu:/", **version_1("cpu/", "-1")}, None),
    ],
)
def test_the_quota_of_cgroups(files: dict[str, str], quota: float | None, tmp_path: Path) -> None:
    put(tmp_path, files)
    assert cpu_quota(tmp_path) == quota


def test_this_machine_can_be_asked() -> None:
    assert usable_cpus() >= 1


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """2 CPUs of 64."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    put(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "200000 100000"})
    monkeypatch.setattr(sf_algo.cpus.usable_cpus, "__defaults__", (tmp_path,))
    monkeypatch.setattr(sf_algo.cpus.cpu_quota, "__defaults__", (tmp_path,))
    return tmp_path


@pytest.mark.parametrize(
    ("limit", "cpus"),
    [("200000 100000", 2), ("250000 100000", 2), ("50000 100000", 1), ("max 100000", 64), ("9900000 100000", 64)],
)
def test_what_a_container_allows(container: Path, limit: str, cpus: int) -> None:
    put(container, {"sys/fs/cgroup/cpu.max": limit})
    assert usable_cpus() == cpus


@pytest.mark.usefixtures("container")
def test_workers_and_threads_keep_to_what_the_container_allows() -> None:
    sampling = SamplingConfig()
    assert sampling.num_workers == 2
    assert TorchThreads.beside(sampling) == TorchThreads(acting=1, learner=1)
    assert TorchThreads.in_turn(sampling, has_images=True) == TorchThreads(acting=1, learner=2)
    environment: dict[str, str] = {}
    prepare_threads(environment)
    assert environment["OMP_NUM_THREADS"] == "2"
    chosen = {"OMP_NUM_THREADS": "5"}
    prepare_threads(chosen)
    assert chosen["OMP_NUM_THREADS"] == "5"


def test_where_gpus_compute_torch_takes_no_cores_from_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sf_algo.processes.torch_threads.usable_cpus", lambda: 16)
    one = TorchThreads(acting=1, learner=1)
    for sampling in (SamplingConfig(num_workers=2), SamplingConfig(num_workers=2, learner_main_loop_num_cores=8)):
        assert TorchThreads.beside(sampling, num_learners=2, on_gpu=True) == one
        assert TorchThreads.in_turn(sampling, has_images=True, on_gpu=True) == one
    assert TorchThreads.beside(SamplingConfig(num_workers=2)) == TorchThreads(acting=4, learner=8)


def test_without_a_quota_libraries_choose_themselves(container: Path) -> None:
    put(container, {"sys/fs/cgroup/cpu.max": "max 100000"})
    environment: dict[str, str] = {}
    prepare_threads(environment)
    assert "OMP_NUM_THREADS" not in environment
