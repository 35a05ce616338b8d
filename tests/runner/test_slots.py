"""Which GPUs and cores a job gets, and what it is told when there is no room."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_runner.basics.errors import UsageError
from sf_runner.slots.cores import Core, CpuTopology
from sf_runner.slots.devices import GpuInfo, GpuProcess, GpuSnapshot
from sf_runner.slots.gpu_memory import LearnedPeaks
from sf_runner.slots.placement import ANYWHERE, Placement
from sf_runner.slots.table import SlotSetup, SlotTable, on_lost_gpu
from sf_runner.slots.types import NoRoom, Occupant, SlotPolicy, SlotRequest

ONE = SlotRequest()
CPUS = CpuTopology(cores=tuple(Core(cpus=(i, i + 4)) for i in range(4)))


def gpu(index: int, *, free: int | None = 40_000, used: int = 0, **values: object) -> GpuInfo:
    info = GpuInfo(
        uuid=f"GPU-{index}",
        index=index,
        name="A100",
        memory_total_mb=40_000,
        memory_free_mb=None if free is None else free - used,
        memory_used_mb=None if free is None else 40_000 - free + used,
        processes=(),
    )
    return replace(info, **values)  # type: ignore[arg-type]


def mig(place: int, total: int = 10_000) -> GpuInfo:
    return GpuInfo(
        uuid=f"MIG-{place}",
        index=3,
        mig="GPU-3",
        mig_index=place,
        memory_total_mb=total,
        memory_free_mb=total,
        memory_used_mb=0,
    )


def snapshot(*gpus: GpuInfo) -> GpuSnapshot:
    return GpuSnapshot(gpus=gpus, driver="550")


FOUR = snapshot(gpu(0), gpu(1), gpu(2), gpu(3))


def make(policy: SlotPolicy, gpus: GpuSnapshot = FOUR, topology: CpuTopology = CPUS) -> SlotTable:
    return SlotSetup.create(policy, gpus, topology).table(gpus)


def place(table: SlotTable, request: SlotRequest = ONE) -> tuple[Placement, SlotTable]:
    placed = table.place(request)
    assert not isinstance(placed, NoRoom), placed.reason
    return placed.placement, placed.table


def fill(table: SlotTable, request: SlotRequest = ONE) -> list[Placement]:
    """Place until there is no room."""
    placements = []
    while not isinstance(placed := table.place(request), NoRoom):
        placements.append(placed.placement)
        table = placed.table
    return placements


def refusal(table: SlotTable, request: SlotRequest = ONE) -> tuple[str, str]:
    placed = table.place(request)
    assert isinstance(placed, NoRoom)
    return placed.kind, placed.reason


def test_spreads_over_the_gpus_least_loaded_first() -> None:
    indices = [p.gpu_indices[0] for p in fill(make(SlotPolicy(experiments_per_gpu=2)))]
    assert indices == [0, 1, 2, 3, 0, 1, 2, 3]


def test_a_job_gets_its_device_by_uuid_in_pci_order() -> None:
    placement, _ = place(make(SlotPolicy()))
    assert placement.env == {"CUDA_VISIBLE_DEVICES": "GPU-0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    two, _ = place(make(SlotPolicy(gpus=("3", "1"))), SlotRequest(gpus=2))
    assert two.env["CUDA_VISIBLE_DEVICES"] == "GPU-1,GPU-3"
    assert two.env["MUJOCO_EGL_DEVICE_ID"] == "1"


def test_what_draws_through_egl_does_so_on_the_jobs_own_gpu() -> None:
    table = make(SlotPolicy(gpus=("2",)))
    assert place(table)[0].env["MUJOCO_EGL_DEVICE_ID"] == "2"
    own = SlotRequest(user_env=frozenset({("MUJOCO_EGL_DEVICE_ID", "0")}))
    assert "MUJOCO_EGL_DEVICE_ID" not in place(table, own)[0].env
    inherited = SlotPolicy(gpus=("2",), environ={"MUJOCO_EGL_DEVICE_ID": "1"})
    assert "MUJOCO_EGL_DEVICE_ID" not in place(make(inherited))[0].env


def test_indices_for_programs_that_read_numbers_but_never_for_mig() -> None:
    gpus = snapshot(gpu(0), gpu(2), mig(0))
    placements = fill(make(SlotPolicy(gpu_ids="index"), gpus))
    assert [p.env["CUDA_VISIBLE_DEVICES"] for p in placements] == ["0", "2", "MIG-0"]


def test_order_of_preference() -> None:
    placements = fill(make(SlotPolicy(gpus=("2", "GPU-0"), experiments_per_gpu=2)))
    assert [p.gpu_indices[0] for p in placements] == [2, 0, 2, 0]


def test_inherited_visible_devices_are_respected() -> None:
    policy = SlotPolicy(environ={"CUDA_VISIBLE_DEVICES": "3,2"})
    assert [p.gpu_indices[0] for p in fill(make(policy))] == [3, 2]
    with pytest.raises(UsageError, match="GPU 0 is hidden by CUDA_VISIBLE_DEVICES"):
        make(replace(policy, gpus=("0",)))
    hidden = make(SlotPolicy(environ={"CUDA_VISIBLE_DEVICES": ""}))
    assert place(hidden)[0] == ANYWHERE
    assert refusal(hidden, SlotRequest(gpus=1)) == ("never", "it needs 1 GPU, this run has 0")


def test_minus_one_leaves_the_variable_alone() -> None:
    setup = SlotSetup.create(SlotPolicy(experiments_per_gpu=-1, num_gpus=4), FOUR, CPUS)
    assert setup.notes == ("--num_gpus=4 has no effect with --experiments_per_gpu=-1.",)
    assert place(setup.table(FOUR), SlotRequest(gpus=2))[0] == ANYWHERE


def test_a_job_without_gpus_among_gpus_sees_none() -> None:
    assert place(make(SlotPolicy()), SlotRequest(gpus=0))[0].env == {"CUDA_VISIBLE_DEVICES": "-1"}
    assert place(make(SlotPolicy(num_gpus=0)))[0].env == {"CUDA_VISIBLE_DEVICES": "-1"}
    assert place(make(SlotPolicy(), GpuSnapshot()))[0] == ANYWHERE


@pytest.mark.parametrize(
    ("policy", "gpus", "message"),
    [
        (
            SlotPolicy(num_gpus=4, environ={"CUDA_VISIBLE_DEVICES": "2,3"}),
            FOUR,
            "--num_gpus=4, but only 2 GPUs of 4 can be used here (CUDA_VISIBLE_DEVICES=2,3). Lower it or leave it out.",
        ),
        (
            SlotPolicy(num_gpus=2, gpus=("1",)),
            FOUR,
            "--num_gpus=2, but only 1 GPU of 4 can be used here (--gpus=1). Lower it or leave it out.",
        ),
        (
            SlotPolicy(num_gpus=1),
            GpuSnapshot(),
            "--num_gpus=1, but no GPU was found here. Leave --num_gpus out to use cores.",
        ),
        (
            SlotPolicy(experiments_per_gpu=0),
            FOUR,
            "--experiments_per_gpu=0: give at least 1, or -1 to leave CUDA_VISIBLE_DEVICES alone.",
        ),
        (
            SlotPolicy(gpu_memory_mb=50_000),
            FOUR,
            "--gpu_memory_per_experiment=50000 MB: the largest GPU here has 40000 MB.",
        ),
        (
            SlotPolicy(cpus_per_experiment=9),
            FOUR,
            "--cpus_per_experiment=9: give 1 to 8, the CPUs this process may use.",
        ),
        (
            SlotPolicy(experiments_per_gpu=-1, gpu_exclude_busy=True),
            FOUR,
            "--gpu_exclude_busy needs GPUs to be handed out: set --experiments_per_gpu to 1 or more, not to -1.",
        ),
    ],
)
def test_what_cannot_be_had_is_one_clear_line(policy: SlotPolicy, gpus: GpuSnapshot, message: str) -> None:
    with pytest.raises(UsageError) as error:
        SlotSetup.create(policy, gpus, CPUS)
    assert str(error.value) == message


def test_notes_name_what_is_left_out_or_risky_and_not_already_told_by_the_probe() -> None:
    gpus = snapshot(gpu(0, lost=True), gpu(1, compute_mode="prohibited"), gpu(2, compute_mode="exclusive"), gpu(3))
    setup = SlotSetup.create(SlotPolicy(experiments_per_gpu=2), gpus, CPUS)
    assert setup.gpu_uuids == ("GPU-2", "GPU-3")
    assert [note.split(":")[0] for note in setup.notes] == [
        "GPU 1 is in compute mode PROHIBITED and is left out (`nvidia-smi -i 1 -c DEFAULT`).",
        "GPU 2 is in compute mode EXCLUSIVE_PROCESS",
    ]


def test_memory_admission_counts_what_was_promised_since_the_snapshot() -> None:
    policy = SlotPolicy(experiments_per_gpu=9, gpu_memory_mb=15_000)
    table = make(policy, snapshot(gpu(0), gpu(1, used=20_000)))
    placements = fill(table)
    # Whoever uses 20 GB of GPU 1 counts as one job there.
    assert [p.gpu_indices[0] for p in placements] == [0, 0, 1]
    assert [p.room_mb for p in placements] == [40_000, 25_000, 20_000]
    _, full = place(place(place(table)[1])[1])
    assert refusal(full) == (
        "memory",
        "no GPU has 15000 MB of memory left, GPU 0 has 10000 MB",
    )
    # A smaller one still fits; one that no GPU could hold never will.
    assert place(full, SlotRequest(gpu_memory_mb=9_000))[0].gpu_indices == (0,)
    assert refusal(full, SlotRequest(gpu_memory_mb=41_000))[0] == "never"


def test_memory_that_is_not_reported_is_not_checked() -> None:
    gpus = snapshot(gpu(0, free=None, memory_total_mb=None))
    setup = SlotSetup.create(SlotPolicy(experiments_per_gpu=2, gpu_memory_mb=10), gpus, CPUS)
    assert setup.notes == ("GPU 0: memory is not reported, --gpu_memory_per_experiment is not checked there.",)
    assert len(fill(setup.table(gpus))) == 2


def test_learned_peaks_reserve_memory_for_the_same_configuration() -> None:
    setup = SlotSetup.create(SlotPolicy(experiments_per_gpu=9), snapshot(gpu(0)), CPUS)
    table = setup.table(snapshot(gpu(0)), peaks=LearnedPeaks().observed("big", 15_000))
    assert len(fill(table, SlotRequest(config="big"))) == 2
    assert len(fill(table, SlotRequest(config="other"))) == 9
    asked = [SlotRequest(config="big", gpu_memory_mb=mb) for mb in (1000, 15_000)]
    # One that was seen to need more than it asks for is given more.
    assert [place(table, request)[0].memory_mb for request in asked] == [16_500, 15_000]


def test_after_an_out_of_memory_the_roomiest_gpu_with_more_than_there_was() -> None:
    policy = SlotPolicy(experiments_per_gpu=2)
    table = make(policy, snapshot(gpu(0, used=30_000), gpu(1, used=5_000), gpu(2, used=20_000)))
    placement, after = place(table, SlotRequest(roomier_than_mb=10_000))
    assert (placement.gpu_indices, placement.room_mb, placement.memory_mb) == ((1,), 35_000, 10_001)
    assert after.gpus[1].room_mb == 24_999
    # Nothing roomier than an empty GPU of the largest kind: that one is taken, loaded ones are not.
    busy = make(policy, snapshot(gpu(0), gpu(1)))
    _, busy = place(busy)
    assert place(busy, SlotRequest(roomier_than_mb=40_000))[0].gpu_indices == (1,)
    _, busy = place(busy)
    assert refusal(busy, SlotRequest(roomier_than_mb=40_000)) == (
        "memory",
        "it ran out of GPU memory with 40000 MB to be had and needs more, or a GPU of its own",
    )


def test_jobs_of_several_gpus_share_fairly() -> None:
    table = make(SlotPolicy(experiments_per_gpu=2))
    _, table = place(table)
    placement, table = place(table, SlotRequest(gpus=2))
    assert placement.gpu_indices == (1, 2)
    assert place(table, SlotRequest(gpus=4))[0].gpu_indices == (0, 1, 2, 3)
    assert refusal(table, SlotRequest(gpus=5)) == ("never", "it needs 5 GPUs, this run has 4")


def test_mig_instances_are_slots_but_never_combined() -> None:
    table = make(SlotPolicy(), snapshot(gpu(0), mig(0), mig(1)))
    placements = fill(table)
    assert [p.gpu_uuids for p in placements] == [("GPU-0",), ("MIG-0",), ("MIG-1",)]
    assert [p.label for p in placements] == ["GPU 0", "GPU 3 MIG 0", "GPU 3 MIG 1"]
    assert Placement.from_json(placements[2].to_json()) == placements[2]
    assert refusal(table, SlotRequest(gpus=2)) == (
        "never",
        "it needs 2 GPUs, this run has 1 (a MIG instance cannot be one of several)",
    )
    assert place(table, SlotRequest(gpu_memory_mb=20_000))[0].gpu_uuids == ("GPU-0",)


def test_busy_gpus_are_avoided_and_within_num_gpus_another_is_taken() -> None:
    stranger = (GpuProcess(pid=7, memory_mb=3000),)
    gpus = snapshot(gpu(0, used=3000, processes=stranger), gpu(1), gpu(2), gpu(3))
    policy = SlotPolicy(experiments_per_gpu=2, gpu_exclude_busy=True, num_gpus=2)
    assert [p.gpu_indices[0] for p in fill(make(policy, gpus))] == [1, 2, 1, 2]
    only = make(SlotPolicy(gpu_exclude_busy=True, gpus=("0",)), gpus)
    assert refusal(only) == ("busy", "others use the GPUs (GPU 0: process 7), see --gpu_exclude_busy")
    # Without the flag a busy GPU is only the last choice among equals.
    assert [p.gpu_indices[0] for p in fill(make(SlotPolicy(), gpus))] == [1, 2, 3, 0]


def test_a_lost_gpu_is_withdrawn_and_its_jobs_are_known() -> None:
    setup = SlotSetup.create(SlotPolicy(experiments_per_gpu=1), FOUR, CPUS)
    first, table = place(setup.table(FOUR))
    second, _ = place(table)
    occupants = [Occupant(job="a", placement=first), Occupant(job="b", placement=second)]
    after = snapshot(replace(gpu(0), lost=True), gpu(1), gpu(2))  # GPU 3 is gone altogether
    assert [o.job for o in on_lost_gpu(occupants, after)] == ["a"]
    table = setup.table(after, occupants)
    assert [p.gpu_indices[0] for p in fill(table)] == [2]
    assert refusal(table, SlotRequest(gpus=4)) == (
        "lost",
        "GPU 0 and GPU 3 were lost and no other GPU of this run can take its place",
    )


def test_the_experiments_own_visible_devices_are_its_devices() -> None:
    table = make(SlotPolicy(experiments_per_gpu=1))
    own = SlotRequest(user_env=frozenset({("CUDA_VISIBLE_DEVICES", "3,1")}))
    placement, table = place(table, own)
    assert placement.gpu_indices == (1, 3)
    assert refusal(table, own)[0] == "full"
    assert place(table, SlotRequest(user_env=frozenset({("CUDA_VISIBLE_DEVICES", "")})))[0].gpu_uuids == ()
    kind, reason = refusal(table, SlotRequest(user_env=frozenset({("CUDA_VISIBLE_DEVICES", "9")})))
    assert (kind, reason[:42]) == ("never", "its env_vars: CUDA_VISIBLE_DEVICES=9: '9' ")


def test_release_gives_back_share_and_cores_but_memory_only_with_the_next_snapshot() -> None:
    policy = SlotPolicy(gpu_memory_mb=30_000, experiments_per_gpu=2, cpus_per_experiment=8)
    table = make(policy, snapshot(gpu(0)))
    placement, taken = place(table)
    assert refusal(taken, SlotRequest(gpu_memory_mb=1000))[0] == "cores"
    freed = taken.release(placement)
    assert (freed.free_cpus, freed.cpus_taken, freed.gpus[0].jobs) == (CPUS.cpus, 0, 0)
    assert refusal(freed)[0] == "memory"
    bare = make(SlotPolicy(), GpuSnapshot())
    assert bare.release(place(bare)[0]) is bare


def test_cores_are_disjoint_near_the_gpu_and_within_the_quota() -> None:
    nodes = CpuTopology(cores=tuple(Core(cpus=(i, i + 4), numa_node=i // 2) for i in range(4)), quota_cpus=6.5)
    gpus = snapshot(gpu(0, numa_node=1), gpu(1, numa_node=0))
    table = make(SlotPolicy(experiments_per_gpu=4, cpus_per_experiment=2), gpus, nodes)
    assert [p.cores for p in fill(table)] == [(2, 6), (0, 4), (3, 7)]
    assert refusal(place(place(place(table)[1])[1])[1]) == ("cores", "2 CPUs are needed, 0 are free")
    assert refusal(table, SlotRequest(cpus=7)) == ("never", "it needs 7 CPUs, this run has 6")


@pytest.mark.parametrize(
    ("environ", "own", "expected"),
    [
        ({}, {}, {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}),
        ({"MKL_NUM_THREADS": "1"}, {}, {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": None}),
        ({"OMP_NUM_THREADS": "1"}, {}, {"OMP_NUM_THREADS": None, "MKL_NUM_THREADS": None}),
        ({}, {"OMP_NUM_THREADS": "1"}, {"OMP_NUM_THREADS": None, "MKL_NUM_THREADS": None}),
    ],
)
def test_thread_counts_follow_the_cores_unless_the_user_set_them(
    environ: dict[str, str], own: dict[str, str], expected: dict[str, str | None]
) -> None:
    table = make(SlotPolicy(cpus_per_experiment=2, environ=environ), GpuSnapshot())
    placement, _ = place(table, SlotRequest(user_env=frozenset(own.items())))
    assert {name: placement.env.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("policy", "gpus", "count"),
    [
        (SlotPolicy(experiments_per_gpu=3), FOUR, 12),
        (SlotPolicy(experiments_per_gpu=3, num_gpus=2), FOUR, 6),
        (SlotPolicy(experiments_per_gpu=3, num_gpus=2, gpu_exclude_busy=True), FOUR, 6),
        (SlotPolicy(experiments_per_gpu=3, cpus_per_experiment=2), FOUR, 4),
        (SlotPolicy(experiments_per_gpu=-1), FOUR, 8),
        (SlotPolicy(), GpuSnapshot(), 8),
        (SlotPolicy(cpus_per_experiment=3), GpuSnapshot(), 2),
    ],
)
def test_default_max_parallel(policy: SlotPolicy, gpus: GpuSnapshot, count: int) -> None:
    assert SlotSetup.create(policy, gpus, CPUS).default_max_parallel == count


def test_a_placement_survives_json_and_reads_well() -> None:
    policy = SlotPolicy(cpus_per_experiment=3, gpu_memory_mb=100)
    placement, _ = place(make(policy), SlotRequest(gpus=2))
    assert Placement.from_json(json.loads(json.dumps(placement.to_json()))) == placement
    assert placement.label == "GPUs 0-1, cores 0-1,4"
    assert Placement.from_json({**placement.to_json(), "of_the_future": 1}) == placement
    assert (ANYWHERE.to_json(), Placement.from_json({}), ANYWHERE.label) == ({}, ANYWHERE, "")


def test_a_restarted_runner_counts_the_jobs_it_finds() -> None:
    policy = SlotPolicy(experiments_per_gpu=1, cpus_per_experiment=2)
    placement, _ = place(make(policy))
    again = SlotSetup.create(policy, FOUR, CPUS).table(FOUR, [Occupant(job="a", placement=placement)])
    other = fill(again)
    assert [p.gpu_indices[0] for p in other] == [1, 2, 3]
    assert not any(set(p.cores) & set(placement.cores) for p in other)


REQUESTS = st.lists(
    st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(1, 5)), st.integers(0, 3)), max_size=40
)


@settings(max_examples=150, deadline=None)
@given(per_gpu=st.integers(1, 4), quota=st.one_of(st.none(), st.floats(0.5, 10)), steps=REQUESTS)
def test_never_too_many_on_a_gpu_and_cores_always_disjoint(
    per_gpu: int, quota: float | None, steps: list[tuple[int, int | None, int]]
) -> None:
    topology = CpuTopology(cores=CPUS.cores, quota_cpus=quota)
    table = make(SlotPolicy(experiments_per_gpu=per_gpu), FOUR, topology)
    held: list[Placement] = []
    for gpus, cpus, ended in steps:
        placed = table.place(SlotRequest(gpus=gpus, cpus=cpus))
        if not isinstance(placed, NoRoom):
            table = placed.table
            held.append(placed.placement)
            assert len(placed.placement.gpu_uuids) == gpus
            assert len(placed.placement.cores) == (cpus or 0)
        elif placed.kind != "never" and held and ended:
            table = table.release(held.pop(ended % len(held)))
        for index in range(4):
            assert sum(index in p.gpu_indices for p in held) == table.gpus[index].jobs <= per_gpu
        cores = [cpu for p in held for cpu in p.cores]
        assert len(cores) == len(set(cores)) == table.cpus_taken <= topology.num_cpus
        assert table.free_cpus == topology.cpus - set(cores)
