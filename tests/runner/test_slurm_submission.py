"""How experiments get into Slurm: arrays, limits, throttles, scripts to the byte, a runner killed meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from sf_runner.state import events as ev
from sf_runner.state.jobs import Running
from tests.runner.harness import wait_until
from tests.runner.slurm_cluster import SlurmCluster
from tests.runner.slurm_runs import slurm_run

pytestmark = pytest.mark.slurm


def many(count: int, script: str = "true") -> str:
    return f"Experiment('e', ['sh', '-c', {script!r}], [{{'i': i}} for i in range({count})])"


@pytest.mark.slow  # a cluster of its own
def test_arrays_are_cut_to_what_the_cluster_takes(tmp_path: Path) -> None:
    with SlurmCluster(max_array_size=6) as cluster, slurm_run(tmp_path, cluster, many(20)) as run:
        run.start()
        assert run.finish() == 0
        sizes = [len(path.read_text().splitlines()) - 1 for path in sorted(run.slurm_dir.glob("*/tasks.jsonl"))]
        assert sizes == [6, 6, 6, 2]
        assert all(array.isdigit() for array in run.arrays())
        assert all(record.attempts == 1 for record in run.state.jobs.values())


@pytest.mark.slow  # a client tries long to reach a controller that is gone
def test_what_the_cluster_takes_is_asked_again_when_the_controller_was_down_at_the_start(tmp_path: Path) -> None:
    with SlurmCluster(max_array_size=6) as cluster, slurm_run(tmp_path, cluster, many(13)) as run:
        cluster.stop_controller()
        run.start()
        told = "Slurm does not take the experiments yet"
        run.wait("a word about it", lambda state: any(told in note.text for note in state.notes))
        cluster.start_controller()
        assert run.finish(timeout_s=180) == 0
        sizes = [len(path.read_text().splitlines()) - 1 for path in sorted(run.slurm_dir.glob("*/tasks.jsonl"))]
        assert sizes == [6, 6, 1]
        assert all(record.attempts == 1 for record in run.state.jobs.values())


def test_what_a_job_asks_for_makes_arrays_of_their_own(tmp_path: Path, cluster: SlurmCluster) -> None:
    script = "echo $SLURM_CPUS_ON_NODE/${CUDA_VISIBLE_DEVICES-none}"
    experiments = [
        f"Experiment('{name}', ['sh', '-c', {script!r}], resources=Resources({needs}))"
        for name, needs in (("a", "gpus=2"), ("b", "cpus=3"), ("c", "gpus=0"))
    ]
    with slurm_run(tmp_path, cluster, *experiments) as run:
        run.start("--slurm_cpus_per_gpu=2")
        assert run.finish() == 0
        assert [run.log(name).strip() for name in "abc"] == ["4/0,1", "3/none", "2/none"]
        assert len(run.arrays()) == 3


def test_the_throttle_is_changed_while_it_runs(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster) as run:
        run.describe(*[run.waiting(name) for name in "abcd"])
        first = run.start("--max_parallel=1")
        run.wait_for("a", Running)
        array = run.arrays()[0]

        def throttle() -> str:
            (line,) = {
                line for line in cluster.run("scontrol", "show", "job", array).split() if "ArrayTaskThrottle" in line
            }
            return line.partition("=")[2]

        assert throttle() == "1"
        request = run.paths.requests_dir / "1_1_1.json"
        request.parent.mkdir(exist_ok=True)
        request.write_text('{"version": 1, "action": "parallel", "number": 2}')
        run.wait("two to run", lambda state: state.count("Running") == 2)
        assert throttle() == "2"
        first.send_signal(signal.SIGHUP)
        first.wait()
        run.start("--max_parallel=3")
        run.wait("three to run", lambda state: state.count("Running") == 3)
        assert throttle() == "3"
        for name in "abcd":
            run.finish_waiting(name)
        assert run.finish() == 0


def test_what_is_printed_is_submitted_to_the_byte(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster, many(3)) as run:
        flags = ["--max_parallel=2", "--slurm_cpus_per_job=2", "--slurm_time=2h", "--slurm_args=--nice=5"]
        printed = subprocess.run(
            run.command(*flags, "--slurm_print_only"),
            cwd=run.folder,
            env=run.environ(),
            capture_output=True,
            check=True,
        )
        assert not run.paths.root.exists(), "nothing is touched"
        run.start(*flags)
        assert run.finish() == 0
        script = run.slurm_dir / "0001" / "script.sh"
        assert printed.stdout == script.read_bytes()
        assert str(script) in printed.stderr.decode()


def test_a_template_of_the_predecessor_works(tmp_path: Path, cluster: SlurmCluster) -> None:
    template = tmp_path / "template.sh"
    template.write_text(
        "#!/bin/bash\n#SBATCH --nice=7\nexport FROM_TEMPLATE=yes\ntimeout $TIMEOUT $CMD\n"
        "if [[ $? -eq 124 ]]; then\n    sbatch ${PARTITION}--gres=gpu:$GPU -c $CPU $FILENAME\nfi\n"
    )
    with slurm_run(tmp_path, cluster) as run:
        experiment = "Experiment('e', ['sh', '-c', 'echo $FROM_TEMPLATE $MY $0 >> seen'], env_vars={'MY': 'a  b'})"
        run.describe(experiment, run.waiting("w"))
        run.start(f"--slurm_sbatch_template={template}", "--slurm_partition=main", "--grace=5")
        run.wait_for("w", Running)
        run.cancel("w")
        assert run.finish() == 1
        assert (tmp_path / "seen").read_text().split()[:3] == ["yes", "a", "b"]
        assert run.state.count("Succeeded") == run.state.count("Cancelled") == 1
        script = (run.slurm_dir / "0001" / "script.sh").read_text()
        assert script.index("--nice=7") < script.index("#SBATCH --array") < script.index("export FROM_TEMPLATE")
        wait_until("Slurm to be empty", lambda: not cluster.jobs())


@pytest.mark.parametrize("moment", [0, *(pytest.param(n, marks=[pytest.mark.slow] * (n % 2)) for n in range(1, 6))])
def test_a_runner_killed_while_it_submits_loses_and_repeats_nothing(
    tmp_path: Path, cluster: SlurmCluster, moment: int
) -> None:
    """The moments: as its journal says that all are submitted, and ever later until sbatch has long answered."""
    with slurm_run(tmp_path, cluster, many(12, "echo $SF_RUNNER_JOB >> done")) as run:
        run.start()
        wait_until("the journal", run.paths.journal.exists)
        if moment:
            wait_until("a batch to be written", lambda: any(run.slurm_dir.glob("[0-9]*/tasks.jsonl")))
        time.sleep(0.02 * max(0, moment - 1))
        run.read()
        os.kill(run.guardian, signal.SIGKILL)
        assert run.process is not None
        run.process.wait()
        run.start()
        assert run.finish() == 0
        done = Counter((tmp_path / "done").read_text().split())
        assert len(done) == 12
        assert set(done.values()) == {1}, "each ran once"
        ended = [(e.job, e.verdict) for e in run.read_events(ev.AttemptEnded)]  # type: ignore[attr-defined]
        assert sum(verdict == "succeeded" for _, verdict in ended) == 12
