"""Whole runs on GPUs that a fake driver makes up: busy, lost, partitioned, too small."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sf_runner.state import events as ev
from sf_runner.state.jobs import Running, Succeeded
from sf_runner.testing.fake_nvml import GPU_IS_LOST, FakeGpu, FakeNvml, compiler
from tests.runner.harness import ROOT, RunUnderTest, python, run_under_test

pytestmark = pytest.mark.skipif(compiler() is None, reason="the fake NVML library is built with gcc: not found")

# Takes memory of its GPU, notes which one it is, and runs until it is told to end.
PATIENT = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from sf_runner.testing.fake_nvml import claim_gpu_memory
claim_gpu_memory(2000)
print(os.environ["CUDA_VISIBLE_DEVICES"], os.environ.get("CUDA_DEVICE_ORDER"), flush=True)
while not os.path.exists("go"):
    time.sleep(0.01)
"""

# Starts slowly, takes 7 GB, and looks how much of its GPU is taken by then.
GREEDY = f"""
import os, pathlib, random, sys, time
sys.path.insert(0, {str(ROOT)!r})
from sf_runner.testing.fake_nvml import CLAIMS_VARIABLE, claim_gpu_memory
time.sleep(random.Random(os.environ["SF_RUNNER_JOB"]).random() * 0.2)
claim_gpu_memory(7000)
own = os.environ["CUDA_VISIBLE_DEVICES"]
until, most = time.monotonic() + 0.2, 0
while time.monotonic() < until:
    taken = 0
    for claim in pathlib.Path(os.environ[CLAIMS_VARIABLE]).glob("[0-9]*"):
        if os.path.exists("/proc/" + claim.name):
            taken += sum(int(mb) for gpu, mb in (line.split() for line in claim.read_text().splitlines()) if gpu == own)
    most = max(most, taken)
    time.sleep(0.005)
print(own, most)
"""

# Does not fit on the small GPU.
BIG = """
import os, sys
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
if os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-small":
    sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")
"""


def many(name: str, program: str, count: int) -> str:
    grid = f"ParamGrid([('i', list(range({count})))]).generate_params(randomize=False)"
    return python(name, program)[:-1] + f", {grid})"


def fake_machine(folder: Path, *gpus: FakeGpu) -> FakeNvml:
    return FakeNvml(folder / "nvml", list(gpus))


def start(run: RunUnderTest, fake: FakeNvml, *flags: str, **environ: str) -> None:
    run.base_flags = ["--ui=plain", "--grace=5"]
    run.start(*flags, env={**fake.env(), **environ})


def placed(run: RunUnderTest) -> dict[str, list[str]]:
    """GPU of each attempt that was submitted, by job."""
    found: dict[str, list[str]] = {}
    for event in run.read_events(ev.AttemptSubmitted):
        assert isinstance(event, ev.AttemptSubmitted)
        found.setdefault(event.job, []).extend(event.placement["gpu_uuids"])
    return found


@pytest.fixture
def stranger() -> Iterator[int]:
    """A process that has nothing to do with the run."""
    process = subprocess.Popen(["sleep", "1000"])
    yield process.pid
    process.kill()
    process.wait()


def test_busy_lost_and_partitioned_gpus(tmp_path: Path, stranger: int) -> None:
    fake = fake_machine(
        tmp_path,
        FakeGpu(uuid="GPU-busy", processes={stranger: 9000}),
        FakeGpu(uuid="GPU-fails"),
        FakeGpu(uuid="GPU-split", mig=[FakeGpu(uuid="MIG-one", total_mb=9000), FakeGpu(uuid="MIG-two", total_mb=9000)]),
        FakeGpu(uuid="GPU-good"),
    )
    with run_under_test(tmp_path, many("job", PATIENT, 6)) as run:
        start(run, fake, "--gpu_exclude_busy")
        run.wait("four to run", lambda state: sum(isinstance(r.state, Running) for r in state.jobs.values()) == 4)
        first = placed(run)
        assert sorted(gpu for gpus in first.values() for gpu in gpus) == ["GPU-fails", "GPU-good", "MIG-one", "MIG-two"]
        victim = next(job for job, gpus in first.items() if gpus == ["GPU-fails"])
        fake.gpus[1].errors["*"] = GPU_IS_LOST
        fake.write()
        run.wait("its job to be taken off it", lambda state: not isinstance(state.jobs[victim].state, Running))
        (tmp_path / "go").touch()
        assert run.finish() == 0, run.printed()
        assert "its GPU was lost; it is ended and will be started again elsewhere" in run.printed()
        after = placed(run)
        assert len(after[victim]) == 2
        assert after[victim][1] != "GPU-fails"
        assert all("GPU-busy" not in gpus for gpus in after.values())
        assert run.job(victim).failures == 0
        logs = [run.log(job, attempt=record.attempts) for job, record in run.state.jobs.items()]
        assert sorted({line.split()[0] for log in logs for line in log.splitlines()} - {"GPU-fails"}) == [
            "GPU-good",
            "MIG-one",
            "MIG-two",
        ]
        assert all(log.split()[1] == "PCI_BUS_ID" for log in logs)


def test_a_burst_of_starts_never_oversubscribes_any_gpu(tmp_path: Path) -> None:
    fake = fake_machine(tmp_path, *[FakeGpu(uuid=f"GPU-{number}", total_mb=16_000) for number in range(3)])
    with run_under_test(tmp_path, many("job", GREEDY, 12)) as run:
        start(run, fake, "--experiments_per_gpu=8", "--gpu_memory_per_experiment=7000")
        assert run.finish() == 0, run.printed()
        seen = [run.log(job).split() for job in run.state.jobs]
        assert {gpu for gpu, _ in seen} == {"GPU-0", "GPU-1", "GPU-2"}
        assert max(int(most) for _, most in seen) <= 14_000
        most = _most_at_once(run)
        assert most <= 6, "two fit on each"


def _most_at_once(run: RunUnderTest) -> int:
    now = most = 0
    for event in run.events:
        now += isinstance(event, ev.AttemptSubmitted) - isinstance(event, ev.AttemptEnded)
        most = max(most, now)
    return most


def test_inherited_devices_are_respected(tmp_path: Path) -> None:
    fake = fake_machine(tmp_path, *[FakeGpu(uuid=f"GPU-{name}") for name in "abcd"])
    with run_under_test(tmp_path, many("job", PATIENT, 4)) as run:
        (tmp_path / "go").touch()
        start(run, fake, "--experiments_per_gpu=2", CUDA_VISIBLE_DEVICES="2,3")
        assert run.finish() == 0
        assert sorted(gpu for gpus in placed(run).values() for gpu in gpus) == ["GPU-c", "GPU-c", "GPU-d", "GPU-d"]


@pytest.mark.parametrize(
    ("flag", "visible", "told"),
    [
        ("--num_gpus=5", None, "--num_gpus=5, but only 4 GPUs can be used here"),
        ("--num_gpus=3", "2,3", "--num_gpus=3, but only 2 GPUs of 4 can be used here (CUDA_VISIBLE_DEVICES=2,3)"),
        ("--gpus=7", None, "--gpus"),
    ],
)
def test_too_few_gpus_is_one_line_and_nothing_starts(tmp_path: Path, flag: str, visible: str | None, told: str) -> None:
    fake = fake_machine(tmp_path, *[FakeGpu(uuid=f"GPU-{name}") for name in "abcd"])
    with run_under_test(tmp_path, many("job", PATIENT, 2)) as run:
        environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
        start(run, fake, flag, **environ)
        assert run.finish() == 2
        (line,) = run.printed().splitlines()
        assert line.startswith("error: ")
        assert told in line
        assert not run.paths.root.exists()


def test_after_running_out_of_memory_it_is_tried_where_there_is_more(tmp_path: Path) -> None:
    fake = fake_machine(tmp_path, FakeGpu(uuid="GPU-small", total_mb=8_000), FakeGpu(uuid="GPU-large", total_mb=40_000))
    with run_under_test(tmp_path, many("job", BIG, 3)) as run:
        start(run, fake, "--gpus=0,1", "--max_retries=0")
        assert run.finish() == 0, run.printed()
        tried = placed(run)
        assert all(gpus[-1] == "GPU-large" for gpus in tried.values())
        assert any(gpus[0] == "GPU-small" for gpus in tried.values())
        assert all(gpus.count("GPU-small") <= 1 for gpus in tried.values())
        causes = [event.cause for event in _ended(run) if event.cause is not None]
        assert {cause.kind for cause in causes} == {"gpu_oom"}
        assert all(isinstance(record.state, Succeeded) for record in run.state.jobs.values())


def _ended(run: RunUnderTest) -> list[Any]:
    return list(run.read_events(ev.AttemptEnded))


def test_a_live_job_keeps_its_gpu_across_a_restart_of_the_runner(tmp_path: Path) -> None:
    fake = fake_machine(tmp_path, FakeGpu(uuid="GPU-a"), FakeGpu(uuid="GPU-b"))
    with run_under_test(tmp_path, many("job", PATIENT, 3)) as run:
        start(run, fake)
        run.wait("two to run", lambda state: sum(isinstance(r.state, Running) for r in state.jobs.values()) == 2)
        os.kill(run.runner, 9)
        run.wait("a new runner", lambda state: len(state.runners) == 2)
        (tmp_path / "go").touch()
        assert run.finish() == 0
        gpus = [gpu for gpus in placed(run).values() for gpu in gpus]
        assert len(gpus) == 3, "nothing was started twice"
        assert set(gpus) == {"GPU-a", "GPU-b"}
