"""`--runner=module:Class`: what is wrong with a user's class is one line; a whole backend runs experiments."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_runner.state.jobs import Succeeded
from tests.runner.harness import python, run_under_test

MINE = """
from sf_runner.backends.cluster.api import Cluster
from sf_runner.backends.local.backend import ProcessesBackend

class Half(Cluster):
    def submit(self, job):
        return ["submit", job.name]

class NoProgram(Cluster):
    name = "Nowhere"
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
"""

FAULTS = [
    ("mine:Haff", "mine has no class 'Haff'. Did you mean 'Half'?"),
    ("mine:Half", "the class lacks read_id, list, read_jobs, kill, which a Cluster needs; see docs/backends.md"),
    ("mine:Nothing", "the class lacks adopt, certain, close, "),
    ("mine:Raises", "Raises() failed: KeyError: 'QUEUE'"),
    ("nowhere.to_be:Found", "module 'nowhere.to_be' cannot be imported: ModuleNotFoundError: "),
    ("broken:Any", "module 'broken' cannot be imported: ZeroDivisionError: division by zero"),
]


@pytest.mark.parametrize(("runner", "says"), FAULTS, ids=[runner for runner, _ in FAULTS])
def test_a_class_that_cannot_be_used_is_one_line(runner: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "broken.py").write_text("1 / 0\n")
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
