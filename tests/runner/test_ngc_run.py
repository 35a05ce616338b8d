"""Whole runs on a fake NGC: what is submitted, crashes, second starts, cancelling, leaving and coming back."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sf_runner.state import events as ev
from sf_runner.state.jobs import Cancelled, Failed, Running, Submitted, Succeeded, Waiting
from tests.runner.cloud import FAST, TEMPLATE, FakeCloud
from tests.runner.harness import RunUnderTest, python, run_under_test, shell, wait_until

ENV_EXPERIMENT = (
    "Experiment('env', ['python', '-c', 'import os; print(os.environ[\"GREETING\"], os.environ[\"SF_RUNNER_JOB\"])'], "
    "env_vars={'GREETING': 'it\\'s \"me\" $HOME'})"
)


class CloudRun:
    def __init__(self, run: RunUnderTest, cloud: FakeCloud) -> None:
        self.run = run
        self.cloud = cloud
        self.template = run.folder / "job.template"
        self.template.write_text(TEMPLATE)
        run.base_flags = ["--ui=plain", "--runner=ngc", f"--ngc_job_template={self.template}"]

    def patient(self, name: str) -> str:
        """An experiment that runs until `finish`."""
        file = self.run.folder / f"finish_{name}"
        return shell(name, f"until test -e '{file}'; do sleep 0.02; done; exit $(cat '{file}')")

    def finish(self, name: str, code: int = 0) -> None:
        draft = self.run.folder / "draft"
        draft.write_text(str(code))
        draft.rename(self.run.folder / f"finish_{name}")

    def submissions(self) -> list[list[str]]:
        return self.cloud.calls("ngc", "batch", "run")

    def each_once(self) -> None:
        names = [job["name"] for job in self.cloud.jobs()]
        assert len(names) == len(set(names)) == len(self.cloud.jobs())


@contextmanager
def cloud_run(folder: Path, *experiments: str) -> Iterator[CloudRun]:
    cloud = FakeCloud(folder)
    old = os.environ["PATH"]
    (folder / "fast").mkdir()
    (folder / "fast" / "sitecustomize.py").write_text(FAST)
    os.environ["PATH"] = cloud.path
    try:
        with run_under_test(folder, *experiments) as run:
            run.python_path = [folder / "fast", *run.python_path]
            yield CloudRun(run, cloud)
    finally:
        os.environ["PATH"] = old
        cloud.cleanup()


def test_what_is_printed_is_what_is_submitted_and_failures_are_retried(tmp_path: Path) -> None:
    flaky = f"test -e '{tmp_path}/second' && exit 0; touch '{tmp_path}/second'; exit 4"
    with cloud_run(tmp_path, ENV_EXPERIMENT, shell("flaky", flaky), shell("bad", "exit 3")) as made:
        run = made.run
        flags = ["--ngc_train_dir=/results/train", "--max_retries=1", "--retry_delay=0"]
        run.start(*flags, "--ngc_print_only")
        assert run.finish() == 0
        printed = [line for line in run.printed().splitlines() if not line.startswith("# ")]
        assert made.cloud.calls() == []
        run.start(*flags)
        assert run.finish() == 1
        argvs = [["ngc", *argv[1:]] for argv in made.submissions()]
        assert set(printed) <= {shlex.join(argv) for argv in argvs}
        assert len(printed) == 3
        assert len(argvs) == 5
        assert isinstance(run.job("env").state, Succeeded)
        assert isinstance(run.job("flaky").state, Succeeded)
        assert run.job("flaky").attempts == 2
        state = run.job("bad").state
        assert isinstance(state, Failed)
        assert state.cause.summary == "failed (NGC: FAILED, exit code 3)"
        job = made.cloud.job("env")
        log = (made.cloud.folder / "jobs" / f"{job['id']}.log").read_text()
        assert log == 'it\'s "me" $HOME env_/00_env\n'
        assert "env PYTHONUNBUFFERED=1 " in job["command"]
        assert " python -c " in job["command"], "not the interpreter of this machine"
        assert "SF_RUNNER_PROGRESS_FILE=/results/train/chaos/env_/00_env/job/progress.json" in job["command"]
        made.each_once()


def test_no_more_are_submitted_than_allowed_and_all_where_nothing_is_said(tmp_path: Path) -> None:
    with cloud_run(tmp_path) as made:
        run, names = made.run, [f"job{number}" for number in range(5)]
        run.describe(*(made.patient(name) for name in names))
        run.start("--max_parallel=2")
        run.wait("two to run", lambda state: state.count("Running") == 2)
        made.finish("job0")
        run.wait_for("job2", Running)
        assert len(made.cloud.jobs()) == 3
        assert run.job("job3").attempts == 0
        for name in names:
            made.finish(name)
        assert run.finish() == 0
        most = active = 0
        for event in run.events:
            active += isinstance(event, ev.AttemptSubmitted) - isinstance(event, ev.AttemptEnded)
            most = max(most, active)
        assert most == 2
    with cloud_run(tmp_path / "all") as made:
        made.run.describe(*(made.patient(name) for name in names))
        made.run.start()
        made.run.wait("all to run", lambda state: state.count("Running") == 5)
        for name in names:
            made.finish(name)
        assert made.run.finish() == 0


@pytest.mark.parametrize("moment", ["before", "after", "running"])
def test_a_killed_runner_submits_nothing_twice(tmp_path: Path, moment: str) -> None:
    """`before`: its command had not reached the cloud yet; `after`: it had, and nobody wrote down the id."""
    with cloud_run(tmp_path) as made:
        run, names = made.run, ["a", "b", "c"]
        run.describe(*(made.patient(name) for name in names))
        if moment != "running":
            made.cloud.faults({"on": "run", "times": 3, "sleep_s": 0.7, "code": None, "after": moment == "after"})
        run.start()
        if moment == "running":
            run.wait("all to run", lambda state: state.count("Running") == 3)
        else:
            wait_until("all to be submitted", lambda: len(made.submissions()) == 3)
        os.kill(run.runner, signal.SIGKILL)
        assert run.process is not None
        run.process.wait()
        run.start()
        run.wait("all to run", lambda state: state.count("Running") == 3)
        for name in names:
            made.finish(name)
        assert run.finish() == 0
        assert len(made.cloud.jobs()) == 3
        assert [run.job(name).attempts for name in names] == [1, 1, 1]


def test_two_runners_are_refused_and_leaving_is_possible_at_any_time(tmp_path: Path) -> None:
    with cloud_run(tmp_path) as made:
        run = made.run
        run.describe(made.patient("a"), made.patient("b"))
        first = run.start()
        run.wait_for("a", Running)
        second = run.start()
        assert run.finish() == 3
        assert "is already being run by pid" in run.printed()
        run.process = first
        os.kill(run.runner, signal.SIGHUP)
        run.finish()
        assert not made.cloud.ended("a")
        assert second is not first
        run.start()
        run.wait("both to be found again", lambda state: state.count("Running") == 2 and state.closed is None)
        made.finish("a")
        made.finish("b", 5)
        assert run.finish() == 1
        assert len(made.cloud.jobs()) == 2


def test_submit_and_leave(tmp_path: Path) -> None:
    with cloud_run(tmp_path) as made:
        run = made.run
        run.describe(made.patient("a"), made.patient("b"))
        made.cloud.hold_queue()
        run.start("--detach")
        assert run.finish() == 0
        assert "2 experiments are submitted and go on without this command" in run.printed()
        assert len(made.cloud.jobs()) == 2
        assert isinstance(run.job("a").state, Submitted)
        made.cloud.hold_queue(False)
        made.finish("a")
        made.finish("b")
        run.start()
        assert run.finish() == 0
        assert len(made.cloud.jobs()) == 2


def test_cancelling_with_and_without_a_runner(tmp_path: Path) -> None:
    with cloud_run(tmp_path) as made:
        run = made.run
        run.describe(*(made.patient(name) for name in ("a", "b", "c")))
        run.start()
        run.wait("all to run", lambda state: state.count("Running") == 3)
        assert "1 running told to end" in run.tool("cancel", "a_/00_a").stdout
        run.wait_for("a", Cancelled)
        assert made.cloud.ended("00_a")
        assert not made.cloud.ended("00_b")
        os.kill(run.runner, signal.SIGKILL)
        assert run.process is not None
        run.process.wait()
        done = run.tool_process("cancel")
        assert done.stdout == "2 running ended, 0 waiting cancelled\n", done.stderr
        run.read()
        assert all(isinstance(run.job(name).state, Cancelled) for name in ("b", "c"))
        assert made.cloud.ended("00_b")
        run.start("--retry_cancelled", "--detach")
        assert run.finish() == 0
        assert len(made.cloud.jobs()) == 6


def test_preempted_jobs_run_again_and_terminating_the_runner_ends_them(tmp_path: Path) -> None:
    with cloud_run(tmp_path) as made:
        run = made.run
        run.describe(made.patient("a"))
        run.start()
        run.wait_for("a", Running)
        made.cloud.force("a", "PREEMPTED")
        run.wait_for("a", Running, attempt=2)
        (ended,) = run.read_events(ev.AttemptEnded)
        assert isinstance(ended, ev.AttemptEnded)
        assert ended.verdict == "requeue"
        assert run.job("a").failures == 0
        os.kill(run.runner, signal.SIGTERM)
        assert run.finish() == 143
        assert isinstance(run.job("a").state, Waiting)
        assert made.cloud.ended("a")
        made.each_once()


def test_a_job_that_saves_and_exits_when_it_is_preempted_has_not_succeeded(tmp_path: Path) -> None:
    """Its results folder is shared: progress and its own exit record are used."""
    with cloud_run(tmp_path) as made:
        run = made.run
        program = (
            "import json, os, pathlib, time\n"
            "path = pathlib.Path(os.environ['SF_RUNNER_PROGRESS_FILE'])\n"
            "path.write_text(json.dumps({'version': 1, 'time': time.time(), 'step': 5, 'total': 10}))\n"
            f"stop = pathlib.Path({str(tmp_path)!r}, 'finish_a')\n"
            "while not stop.exists(): time.sleep(0.02)\n"
        )
        run.describe(python("a", program))
        run.start(f"--ngc_train_dir={run.paths.train_dir}")
        run.wait_for("a", Running)
        paths = run.paths.job(run.job("a").job_id)
        wait_until("progress", paths.progress.exists)
        status = json.loads(run.tool("status", "--json").stdout)
        assert (status["jobs"][0]["progress"]["step"], status["jobs"][0]["handle"]["cloud"]) == (5, "NGC")
        paths.exit_record.write_text(json.dumps({"version": 1, "attempt": 1, "exit_code": 0, "ended": 5.0}))
        made.cloud.force("a", "PREEMPTED")
        run.wait_for("a", Running, attempt=2)
        made.finish("a")
        assert run.finish() == 0
        assert run.job("a").attempts == 2


def test_what_a_killed_runner_was_ending_is_ended_by_the_next_one(tmp_path: Path) -> None:
    with cloud_run(tmp_path) as made:
        run = made.run
        run.describe(made.patient("a"))
        run.start()
        run.wait_for("a", Running)
        made.cloud.faults({"on": "kill", "times": 1, "sleep_s": 0.3, "code": 1, "says": "boom"})
        run.tool("cancel", "a_/00_a")
        wait_until("the command that ends it", lambda: made.cloud.calls("ngc", "batch", "kill"))
        os.kill(run.runner, signal.SIGKILL)
        assert run.process is not None
        run.process.wait()
        run.start()
        assert run.finish() == 1
        assert isinstance(run.job("a").state, Cancelled)
        assert made.cloud.ended("a")


FAULTS = [
    ([], "--runner=ngc needs --ngc_job_template=FILE"),
    (["--ngc_job_template=nowhere.txt"], "--ngc_job_template=nowhere.txt: No such file or directory"),
    (["--ngc_job_template=no_cmd.txt"], "--ngc_job_template=no_cmd.txt has no {{ experiment_cmd }}; put it where"),
    (["--ngc_job_template=no_name.txt"], "--ngc_job_template=no_name.txt has no {{ name }}; put it where"),
    (["--ngc_job_template=good.txt", "--num_gpus=2"], "--num_gpus is about this machine; what a job gets is said in"),
    (["--ngc_job_template=good.txt"], "--runner=ngc needs the program 'ngc' (--ngc_job_template=good.txt), which is"),
]


@pytest.mark.parametrize(("flags", "says"), FAULTS, ids=[says[:40] for _, says in FAULTS])
def test_what_is_missing_is_told_in_one_line_before_anything_happens(
    flags: list[str], says: str, tmp_path: Path
) -> None:
    (tmp_path / "no_cmd.txt").write_text("ngc batch run --name {{ name }}")
    (tmp_path / "no_name.txt").write_text("ngc batch run -c '{{ experiment_cmd }}'")
    (tmp_path / "good.txt").write_text(TEMPLATE)
    with run_under_test(tmp_path, python("a", "pass")) as run:
        run.base_flags = ["--runner=ngc"]
        run.start(*flags)
        assert run.finish() == 2
        (line,) = run.printed().splitlines()
        assert line.startswith(f"error: {says}")
        assert not run.paths.root.exists()


def test_flags_of_ngc_belong_to_ngc(tmp_path: Path) -> None:
    with run_under_test(tmp_path, python("a", "pass")) as run:
        run.start("--ngc_job_template=x")
        assert run.finish() == 2
        assert run.printed() == "error: --ngc_job_template is a flag of --runner=ngc, not of --runner=processes\n"


def test_the_example_of_the_guide_for_another_cluster(tmp_path: Path) -> None:
    """docs/examples/aws_batch.py, on an Amazon Batch that checks its flags as strictly."""
    examples = Path(__file__).parents[2] / "docs" / "examples"
    with cloud_run(tmp_path, shell("good", "exit 0"), shell("bad", "echo 'quoted \"x\"'; exit 3")) as made:
        run = made.run
        run.describe(shell("good", "exit 0"), shell("bad", "echo 'quoted \"x\"'; exit 3"), made.patient("long"))
        shutil.copy(examples / "aws_batch.py", run.folder)
        run.base_flags = ["--ui=plain", "--runner=aws_batch:AwsBatch"]
        env = {"AWS_BATCH_QUEUE": "gpu-queue"}
        run.start(env=env)
        run.wait_for("bad", Failed)
        run.wait_for("good", Succeeded)
        run.wait_for("long", Running)
        assert run.process is not None
        os.kill(run.runner, signal.SIGKILL)  # and the next start finds its job, which goes on
        run.process.wait()
        run.start(env=env)
        run.wait("a second opening", lambda state: len(state.runners) == 2)
        state = run.job("bad").state
        assert isinstance(state, Failed)
        assert state.cause.summary == "failed (AWS Batch: FAILED: Essential container in task exited, exit code 3)"
        assert run.tool("cancel", "long*").returncode == 0
        assert run.finish() == 1
        assert isinstance(run.job("long").state, Cancelled)
        assert [argv[3:5] for argv in made.cloud.calls("aws", "batch", "terminate-job")] == [
            ["--job-id", f"uuid-{made.cloud.job('long')['id']}"]
        ]
        assert len(made.cloud.calls("aws", "batch", "submit-job")) == 3
        log = (made.cloud.folder / "jobs" / f"{made.cloud.job('bad')['id']}.log").read_text()
        assert log == 'quoted "x"\n'
        assert json.loads((run.paths.runner_dir / "ngc" / "ids.jsonl").read_text().splitlines()[0])["cloud"]
