"""CPU topology, quotas and the choice of core sets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_runner.slots.cores import Core, CpuTopology, parse_cpu_list, pick_cpus, read_quota, read_topology


def smt(cores: int, *, nodes: int = 1) -> CpuTopology:
    """`cores` physical cores of two threads each: core i has CPUs i and i + cores, as Linux numbers them."""
    per_node = cores // nodes
    return CpuTopology(cores=tuple(Core(cpus=(i, i + cores), numa_node=i // per_node) for i in range(cores)))


def fake_sys(root: Path, topology: CpuTopology) -> None:
    """The files under /sys that describe this topology."""
    for core in topology.cores:
        for cpu in core.cpus:
            folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
            folder.mkdir(parents=True)
            (folder / "thread_siblings_list").write_text(",".join(map(str, core.cpus)) + "\n")
    for node, cores in topology.nodes.items():
        folder = root / f"sys/devices/system/node/node{node}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(",".join(str(c) for core in cores for c in core.cpus) + "\n")


@pytest.mark.parametrize(("text", "cpus"), [("0-2,8", (0, 1, 2, 8)), ("5\n", (5,)), ("", ())])
def test_parse_cpu_list(text: str, cpus: tuple[int, ...]) -> None:
    assert parse_cpu_list(text) == cpus


def test_reads_siblings_and_nodes_within_the_affinity_mask(tmp_path: Path) -> None:
    fake_sys(tmp_path, smt(4, nodes=2))
    topology = read_topology(root=tmp_path, affinity={1, 2, 3, 6, 7})
    assert topology.cores == (
        Core(cpus=(1,), numa_node=0),
        Core(cpus=(2, 6), numa_node=1),
        Core(cpus=(3, 7), numa_node=1),
    )
    assert topology.num_cpus == 5


def test_a_machine_that_tells_nothing_has_single_threaded_cores(tmp_path: Path) -> None:
    topology = read_topology(root=tmp_path, affinity={4, 5})
    assert topology.cores == (Core(cpus=(4,)), Core(cpus=(5,)))
    assert topology.quota_cpus is None


def test_reads_this_machine() -> None:
    topology = read_topology()
    assert topology.cpus == os.sched_getaffinity(0)
    assert 1 <= topology.num_cpus <= len(topology.cpus)


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def test_quota_of_cgroups_version_2_is_the_least_of_all_levels(tmp_path: Path) -> None:
    put(tmp_path / "proc/self/cgroup", "0::/user/job")
    put(tmp_path / "sys/fs/cgroup/cpu.max", "max 100000")
    put(tmp_path / "sys/fs/cgroup/user/cpu.max", "250000 100000")
    put(tmp_path / "sys/fs/cgroup/user/job/cpu.max", "400000 100000")
    assert read_quota(tmp_path) == 2.5


def test_quota_of_a_container_that_sees_only_its_own_level(tmp_path: Path) -> None:
    put(tmp_path / "proc/self/cgroup", "0::/docker/0123")
    put(tmp_path / "sys/fs/cgroup/cpu.max", "150000 100000")
    assert read_quota(tmp_path) == 1.5


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_quota_of_cgroups_version_1(tmp_path: Path, mount: str) -> None:
    put(tmp_path / "proc/self/cgroup", "5:memory:/a\n4:cpu,cpuacct:/slice\n0::/")
    put(tmp_path / "sys/fs/cgroup" / mount / "slice/cpu.cfs_quota_us", "300000")
    put(tmp_path / "sys/fs/cgroup" / mount / "slice/cpu.cfs_period_us", "100000")
    put(tmp_path / "sys/fs/cgroup" / mount / "cpu.cfs_quota_us", "-1")
    put(tmp_path / "sys/fs/cgroup" / mount / "cpu.cfs_period_us", "100000")
    assert read_quota(tmp_path) == 3.0


@pytest.mark.parametrize(("quota", "count"), [(None, 8), (2.9, 2), (0.4, 1), (100.0, 8)])
def test_the_quota_limits_what_can_be_handed_out(quota: float | None, count: int) -> None:
    assert CpuTopology(cores=smt(4).cores, quota_cpus=quota).num_cpus == count


def test_whole_physical_cores_first() -> None:
    topology = smt(4)  # cores (0,4) (1,5) (2,6) (3,7)
    assert pick_cpus(topology, range(8), 2) == (0, 4)
    assert pick_cpus(topology, range(8), 3) == (0, 1, 4)
    # A thread is left over on core 1: one CPU is taken there rather than from a whole core.
    assert pick_cpus(topology, {2, 3, 5, 6, 7}, 1) == (5,)
    # Two CPUs are a whole core, although two begun cores could give one each.
    assert pick_cpus(topology, {0, 1, 2, 6}, 2) == (2, 6)
    assert pick_cpus(topology, {0, 1}, 2) == (0, 1)
    assert pick_cpus(topology, {0, 1}, 3) is None


def test_one_numa_node_if_possible() -> None:
    topology = smt(4, nodes=2)  # node 0: (0,4) (1,5); node 1: (2,6) (3,7)
    assert pick_cpus(topology, range(8), 4) == (0, 1, 4, 5)
    assert pick_cpus(topology, range(8), 4, near=1) == (2, 3, 6, 7)
    assert pick_cpus(topology, {0, 2, 3, 4, 6, 7}, 2) == (2, 6)  # the emptier node
    assert pick_cpus(topology, {0, 2, 3, 4, 6, 7}, 4, near=0) == (2, 3, 6, 7)  # `near` has too few
    assert pick_cpus(topology, range(8), 6) == (0, 1, 2, 4, 5, 6)


@settings(max_examples=150, deadline=None)
@given(
    cores=st.integers(1, 12),
    nodes=st.sampled_from([1, 2]),
    taken=st.sets(st.integers(0, 23)),
    count=st.integers(1, 24),
)
def test_picks_exactly_what_was_asked_from_what_is_free(cores: int, nodes: int, taken: set[int], count: int) -> None:
    topology = smt(cores * nodes, nodes=nodes)
    free = topology.cpus - taken
    picked = pick_cpus(topology, free, count)
    if count > len(free):
        assert picked is None
    else:
        assert picked is not None
        assert len(set(picked)) == count
        assert set(picked) <= free
        # Never more than one whole core is broken.
        broken = [c for c in topology.cores if len(set(c.cpus) & set(picked)) == 1 and set(c.cpus) <= free]
        assert len(broken) <= 1
