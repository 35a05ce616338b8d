"""--dry_run: what would be started, without touching anything; and the launches themselves."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from sf_runner import run
from sf_runner.basics.errors import UsageError
from sf_runner.cli.dry_run import dry_run_lines
from sf_runner.cli.options import parse
from sf_runner.cli.processes_kind import ProcessesKind
from sf_runner.cli.session import Prepared, prepare
from sf_runner.cli.slots import SlotChoice
from sf_runner.describe.description import Experiment
from sf_runner.describe.plan import Plan
from sf_runner.engine.launching import LaunchBuilder
from sf_runner.slots.devices import GpuSnapshot
from sf_runner.slots.placement import Placement
from sf_runner.state import events as ev
from sf_runner.state.history import save_history
from sf_runner.store.journal import Journal
from tests.runner.builders import fresh, make_run, opening, resources, run_once, simple_plan
from tests.runner.golden import assert_golden
from tests.runner.world import fake_gpus, machine


def prepared(plan: Plan, *argv: str, gpus: int = 0, max_parallel: int = 2, **policy: Any) -> Prepared:
    setup = machine(gpus=gpus, **policy).setup
    choice = SlotChoice(setup=setup, probe=None, snapshot=fake_gpus(gpus), max_parallel=max_parallel)
    return Prepared(
        options=parse(["--run=x", *argv]), plan=plan, kind=ProcessesKind(), slots=choice, pause_between_s=0.0
    )


def jobs_of(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(("job_/", "e_/", "big_/", "small_/"))]


def earlier(plan: Plan, *verdicts: str) -> None:
    """A start of this plan whose first jobs ended like this."""
    journal, state = Journal.open(plan.paths.journal, plan.run_name)

    def write(event: ev.Event) -> None:
        journal.append([event])
        state.apply(event)

    for event in opening(plan, state):
        write(event)
    for job, verdict in zip(list(state.jobs), verdicts, strict=False):
        write(ev.AttemptSubmitted(t=1.0, job=job, attempt=1, placement={"gpu_uuids": ["GPU-0"], "gpu_indices": [0]}))
        write(ev.AttemptStarted(t=1.0, job=job, attempt=1, handle={}))
        if verdict == "failed":
            cause = ev.FailureCause(kind="exit", summary="s", fingerprint="f")
            write(ev.AttemptEnded(t=2.0, job=job, attempt=1, verdict="failed", cause=cause))
        elif verdict != "running":
            write(ev.AttemptEnded(t=2.0, job=job, attempt=1, verdict=verdict))  # type: ignore[arg-type]
    journal.close()


def test_the_whole_plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    plan = make_run(
        Experiment("big", ["python", "x.py", "two words"], [{"seed": 1}], resources=resources(gpus=2)),
        Experiment("small", "true", [{"seed": s} for s in (1, 2, 3)], env_vars={"A": "it's"}),
    )
    lines = list(dry_run_lines(prepared(plan, gpus=3, max_parallel=3)))
    assert_golden("dry_run.txt", "\n".join(lines).replace(str(tmp_path), "/home/me") + "\n")
    assert list(tmp_path.iterdir()) == []


def test_what_an_earlier_start_finished_is_not_repeated(tmp_path: Path) -> None:
    plan = simple_plan(5, tmp_path)
    earlier(plan, "succeeded", "failed", "cancelled", "retry")
    before = plan.paths.journal.read_bytes()
    lines = list(dry_run_lines(prepared(plan)))
    assert jobs_of(lines) == ["job_/03_job_see_3", "job_/04_job_see_4"]
    assert lines[1] == "2 of them would be started; the others run, are done, failed or were cancelled"
    assert "SF_RUNNER_ATTEMPT=2" in lines[lines.index("job_/03_job_see_3") + 4]
    again = list(dry_run_lines(prepared(plan, "--retry_failed")))
    assert jobs_of(again) == ["job_/01_job_see_1", "job_/03_job_see_3", "job_/04_job_see_4"]
    assert plan.paths.journal.read_bytes() == before


def test_what_would_be_refused_is_refused(tmp_path: Path) -> None:
    earlier(simple_plan(2, tmp_path), "succeeded")
    changed = simple_plan(2, tmp_path, cmd="false")
    with pytest.raises(UsageError, match="have another command now"):
        list(dry_run_lines(prepared(changed)))
    lines = list(dry_run_lines(prepared(changed, "--changed=rerun")))
    assert len(jobs_of(lines)) == 2
    assert "note: 1 experiment(s) have another command now; they run again" in lines


def test_slots_of_what_still_runs_are_taken(tmp_path: Path) -> None:
    plan = simple_plan(4, tmp_path)
    earlier(plan, "running")
    lines = list(dry_run_lines(prepared(plan, gpus=2, max_parallel=3)))
    slots = [line.split(maxsplit=1)[1] for line in lines if line.startswith("  slot")]
    assert slots == ["GPU 1", "waits: all GPU slots are taken", "the next free slot"]


def test_the_order_is_that_of_the_start(tmp_path: Path) -> None:
    plan = make_run(Experiment("e", "true", [{"net": n} for n in ("short", "long")]), train_dir=tmp_path)
    state = fresh(plan)
    for job, seconds in zip(list(state.jobs), (1.0, 100.0), strict=True):
        run_once(state, job, duration_s=seconds)
    other = tmp_path / "earlier" / ".runner"
    other.mkdir(parents=True)
    from sf_runner.slots.gpu_memory import LearnedPeaks

    save_history(other / "history.json", state, LearnedPeaks())
    assert jobs_of(list(dry_run_lines(prepared(plan, "--order=longest_first")))) == [
        "e_/01_e_net_long",
        "e_/00_e_net_short",
    ]


def test_a_job_that_can_never_run_is_told(tmp_path: Path) -> None:
    plan = make_run(
        Experiment("big", "true", resources=resources(gpus=4)), Experiment("small", "true"), train_dir=tmp_path
    )
    lines = list(dry_run_lines(prepared(plan, gpus=1)))
    assert "  slot         waits: it needs 4 GPUs, this run has 1" in lines
    assert "  slot         GPU 0" in lines


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "from sf_runner import Experiment, RunDescription\n"
    text += "RUN_DESCRIPTION = RunDescription('study', experiments=[Experiment('job', 'echo héllo')])\n"
    (tmp_path / "study.py").write_text(text)
    assert run.main(["--run=study.py", "--dry_run", "--num_gpus=0"]) == 0
    assert "  command      echo 'héllo' --experiment=00_job" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["study.py"]


@pytest.fixture
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoGpus:
        def snapshot(self) -> GpuSnapshot:
            return GpuSnapshot()

        def close(self) -> None:
            pass

    monkeypatch.setattr("sf_runner.slots.nvml.NvmlProbe", NoGpus)


def description(tmp_path: Path, settings: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.py").write_text(
        "from sf_runner import Experiment, RunDescription\n"
        f"RUN_DESCRIPTION = RunDescription('study', [Experiment('job', 'true', [dict(a=1), dict(a=2)])], {settings})\n"
    )


@pytest.mark.parametrize(
    ("settings", "argv", "refusal", "parallel"),
    [
        (
            "use_gpus=4, experiments_per_gpu=2",
            [],
            "use_gpus=4 in the run description, but no GPU was found here. Give --num_gpus=0 to use cores.",
            8,
        ),
        ("num_gpus=4", [], "num_gpus=4 in the run description, but no GPU was found here. Give --num_gpus=0", 4),
        ("use_gpus=4", ["--num_gpus=2"], "--num_gpus=2, but no GPU was found here. Leave --num_gpus out", 2),
        ("", ["--gpus=3"], "--gpus: '3' names no GPU here", 1),
        ("max_parallel=5", ["--cpus_per_experiment=100000"], "--cpus_per_experiment=100000: give 1 to", 5),
    ],
)
@pytest.mark.usefixtures("no_gpus")
def test_a_dry_run_works_where_a_start_would_be_refused(
    settings: str,
    argv: list[str],
    refusal: str,
    parallel: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    description(tmp_path, settings, monkeypatch)
    assert run.main(["--run=study.py", "--dry_run", *argv]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(f", {parallel} side by side")
    assert lines[1].startswith(f"note: a start on this machine would be refused: {refusal}")
    assert lines.count("  slot         known only where it is started") == 2
    with pytest.raises(UsageError) as caught:
        prepare(parse(["--run=study.py", *argv]))
    assert str(caught.value).startswith(refusal)


@pytest.mark.usefixtures("no_gpus")
def test_what_is_wrong_on_every_machine_is_refused_by_a_dry_run_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    description(tmp_path, "experiments_per_gpu=0", monkeypatch)
    with pytest.raises(UsageError, match=r"^experiments_per_gpu=0 in the run description: give at least 1"):
        prepare(parse(["--run=study.py", "--dry_run"]))
    description(tmp_path, "experiments_per_gpu=-1, use_gpus=2", monkeypatch)
    with pytest.raises(UsageError, match=r"^--gpus needs GPUs .*not to -1 \(experiments_per_gpu=-1 in the run"):
        prepare(parse(["--run=study.py", "--dry_run", "--gpus=1"]))
    (note,) = prepare(parse(["--run=study.py", "--dry_run"])).slots.setup.notes
    assert note == "use_gpus=2 in the run description has no effect with experiments_per_gpu=-1 in the run description."


# ---- launches ----------------------------------------------------------------------------------------------------


def test_a_launch_is_complete_and_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONUNBUFFERED", "")
    plan = make_run(Experiment("e", ["python", "-c", "pass"], env_vars={"A": 1, "OMP_NUM_THREADS": 7}))
    state = fresh(plan)
    (record,) = state.jobs.values()
    state.apply(ev.AttemptSubmitted(t=1.0, job=record.job_id, attempt=1, placement={}))
    placement = Placement(cores=(3,), env={"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1"})
    launch = LaunchBuilder(plan.paths).launch(plan.jobs[0], record, placement)
    folder = tmp_path / "train" / "study" / "e_" / "00_e" / "job"
    assert launch.argv[:3] == [sys.executable, "-c", "pass"]
    assert (launch.log, launch.exit_record) == (str(folder / "attempt_1.log"), str(folder / "exit.json"))
    assert launch.env == {
        "OMP_NUM_THREADS": "7",  # the description's own wins
        "CUDA_VISIBLE_DEVICES": "-1",
        "A": "1",
        "SF_RUNNER_RUN": "study",
        "SF_RUNNER_JOB": "e_/00_e",
        "SF_RUNNER_ATTEMPT": "1",
        "SF_RUNNER_PROGRESS_FILE": str(folder / "progress.json"),
    }
    assert (launch.job, launch.attempt, launch.placement) == ("e_/00_e", 1, placement)


def test_python_shows_its_output_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    plan = simple_plan(1)
    env = LaunchBuilder(plan.paths).environment(plan.jobs[0], 3, Placement())
    assert env["PYTHONUNBUFFERED"] == "1"
    assert env["SF_RUNNER_ATTEMPT"] == "3"


def test_commands_can_be_pasted_into_a_shell() -> None:
    plan = make_run(Experiment("e", ["python", "a b.py", "it's", "$HOME"]))
    assert shlex.split(plan.jobs[0].command)[:4] == ["python", "a b.py", "it's", "$HOME"]
