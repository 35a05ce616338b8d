"""Pure parts of the Slurm backend: lists of indices, throttles, packing, shares of GPUs, Slurm's vocabulary."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_runner.backends.base import Launch
from sf_runner.backends.slurm.answers import compress, expand
from sf_runner.backends.slurm.batches import (
    BatchHeader,
    BatchPaths,
    list_batches,
    next_batches,
    read_batch,
    read_header,
    read_one_task,
    write_batch,
)
from sf_runner.backends.slurm.environment import clean_environment
from sf_runner.backends.slurm.node import share_gpus, split_gpus
from sf_runner.backends.slurm.packing import SubmitSettings, make_drafts
from sf_runner.backends.slurm.refusals import complaint
from sf_runner.backends.slurm.script import JobShape, ScriptSettings, last_words, output_path
from sf_runner.backends.slurm.states import STATES, meaning
from sf_runner.backends.slurm.task_records import RecordWriter, TaskHistory, read_history
from sf_runner.basics.errors import UsageError
from sf_runner.cli.options import parse
from sf_runner.cli.slurm_kind import job_shape
from sf_runner.describe.description import Resources
from sf_runner.slots.placement import ANYWHERE

SCRIPT = ScriptSettings(job_name="s", folder="/w", command=["python", "task.py"])


def launch(job: str, attempt: int = 1) -> Launch:
    folder = f"/t/{job}/job"
    return Launch(
        job=job, attempt=attempt, argv=["true"], env={"A": "ü"}, placement=ANYWHERE,
        log=f"{folder}/attempt_{attempt}.log", exit_record=f"{folder}/exit.json",
    )  # fmt: skip


@given(st.sets(st.integers(0, 3000)))
def test_ids_survive_being_written_as_spans(indices: set[int]) -> None:
    texts = compress("17", indices)
    assert all(text.startswith("17_[") for text in texts)
    found = [index for text in texts for index in expand(text[3:])]
    assert sorted(found) == sorted(indices)


def test_squeues_lists_of_indices() -> None:
    assert list(expand("1,4-6%2")) == [1, 4, 5, 6]
    assert list(expand("0-8:4")) == [0, 4, 8]
    assert list(expand("N/A")) == list(expand("")) == []


def test_attempts_are_packed_by_shape_and_cut_to_arrays(tmp_path: Path) -> None:
    shapes = {"big": JobShape(gpus=2), "small": JobShape(experiments=2, side_by_side=1)}
    settings = SubmitSettings(script=SCRIPT, shape_of=lambda job: shapes[job.split("/")[0]], run_id="r")
    launches = [launch(f"{'big' if i % 5 == 0 else 'small'}/{i}") for i in range(20)]
    drafts = make_drafts(launches, settings, next_batches(tmp_path), tasks_per_array=3)
    sizes = [[len(task) for task in draft.tasks] for draft in drafts]
    assert sizes == [[1, 1, 1], [1], [2, 2, 2], [2, 2, 2], [2, 2]]
    assert [job.job for draft in drafts for task in draft.tasks for job in task if job.job.startswith("small")] == [
        item.job for item in launches if item.job.startswith("small")
    ], "in the order in which they were to start"
    assert [draft.paths.name for draft in drafts] == ["0001", "0002", "0003", "0004", "0005"]
    for draft in drafts:
        write_batch(draft.paths, draft.header, draft.tasks, draft.script)
    assert [paths.name for paths in list_batches(tmp_path)] == ["0001", "0002", "0003", "0004", "0005"]
    header, tasks = read_batch(drafts[2].paths)
    assert (header, tasks) == (drafts[2].header, drafts[2].tasks)
    assert read_one_task(drafts[2].paths, 1) == (header, tasks[1])
    with pytest.raises(ValueError, match="no task 7"):
        read_one_task(drafts[2].paths, 7)


def test_no_job_runs_more_side_by_side_than_the_run_may(tmp_path: Path) -> None:
    shape = JobShape(experiments=4, side_by_side=4)
    settings = SubmitSettings(script=SCRIPT, shape_of=lambda _: shape, run_id="r", max_parallel=2)
    (draft,) = make_drafts([launch(str(i)) for i in range(12)], settings, next_batches(tmp_path), tasks_per_array=9)
    assert (draft.header.side_by_side, draft.header.throttle, draft.header.num_tasks) == (2, 1, 3)


@pytest.mark.parametrize(
    ("given_", "side_by_side", "shares"),
    [
        ("0,1,2,3", 2, ["0,1", "2,3"]),
        ("0,1,2,3", 4, ["0", "1", "2", "3"]),
        ("4,7", 3, ["4", "7", "4"]),
        ("0,1,2", 1, ["0,1,2"]),
        (None, 2, [None, None]),
    ],
)
def test_experiments_side_by_side_get_gpus_of_their_own(
    given_: str | None, side_by_side: int, shares: list[str | None]
) -> None:
    assert [split_gpus(given_, position, side_by_side) for position in range(side_by_side)] == shares


def test_an_experiments_own_choice_never_reaches_beyond_what_slurm_gave() -> None:
    assert share_gpus("2,3", "3") == "3"
    assert share_gpus("2,3", "0") == "2,3"
    assert share_gpus("2,3", "-1") == "-1"
    assert share_gpus(None, "0") == "0"


def test_slurms_vocabulary() -> None:
    assert meaning("CANCELLED by 1000").fate == "cancelled"
    assert meaning("PREEMPTED+").fate == "requeue"
    assert meaning("NODE_FAIL").fate == "requeue"
    assert meaning("SOMETHING_NEW").phase == "running", "what nobody knows is not over"
    assert all(item.words for name, item in STATES.items() if item.phase == "over"), "each has its own words"


def test_nothing_of_a_surrounding_job_or_another_script_gets_into_sbatch() -> None:
    env = clean_environment(
        {
            "SLURM_CONF": "/c", "SLURM_JOB_ID": "3", "SLURM_RESTART_COUNT": "2", "SBATCH_ARRAY_INX": "0-9",
            "SBATCH_ACCOUNT": "lab", "SF_RUNNER_JOB": "outer", "CUDA_VISIBLE_DEVICES": "3", "HOME": "/h",
        }
    )  # fmt: skip
    assert env == {"SLURM_CONF": "/c", "SBATCH_ACCOUNT": "lab", "HOME": "/h"}


def test_complaints_are_one_line() -> None:
    text = "sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed: Invalid\n"
    assert complaint(text) == "invalid partition specified: x; Invalid"


def test_what_slurm_says_when_it_queues_a_task_again_is_no_fault_of_the_script(tmp_path: Path) -> None:
    batch = BatchPaths(root=tmp_path)
    again = "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-28T09:00:00 DUE TO JOB REQUEUE ***\n"
    (tmp_path / "0.out").write_text(again)
    assert last_words(output_path(batch, "7", 0)) == ""
    (tmp_path / "0.out").write_text(f"module: command not found\n\n{again}")
    assert last_words(output_path(batch, "7", 0)) == "module: command not found"
    assert last_words(output_path(batch, "7", 1)) == ""


def test_where_a_script_writes_is_read_from_it(tmp_path: Path) -> None:
    batch = BatchPaths(root=tmp_path / "0001")
    assert output_path(batch, "7", 3) == tmp_path / "0001" / "3.out", "of an old one nothing else is known"
    folder = str(tmp_path / 'my "out" 5%')
    script = ScriptSettings(job_name="my study", folder="/w", command=["x"], output_folder=folder)
    settings = SubmitSettings(script=script, shape_of=lambda _: JobShape(), run_id="r")
    (draft,) = make_drafts([launch("a")], settings, iter([batch]), tasks_per_array=1)
    write_batch(draft.paths, draft.header, draft.tasks, draft.script)
    assert output_path(batch, "7", 3) == Path(folder) / "my study-7_3.out"


def test_what_could_not_be_launched_names_the_folders() -> None:
    assert "--slurm_workdir" in meaning("FAILED", "JobLaunchFailure").words
    assert "--slurm_workdir" in meaning("FAILED", "RaisedSignal:53(Real-time_signal_19)").words
    assert meaning("FAILED", "NonZeroExitCode") == meaning("FAILED")
    assert meaning("RUNNING", "JobLaunchFailure").phase == "running"


def test_records_are_read_as_they_grow_and_survive_a_torn_line(tmp_path: Path) -> None:
    path, history = tmp_path / "0.jsonl", TaskHistory()
    assert not read_history(path, history)
    RecordWriter(path).write(e="begin", t=1.0, n=1, array="7", node="n1")
    with path.open("a") as file:
        file.write('{"e": "start", "t": 2.0, "jo')
    assert read_history(path, history)
    writer = RecordWriter(path)
    writer.write(e="begin", t=3.0, n=2, array="7", node="n2")
    writer.write(e="start", t=4.0, job="a", attempt=1, pid=5, gpus="0")
    assert read_history(path, history)
    assert not read_history(path, history)
    assert (history.begins, history.node, history.array_id) == (2, "n2", "7")
    assert history.jobs["a"].starts[1].begin == 2


@pytest.mark.parametrize(
    ("flags", "needs", "shape"),
    [
        ([], Resources(), JobShape(gpus=1)),
        (["--slurm_gpus_per_job=2", "--slurm_cpus_per_gpu=4"], Resources(), JobShape(gpus=2, cpus=8)),
        (["--slurm_gpus_per_job=0", "--slurm_cpus_per_gpu=4"], Resources(), JobShape(cpus=4)),
        (
            ["--slurm_gpus_per_job=4", "--slurm_experiments_per_job=8"],
            Resources(),
            JobShape(gpus=4, experiments=8, side_by_side=4),
        ),
        (["--slurm_experiments_per_job=8", "--slurm_side_by_side=1"], Resources(), JobShape(gpus=1, experiments=8)),
        (
            ["--slurm_experiments_per_job=4", "--slurm_side_by_side=2"],
            Resources(gpus=2, cpus=3),
            JobShape(gpus=4, cpus=6, experiments=4, side_by_side=2),
        ),
    ],
)
def test_what_a_job_asks_for(flags: list[str], needs: Resources, shape: JobShape) -> None:
    assert job_shape(parse(["--run=x", "--runner=slurm", *flags]), needs) == shape


@pytest.mark.parametrize(
    ("argv", "fault"),
    [
        (["--slurm_time=soon", "--runner=slurm"], "--slurm_time: 'soon' is no time limit"),
        (["--slurm_mem=1G"], "--slurm_mem is a flag of --runner=slurm, not of --runner=processes"),
        (["--detach"], "--detach: experiments of --runner=processes need their runner"),
        (["--slurm_args='", "--runner=slurm"], "--slurm_args: "),
    ],
)
def test_faults_in_the_flags(argv: list[str], fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        parse(["--run=x", *argv])


@pytest.mark.parametrize(("text", "time"), [("90", "90"), ("90s", "2"), ("36h", "2160"), ("2-12", "2-12")])
def test_time_limits_are_slurms_own_or_have_a_suffix(text: str, time: str) -> None:
    assert parse(["--run=x", "--runner=slurm", f"--slurm_time={text}"]).slurm.time == time


def test_every_command_of_the_guide_is_known() -> None:
    page = (Path(__file__).parents[2] / "docs" / "slurm.md").read_text()
    lines = [line for block in page.split("```bash\n")[1:] for line in block.split("```")[0].splitlines()]
    commands = [shlex.split(line)[2:] for line in lines]
    assert len(commands) > 6
    for module, *arguments in commands:
        assert module in ("sf_runner.run", "sf_runner.status", "sf_runner.cancel")
        if module == "sf_runner.run":
            assert parse(arguments).backend == "slurm"


def test_a_header_keeps_its_keys_on_disk(tmp_path: Path) -> None:
    header = BatchHeader(run_id="r", num_tasks=1, side_by_side=3)
    paths = BatchPaths(root=tmp_path / "0001")
    write_batch(paths, header, [[]], "")
    line = paths.tasks.read_text().splitlines()[0]
    assert json.loads(line)["lanes"] == 3  # as arrays have it that were queued by earlier versions
    assert read_header(line) == header
