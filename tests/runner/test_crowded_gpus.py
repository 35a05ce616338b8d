"""A machine that is shared with others, in memory: a job that waits for their GPU memory does not hold its run up."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

import pytest

from sf_runner.describe.description import Experiment
from sf_runner.engine.scheduler import MAX_SKIPS, Start
from sf_runner.slots.devices import GpuInfo, GpuProcess, GpuSnapshot
from sf_runner.slots.gpu_memory import Claim, attribute, vacated_mb
from sf_runner.slots.placement import Placement
from sf_runner.slots.table import Placed
from sf_runner.slots.types import NoRoom, Occupant, SlotRequest
from sf_runner.state.jobs import ACTIVE
from tests.runner.builders import make_run, resources
from tests.runner.world import Launching, machine

GPUS, SLOTS, TOTAL_MB, SMALL_MB, LARGE_MB = 4, 4, 80_000, 10_000, 60_000


@dataclass
class Crowd:
    """One large job and many small ones on GPUs with 4 slots each. On every GPU a stranger holds `stranger_mb`, until
    `leaves_at` (hours). `told`: whether the driver tells whose memory is in use."""

    small: int
    stranger_mb: int
    leaves_at: float = float("inf")
    told: bool = True
    first: tuple[str, ...] = ("large", "small")
    now: float = 0.0
    busy_hours: float = 0.0
    large_at: float | None = None
    passed: int = 0
    """Small jobs that started while the large one waited."""
    kept_from: float = 0.0
    """From then on room is kept for the large one."""
    ends: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        experiments = {
            "large": Experiment("large", "true", [{"n": 0}], resources=resources(gpu_memory_mb=LARGE_MB)),
            "small": Experiment("small", "true", [{"n": n} for n in range(self.small)]),
        }
        table = machine(gpus=GPUS, memory_mb=TOTAL_MB, experiments_per_gpu=SLOTS, gpu_memory_mb=SMALL_MB)
        self.run = Launching(make_run(*(experiments[name] for name in self.first)), table)
        self.chance = Random(3)

    def look(self) -> None:
        """What the runner sees once a second."""
        placements = {
            job: Placement.from_json(record.state.placement)
            for job, record in self.run.state.active.items()
            if isinstance(record.state, ACTIVE)
        }
        pids = dict(enumerate(placements, 1))
        gpus = []
        for gpu in self.run.table.setup.gpus:
            stranger_mb = self.stranger_mb if self.now < self.leaves_at else 0
            mine = [
                GpuProcess(pid=n, memory_mb=placements[job].memory_mb)
                for n, job in pids.items()
                if gpu.uuid in placements[job].gpu_uuids
            ]
            used = stranger_mb + sum(p.memory_mb or 0 for p in mine)
            listed = (*mine, GpuProcess(pid=9999, memory_mb=stranger_mb)) if self.told else None
            gpus.append(replace(gpu, memory_free_mb=TOTAL_MB - used, memory_used_mb=used, processes=listed))
        snapshot = GpuSnapshot(gpus=tuple(gpus))
        occupants = [Occupant(job=job, placement=placement) for job, placement in placements.items()]
        self.run.table = self.run.table.setup.table(snapshot, occupants, usage=attribute(snapshot, pids.get))

    def start(self) -> None:
        while isinstance(decision := self.run.decide(self.now), Start):
            job = decision.job.job_id
            self.run.take(decision, self.now)
            self.ends[job] = self.now + self.chance.uniform(1.0, 3.0)
            if job.startswith("large"):
                self.large_at = self.now
            elif self.large_at is None:
                self.passed += 1
                self.kept_from = self.now if self.passed == MAX_SKIPS else self.kept_from

    def step(self) -> bool:
        """Start what can be started, then wait for the next end; whether anything ran."""
        self.look()
        self.start()
        if not self.ends:
            return False
        job, then = min(self.ends.items(), key=lambda item: item[1])
        self.busy_hours += len(self.ends) * (then - self.now)
        self.now = then
        del self.ends[job]
        self.run.finish(job, t=self.now)
        return True

    def to_the_end(self) -> float:
        """Until nothing runs any more; the mean share of the slots that were busy."""
        while self.step():
            pass
        return self.busy_hours / (self.now * GPUS * SLOTS)


@pytest.mark.parametrize("told", [True, False])
def test_what_waits_for_a_strangers_memory_does_not_hold_the_others(told: bool) -> None:
    """16 starts passed it, then everything was held until the last running job had ended, again and again."""
    crowd = Crowd(small=400, stranger_mb=30_000, told=told)
    busy = crowd.to_the_end()
    undisturbed = Crowd(small=400, stranger_mb=30_000, told=told, first=("small",)).to_the_end()
    assert crowd.run.state.count("Succeeded") == 400
    assert crowd.large_at is None
    assert busy > 0.95 * undisturbed


def test_it_gets_its_turn_when_the_stranger_has_left() -> None:
    crowd = Crowd(small=400, stranger_mb=30_000, leaves_at=20.0)
    crowd.to_the_end()
    assert crowd.run.state.finished
    assert crowd.large_at is not None
    assert 20.0 <= crowd.large_at < 26.0, "from then on room is kept, for as long as jobs run that were there before"


@pytest.mark.parametrize("stranger_mb", [0, 15_000])
def test_room_is_kept_where_jobs_of_this_run_hold_it(stranger_mb: int) -> None:
    crowd = Crowd(small=400, stranger_mb=stranger_mb, first=("small", "large"))
    crowd.look()
    for _ in range(GPUS * SLOTS):  # they were there before the large one
        decision = crowd.run.decide(0.0)
        assert isinstance(decision, Start)
        crowd.run.take(decision)
        crowd.ends[decision.job.job_id] = crowd.chance.uniform(1.0, 3.0)
    large = next(record for job, record in crowd.run.state.jobs.items() if job.startswith("large"))
    large.rank = -1.0
    crowd.run.state._push_ready(large)
    busy = crowd.to_the_end()
    assert crowd.large_at is not None
    assert crowd.passed >= MAX_SKIPS
    assert crowd.large_at <= crowd.kept_from + 3.0, (
        "those that ran on one of the GPUs had to end, and no others began there"
    )
    assert crowd.large_at > crowd.kept_from
    assert busy > 0.9, "on the other GPUs everything goes on"


def gpu(used: int) -> GpuInfo:
    return GpuInfo(uuid="GPU-a", index=0, memory_total_mb=TOTAL_MB, memory_free_mb=TOTAL_MB - used, memory_used_mb=used)


def claim(promised: int, used: int | None, others: int | None) -> Claim:
    return Claim(promised_mb=promised, used_mb=used, others_mb=others)


@pytest.mark.parametrize(
    ("used", "claims", "expected"),
    [
        (0, [], TOTAL_MB),
        (30_000, [], TOTAL_MB - 30_000),
        (30_000, [claim(10_000, 8_000, 0)], TOTAL_MB - 22_000),
        (30_000, [claim(40_000, None, 5_000)], TOTAL_MB - 5_000),  # as it was when the job came
        (30_000, [claim(10_000, None, 5_000)], TOTAL_MB - 20_000),  # more than was promised: somebody else came
        (30_000, [claim(0, None, 5_000)], TOTAL_MB - 5_000),  # nothing was promised, so nothing can be said
    ],
)
def test_what_could_be_promised_if_all_jobs_of_this_run_ended(used: int, claims: list[Claim], expected: int) -> None:
    assert vacated_mb(gpu(used), claims) == expected


def test_what_could_be_promised_where_the_driver_does_not_tell() -> None:
    silent = replace(gpu(0), memory_free_mb=None, memory_used_mb=None)
    assert vacated_mb(silent, [claim(10_000, None, None)]) == TOTAL_MB
    assert vacated_mb(replace(silent, memory_total_mb=None), []) is None


def test_a_gpu_that_is_kept_is_avoided_and_nothing_else_changes() -> None:
    table = machine(gpus=2, memory_mb=TOTAL_MB)
    kept = table.place(SlotRequest(), avoid=["GPU-0"])
    assert isinstance(kept, Placed)
    assert kept.placement.gpu_uuids == ("GPU-1",)
    assert [slot.jobs for slot in kept.table.gpus] == [0, 1]
    full = kept.table.place(SlotRequest(), avoid=["GPU-0"])
    assert full == NoRoom(kind="full", reason="room is kept for an experiment that needs more of it")
    never = table.place(SlotRequest(gpus=3), avoid=["GPU-0"])
    assert never == NoRoom(kind="never", reason="it needs 3 GPUs, this run has 2")


def test_for_cores_everything_waits() -> None:
    plan = make_run(
        Experiment("large", "true", [{"n": 0}], resources=resources(cpus=4)),
        Experiment("small", "true", [{"n": n} for n in range(60)], resources=resources(cpus=1)),
    )
    run = Launching(plan, machine(cpus=4))
    large = run.state.jobs["large_/00_large_n_0"]
    large.rank = 1000.0  # it comes later
    first = run.decide()
    assert isinstance(first, Start)
    run.take(first)
    large.rank = -1.0
    run.state._push_ready(large)
    passed = 0
    while isinstance(decision := run.decide(), Start) and decision.job is not large:
        run.take(decision)
        passed += 1
        others = [job for job in run.state.active if job != first.job.job_id]
        if len(others) == 3:
            for job in others:
                run.finish(job)
    assert passed == MAX_SKIPS
    run.finish_all()
    decision = run.decide()
    assert isinstance(decision, Start)
    assert decision.job is large
