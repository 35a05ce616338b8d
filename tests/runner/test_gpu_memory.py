"""Whose memory it is, what is still promised, and that no interleaving gives away more than there is."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_runner.slots.cores import Core, CpuTopology
from sf_runner.slots.devices import GpuInfo, GpuProcess, GpuSnapshot
from sf_runner.slots.gpu_memory import (
    Claim,
    GpuUsage,
    LearnedPeaks,
    attribute,
    claims_on,
    others_mb,
    pending_mb,
    room_mb,
    strangers_on,
)
from sf_runner.slots.placement import Placement
from sf_runner.slots.table import SlotSetup, SlotTable, memory_is_back
from sf_runner.slots.types import NoRoom, Occupant, SlotPolicy, SlotRequest

TOTAL = 40_000


def gpu(uuid: str = "GPU-a", *, used: int = 0, processes: tuple[GpuProcess, ...] | None = ()) -> GpuInfo:
    return GpuInfo(
        uuid=uuid,
        index=0,
        memory_total_mb=TOTAL,
        memory_free_mb=TOTAL - used,
        memory_used_mb=used,
        processes=processes,
    )


def process(pid: int | None, memory_mb: int | None) -> GpuProcess:
    return GpuProcess(pid=pid, memory_mb=memory_mb)


def claim(promised: int, used: int | None, others: int | None = 0) -> Claim:
    return Claim(promised_mb=promised, used_mb=used, others_mb=others)


def test_attribute_sums_a_jobs_processes_and_keeps_strangers_apart() -> None:
    snapshot = GpuSnapshot(
        gpus=(
            gpu("GPU-a", processes=(process(1, 100), process(2, 200), process(9, 5000))),
            gpu("GPU-b", processes=(process(1, None),)),
            gpu("GPU-c", processes=None),
        )
    )
    usage = attribute(snapshot, {1: "job", 2: "job"}.get)
    assert usage.jobs == {"job": {"GPU-a": 300, "GPU-b": None}}
    assert usage.others["GPU-a"] == (process(9, 5000),)
    assert usage.known == {"GPU-a"}
    assert [usage.used_by("job", uuid) for uuid in ("GPU-a", "GPU-b", "GPU-c")] == [300, None, None]
    assert usage.used_by("another", "GPU-a") == 0


def test_a_dying_process_stays_its_jobs_while_it_is_listed() -> None:
    snapshot = GpuSnapshot(gpus=(gpu(processes=(process(1, 100),)),))
    alive = attribute(snapshot, {1: "job"}.get)
    dying = attribute(snapshot, lambda pid: None, alive)
    assert dying.jobs == {"job": {"GPU-a": 100}}
    silent = attribute(GpuSnapshot(gpus=(gpu(processes=None),)), lambda pid: None, dying)
    assert attribute(snapshot, lambda pid: None, silent).jobs == {"job": {"GPU-a": 100}}
    gone = attribute(GpuSnapshot(gpus=(gpu(),)), lambda pid: None, dying)
    assert gone.jobs == {}
    reused = attribute(snapshot, lambda pid: None, gone)  # the same id again, another process
    assert reused.jobs == {}


def test_pending_is_what_was_promised_and_not_yet_taken() -> None:
    assert pending_mb(gpu(used=3000), [claim(8000, 3000)]) == 5000
    assert pending_mb(gpu(used=9000), [claim(8000, 9000), claim(4000, 0)]) == 4000
    assert room_mb(gpu(used=3000), [claim(8000, 3000)]) == TOTAL - 8000


def test_pending_is_estimated_where_memory_cannot_be_attributed() -> None:
    # 2000 of the 7000 in use were there before: jobs took 5000 of the 12000 promised.
    claims = [claim(8000, None, others=2000), claim(4000, None, others=2000)]
    assert pending_mb(gpu(used=7000), claims) == 7000
    # One job without a promise: nothing is known about who took what, so everything promised is kept free.
    assert pending_mb(gpu(used=7000), [*claims, claim(0, None, others=2000)]) == 12_000
    assert pending_mb(gpu(used=7000), [claim(8000, None, others=None)]) == 8000


def test_without_a_number_for_free_memory_the_promises_count() -> None:
    blind = GpuInfo(uuid="GPU-a", index=0, memory_total_mb=TOTAL)
    assert room_mb(blind, [claim(8000, None), claim(4000, 6000)]) == TOTAL - 14_000
    assert room_mb(GpuInfo(uuid="GPU-a", index=0), [claim(8000, None)]) is None


def test_while_an_attempt_drains_the_jobs_next_one_counts_as_having_taken_nothing() -> None:
    placement = Placement(gpu_uuids=("GPU-a",), memory_mb=8000, others_mb=(0,))
    usage = GpuUsage(jobs={"job": {"GPU-a": 6000}}, known=frozenset({"GPU-a"}))
    claims = claims_on("GPU-a", [("job", placement, True), ("job", placement, False)], usage)
    assert [c.used_mb for c in claims] == [6000, 0]


@pytest.mark.parametrize(
    ("device", "claims", "usage", "expected"),
    [
        (gpu(used=900), [], None, None),  # a desktop's own use
        (gpu(used=9000, processes=(process(7, 9000),)), [], None, "process 7"),
        (gpu(used=9000, processes=(process(None, 9000), process(None, 1))), [], None, "2 processes"),
        (gpu(used=9000), [], None, "9000 MB in use by processes that cannot be seen"),
        (gpu(used=9000), [claim(0, 8500)], GpuUsage(known=frozenset({"GPU-a"})), None),
        (gpu(used=9000), [claim(0, None, others=50)], None, None),
        (gpu(used=9000), [claim(0, 1)], GpuUsage(others={"GPU-a": (process(7, 1),)}), "process 7"),
    ],
)
def test_strangers(device: GpuInfo, claims: list[Claim], usage: GpuUsage | None, expected: str | None) -> None:
    assert strangers_on(device, claims, usage) == expected


def test_others_are_measured_or_remembered() -> None:
    assert others_mb(gpu(used=9000), [claim(0, 2000), claim(0, 3000)]) == 4000
    assert others_mb(gpu(used=9000), [claim(0, None, others=700), claim(0, None, others=900)]) == 700
    assert others_mb(gpu(used=9000), []) == 9000


def test_learned_peaks_keep_the_largest_and_a_margin() -> None:
    peaks = LearnedPeaks().observed("a", 1000).observed("a", 900).observed("b", 10)
    assert peaks.peaks_mb == {"a": 1000, "b": 10}
    assert peaks.observed("a", 1000) is peaks
    assert [peaks.need_mb(name) for name in ("a", "c", None)] == [1100, 0, 0]


OLD = Placement(gpu_uuids=("GPU-a",), memory_mb=8000, others_mb=(500,))


@pytest.mark.parametrize(
    ("device", "waited_s", "back"),
    [
        (gpu(used=6500, processes=(process(1, 6000),)), 1.0, False),
        (gpu(used=6500, processes=(process(1, 6000),)), 15.0, True),  # bounded
        (gpu(used=500), 0.0, True),
        (gpu(used=500, processes=None), 0.0, True),  # cannot be seen, but nothing more is in use than before
        (gpu(used=6500, processes=None), 1.0, False),
        (gpu(used=6500, processes=None), 3.0, True),
        (GpuInfo(uuid="GPU-a", index=0, lost=True), 0.0, True),
    ],
)
def test_memory_is_back(device: GpuInfo, waited_s: float, back: bool) -> None:
    snapshot = GpuSnapshot(gpus=(device,))
    usage = attribute(snapshot, {1: "job"}.get)
    occupant = Occupant(job="job", placement=OLD, ended=True)
    assert memory_is_back(occupant, snapshot, usage, waited_s=waited_s, policy=SlotPolicy()) is back


def test_memory_is_not_back_by_the_word_of_a_snapshot_from_before_the_end() -> None:
    occupant = Occupant(job="job", placement=OLD, ended=True)
    old = GpuSnapshot(gpus=(gpu(),), age_s=2.0)
    answers = [
        memory_is_back(occupant, old, GpuUsage(), waited_s=waited_s, policy=SlotPolicy()) for waited_s in (1.0, 3.0)
    ]
    assert answers == [False, True]


def test_memory_is_back_for_a_job_without_gpu() -> None:
    occupant = Occupant(job="job", placement=Placement(), ended=True)
    assert memory_is_back(occupant, GpuSnapshot(), GpuUsage(), waited_s=0.0, policy=SlotPolicy())


# No interleaving of starts, growth, ends and late returns gives away more than there is.


@dataclass
class Job:
    name: str
    placement: Placement
    taken_mb: int = 0
    ended_at: int | None = None


@dataclass
class Machine:
    """The truth about two GPUs, of which the runner sees only snapshots."""

    told: bool
    """Whether the driver tells whose memory it is."""
    strangers_mb: tuple[int, int]
    setup: SlotSetup = field(init=False)
    table: SlotTable = field(init=False)
    jobs: list[Job] = field(default_factory=list)
    now: int = 0
    started: int = 0

    def __post_init__(self) -> None:
        topology = CpuTopology(cores=(Core(cpus=(0,)),))
        policy = SlotPolicy(experiments_per_gpu=6, gpu_memory_mb=5000)
        self.setup = SlotSetup.create(policy, self.snapshot(), topology)
        self.look()

    def on(self, uuid: str) -> list[Job]:
        return [job for job in self.jobs if uuid in job.placement.gpu_uuids]

    def snapshot(self) -> GpuSnapshot:
        gpus = []
        for index, uuid in enumerate(("GPU-a", "GPU-b")):
            mine = [process(int(job.name), job.taken_mb) for job in self.on(uuid) if job.taken_mb]
            used = self.strangers_mb[index] + sum(job.taken_mb for job in self.on(uuid))
            listed = (process(9999, self.strangers_mb[index]), *mine) if self.told else None
            gpus.append(gpu(uuid, used=used, processes=listed))
        return GpuSnapshot(gpus=tuple(gpus))

    def look(self) -> None:
        """What the runner does once a second."""
        snapshot = self.snapshot()
        names = {int(job.name): job.name for job in self.jobs}
        usage = attribute(snapshot, names.get)
        occupants = [Occupant(job=j.name, placement=j.placement, ended=j.ended_at is not None) for j in self.jobs]
        for occupant, job in zip(list(occupants), list(self.jobs), strict=True):
            if job.ended_at is None:
                continue
            waited = self.now - job.ended_at
            if memory_is_back(occupant, snapshot, usage, waited_s=waited, policy=self.setup.policy):
                occupants.remove(occupant)
                if not self.told:  # it was not seen to be back, but waited for: by then it is
                    job.taken_mb = 0
                if not job.taken_mb:
                    self.jobs.remove(job)
        self.table = self.setup.table(snapshot, occupants, usage=usage)

    def start(self, need_mb: int, count: int) -> None:
        placed = self.table.place(SlotRequest(gpu_memory_mb=need_mb, gpus=count))
        if not isinstance(placed, NoRoom):
            self.table = placed.table
            self.started += 1
            self.jobs.append(Job(name=str(self.started), placement=placed.placement))

    def check(self) -> None:
        for index, uuid in enumerate(("GPU-a", "GPU-b")):
            live = [job for job in self.on(uuid) if job.ended_at is None]
            worst = sum(max(job.placement.memory_mb, job.taken_mb) for job in live)
            draining = sum(job.taken_mb for job in self.on(uuid) if job.ended_at is not None)
            assert self.strangers_mb[index] + worst + draining <= TOTAL
            assert len(live) <= self.setup.policy.experiments_per_gpu


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("start"), st.integers(5000, 25_000), st.sampled_from([1, 1, 2])),
        st.tuples(st.just("start"), st.integers(5000, 25_000), st.just(1)),
        st.tuples(st.just("take"), st.integers(0, 20), st.integers(1, 100)),
        st.tuples(st.just("end"), st.integers(0, 20), st.just(0)),
        st.tuples(st.just("drain"), st.integers(0, 20), st.just(0)),
        st.tuples(st.just("look"), st.integers(0, 4), st.just(0)),
    ),
    min_size=8,
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(told=st.booleans(), strangers=st.tuples(st.integers(0, 20_000), st.integers(0, 900)), steps=STEPS)
def test_memory_is_never_oversubscribed(
    told: bool, strangers: tuple[int, int], steps: list[tuple[str, int, int]]
) -> None:
    machine = Machine(told=told, strangers_mb=strangers)
    for what, number, size in steps:
        live = [job for job in machine.jobs if job.ended_at is None]
        ended = [job for job in machine.jobs if job.ended_at is not None]
        if what == "start":
            machine.start(number, size)
        elif what == "take" and live:  # never more than was promised
            job = live[number % len(live)]
            job.taken_mb += (job.placement.memory_mb - job.taken_mb) * size // 100
        elif what == "end" and live:
            live[number % len(live)].ended_at = machine.now
        elif what == "drain" and ended:
            ended[number % len(ended)].taken_mb = 0
        elif what == "look":
            machine.now += number
            machine.look()
        machine.check()
    for job in machine.jobs:
        job.taken_mb, job.ended_at = 0, machine.now
    machine.now += 60
    machine.look()
    rooms = [slot.room_mb for slot in machine.table.gpus]
    assert rooms == [TOTAL - mb for mb in strangers], "what was promised comes back"
