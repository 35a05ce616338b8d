"""`--runner=module:Class`: what is wrong with a user's class is one line; a whole backend runs experiments."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from sf_runner.state import events as ev
from sf_runner.state.jobs import Failed, Running, Succeeded
from tests.runner.harness import RunUnderTest, python, run_under_test, shell

MINE = """
from sf_runner.backends.cluster import Cluster
from sf_runner.backends.local.backend import ProcessesBackend

class Half(Cluster):
    def submit(self, job):
        return ["submit", job.name]

class NoProgram(Cluster):
    name = "Nowhere"
    states = {"R": "running", "D": "succeeded", "F": "failed"}
    def submit(self, job): return ["no-such-queue", "add"]
    def read_id(self, output): return output
    def list(self, prefix, days): return ["no-such-queue", "list"]
    def read_jobs(self, output): return []
    def kill(self, job_ids): return ["no-such-queue", "kill"]

class Nothing:
    pass

class Raises(NoProgram):
    def __init__(self):
        raise KeyError("QUEUE")

class Local(ProcessesBackend):
    local = True

class Mistyped(NoProgram):
    states = {"R": "runnning", "D": "succeeded", "F": "failed"}

class Endless(NoProgram):
    states = {"R": "running", "F": "failed"}

class TextPoll(NoProgram):
    poll_s = "15"

class NoPause(NoProgram):
    retry_s = 0

class HalfACall(NoProgram):
    parallel_calls = 1.5

class NoPattern(NoProgram):
    transient = "(try again"

class ListRaises(NoProgram):
    states = {"R": "running", "D": "succeeded", "F": "failed"}
    def list(self, prefix, days): return {}["queue"]

class NoRunId(ProcessesBackend):
    def __init__(self): pass
"""

FAULTS = [
    ("mine:Haff", "mine has no class 'Haff'. Did you mean 'Half'?"),
    ("mine:Half", "the class lacks read_id, list, read_jobs, kill, which a Cluster needs; see docs/backends.md"),
    ("mine:Nothing", "the class lacks adopt, certain, close, "),
    ("mine:Raises", "Raises() failed: KeyError: 'QUEUE'"),
    ("nowhere.to_be:Found", "module 'nowhere.to_be' cannot be imported: ModuleNotFoundError: "),
    ("mine:Mistyped", "Mistyped.states: 'R' is 'runnning', which is no state of a job. Did you mean 'running'?"),
    ("mine:Endless", "Endless.states: no word of the cluster means succeeded"),
    ("mine:TextPoll", "TextPoll.poll_s: '15' is no number above 0"),
    ("mine:NoPause", "NoPause.retry_s: 0 is no number above 0"),
    ("mine:HalfACall", "HalfACall.parallel_calls: 1.5 is no whole number"),
    ("mine:NoPattern", "NoPattern.transient: '(try again' is no regular expression: missing ), unterminated"),
    ("mine:ListRaises", "ListRaises.list failed: KeyError: 'queue'; see docs/backends.md"),
    ("mine:NoRunId", "NoRunId(run_id) cannot be called: too many positional arguments"),
    ("leaves:Any", "module 'leaves' cannot be imported: SystemExit: 5"),
    (
        "minee:Half",
        "module 'minee' cannot be imported: ModuleNotFoundError: No module named 'minee'. Did you mean 'mine'?",
    ),
    ("broken:Any", "module 'broken' cannot be imported: ZeroDivisionError: division by zero"),
]


@pytest.mark.parametrize(("runner", "says"), FAULTS, ids=[runner for runner, _ in FAULTS])
def test_a_class_that_cannot_be_used_is_one_line(runner: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(5)\n")
    with run_under_test(tmp_path, python("a", "pass")) as run:
        run.base_flags = [f"--runner={runner}"]
        run.start()
        assert run.finish() == 2
        (line,) = run.printed().splitlines()
        assert line.startswith(f"error: --runner={runner}: {says}")
        assert not run.paths.root.exists()


def test_a_cluster_without_its_program_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    with run_under_test(tmp_path, python("a", "pass")) as run:
        run.base_flags = ["--runner=mine:NoProgram"]
        run.start()
        assert run.finish() == 2
        assert run.printed() == (
            "error: --runner=mine:NoProgram needs the program 'no-such-queue', which is not on PATH; install the "
            "command line of Nowhere\n"
        )


def test_a_whole_backend_runs_experiments(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    with run_under_test(tmp_path, python("a", "print('hello')")) as run:
        run.base_flags = ["--ui=plain", "--runner=mine:Local"]
        run.start("--num_gpus=0")
        assert run.finish() == 0
        assert isinstance(run.job("a").state, Succeeded)
        opened = run.read().opened
        assert opened is not None
        assert (opened.backend, opened.local, opened.queues) == ("mine:Local", True, False)


SPOOL = """
import json
from sf_runner.backends.cluster import Cluster, ClusterJob

# A cluster of one machine: a job is a process with a folder of its own.
SUBMIT = 'n=$(ls spool | wc -l); mkdir spool/$n; echo "$1" > spool/$n/name; '
SUBMIT += '(sh -c "$2" > "$3" 2>&1; echo $? > spool/$n/code) < /dev/null > /dev/null 2>&1 & echo "{\\"id\\": $n}"'
LIST = 'for n in $(ls spool); do echo "$n $(cat spool/$n/name) $(cat spool/$n/code 2> /dev/null)"; done'

class Spool(Cluster):
    name = "spool"
    poll_s, settle_s, retry_s = 0.1, 0.5, 0.05
    shares_files = True
    states = {"R": "running", "D": "succeeded", "F": "failed"}

    def submit(self, job):
        return ["sh", "-c", SUBMIT, "sh", job.name, job.command, job.log]

    def read_id(self, output):
        return json.loads(output)["id"]  # a number

    def list(self, prefix, days):
        return ["sh", "-c", LIST]

    def read_jobs(self, output):
        rows = [line.split() for line in output.splitlines()]
        return [ClusterJob(id=int(row[0]), name=row[1], state=self.state(*row[2:])) for row in rows]

    def state(self, code=None):
        return "R" if code is None else "D" if code == "0" else "F"

    def kill(self, job_ids):
        return ["true"]

class Numbers(Spool):
    states = {1: "running", 2: "succeeded", 3: "failed"}
    transient = "try again"
    def state(self, code=None): return 1 if code is None else 2 if code == "0" else 3

class Empty(Spool):
    def read_id(self, output): return ""

class Unreadable(Spool):
    def read_id(self, output): return json.loads(output)["jobId"]

class Once(Spool):
    failed = False
    def read_jobs(self, output):
        if not self.failed:
            self.failed = True
            return [][0]
        return super().read_jobs(output)

class NoWords(Spool):
    def submit(self, job): return None
"""


def spool_run(run: RunUnderTest, cluster: str) -> None:
    (run.folder / "spools.py").write_text(SPOOL)
    (run.folder / "spool").mkdir()
    run.base_flags = ["--ui=plain", f"--runner=spools:{cluster}"]


PATIENT = "until test -e go; do sleep 0.02; done; echo a >> done"


@pytest.mark.parametrize("cluster", ["Spool", "Numbers", "Empty", "Unreadable", "Once"])
def test_a_job_runs_once_whatever_the_class_makes_of_the_answers(cluster: str, tmp_path: Path) -> None:
    with run_under_test(tmp_path, shell("a", PATIENT)) as run:
        spool_run(run, cluster)
        process = run.start()
        run.wait_for("a", Running)
        os.kill(run.runner, signal.SIGKILL)
        process.wait()
        run.start()
        run.wait("a second opening", lambda state: len(state.runners) == 2)
        (tmp_path / "go").touch()
        assert run.finish() == 0, run.printed()
        assert (tmp_path / "done").read_text().split() == ["a"]
        assert len(list((tmp_path / "spool").iterdir())) == 1
        assert run.job("a").attempts == 1
        assert "Traceback" not in run.printed()


def test_a_job_that_fails_is_submitted_again(tmp_path: Path) -> None:
    flaky = "test -e second && exit 0; touch second; exit 4"
    with run_under_test(tmp_path, shell("a", flaky)) as run:
        spool_run(run, "Spool")
        run.start("--max_retries=1", "--retry_delay=0")
        assert run.finish() == 0, run.printed()
        assert len(list((tmp_path / "spool").iterdir())) == 2
        assert [event.verdict for event in run.read_events(ev.AttemptEnded, "a")] == ["retry", "succeeded"]  # type: ignore[attr-defined]


def test_a_class_that_makes_no_command_fails_the_job_not_the_run(tmp_path: Path) -> None:
    with run_under_test(tmp_path, shell("a", "exit 0")) as run:
        spool_run(run, "NoWords")
        run.start()
        assert run.finish() == 1
        state = run.job("a").state
        assert isinstance(state, Failed)
        assert "NoWords.submit returned None; it has to be a list of words" in state.cause.summary
        assert "Traceback" not in run.printed()
