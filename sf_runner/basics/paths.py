"""Where everything of a run lies on disk. The only module that knows a file name.

<train_dir>/<run_name>/
  .runner/journal.jsonl  .runner/journal_state.json  .runner/lock  .runner/runner.json  .runner/history.json
  .runner/requests/  .runner/*.log  .runner/slurm/  .runner/ngc/
  <base_name>_<suffix>/<experiment_name>/
    job/attempt_<k>.log  job/exit.json  job/stop.json  job/progress.json  job/progress_history.jsonl
    ...                          everything else in there belongs to the program that runs
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sf_runner.basics.errors import UsageError, did_you_mean

RUNNER_DIR = ".runner"
STATE_CACHE = "journal_state.json"
"""The state of a run as of some place in its journal, beside that; may be deleted at any time."""
SUMMARY_DIR = ".summary"
"""Tensorboard files of an experiment, one folder per policy; the trainer's."""
NO_LOG = "no log: it was not started"
_ATTEMPT_LOG = re.compile(r"attempt_(\d+)\.log\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class JobPaths:
    """Files of one job. `experiment_dir` is what the program sees as its own folder."""

    experiment_dir: Path

    @property
    def job_dir(self) -> Path:
        """The runner's corner of the experiment's folder."""
        return self.experiment_dir / "job"

    def attempt_log(self, attempt: int) -> Path:
        """Standard output and error of attempt `attempt`, counted from 1."""
        return self.job_dir / f"attempt_{attempt}.log"

    def has_log(self, attempt: int) -> bool:
        """Whether that log is there: what was never started has none."""
        return self.attempt_log(attempt).exists()

    def attempt_logs(self) -> list[Path]:
        """The logs that exist, oldest attempt first."""
        found: list[tuple[int, Path]] = []
        try:
            with os.scandir(self.job_dir) as entries:
                for entry in entries:
                    if match := _ATTEMPT_LOG.match(entry.name):
                        found.append((int(match[1]), Path(entry.path)))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [path for _, path in sorted(found)]

    @property
    def exit_record(self) -> Path:
        """Written atomically when an attempt ends: the truth about how it ended."""
        return self.job_dir / "exit.json"

    @property
    def progress(self) -> Path:
        """The program's latest progress, replaced atomically by the program."""
        return self.job_dir / "progress.json"

    @property
    def progress_history(self) -> Path:
        """Older progress, one JSON object per line, appended by the program."""
        return self.job_dir / "progress_history.jsonl"

    @property
    def results(self) -> Path:
        """What the program leaves at its end, one JSON object."""
        return self.experiment_dir / "results.json"

    @property
    def config(self) -> Path:
        """The trainer's configuration, one JSON object."""
        return self.experiment_dir / "cfg.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPaths:
    """Files of one run. Paths stay relative when `train_dir` is relative."""

    train_dir: Path
    run_name: str

    @property
    def root(self) -> Path:
        return self.train_dir / self.run_name

    @property
    def words(self) -> str:
        """What other commands have to be given to find it: its name, and where it is unless that is the default."""
        return self.run_name + ("" if self.train_dir == Path("train_dir") else f" --train_dir={self.train_dir}")

    @property
    def runner_dir(self) -> Path:
        return self.root / RUNNER_DIR

    @property
    def journal(self) -> Path:
        """Append-only versioned events, one writer."""
        return self.runner_dir / "journal.jsonl"

    @property
    def lock(self) -> Path:
        """Held by the one live runner."""
        return self.runner_dir / "lock"

    @property
    def lock_holder(self) -> Path:
        """Who holds the lock, for error messages."""
        return self.runner_dir / "runner.json"

    @property
    def runner_output(self) -> Path:
        """What the runner itself printed (warnings, tracebacks) while the full-screen UI had the terminal."""
        return self.runner_dir / "runner_output.log"

    @property
    def notify_log(self) -> Path:
        """What `--notify_command` printed."""
        return self.runner_dir / "notify.log"

    @property
    def history(self) -> Path:
        """Measured durations and peak memory per configuration, for ordering and estimates."""
        return self.runner_dir / "history.json"

    @property
    def report_dir(self) -> Path:
        """Where `sf_runner.report` writes unless told otherwise."""
        return self.root / "report"

    @property
    def requests_dir(self) -> Path:
        """Other terminals drop one file per request here; the live runner takes them in name order."""
        return self.runner_dir / "requests"

    @property
    def slurm_dir(self) -> Path:
        """One folder per array of Slurm jobs."""
        return self.runner_dir / "slurm"

    @property
    def cluster_ids(self) -> Path:
        """Ids of jobs in NGC or another cluster, one JSON object a line."""
        return self.runner_dir / "ngc" / "ids.jsonl"

    def job(self, job_id: str) -> JobPaths:
        """Paths of the job with this id (its folder relative to the run's)."""
        return JobPaths(experiment_dir=self.root / job_id)


def attempt_files(root: str, job_id: str, attempt: int) -> tuple[str, str, str]:
    """Log, exit record and progress file of an attempt as text, in the run's folder `root`: the fast way, for
    thousands of them."""
    job_dir = f"{root}/{job_id}/job"
    return f"{job_dir}/attempt_{attempt}.log", f"{job_dir}/exit.json", f"{job_dir}/progress.json"


def iter_runs(train_dir: Path) -> Iterator[RunPaths]:
    """Runs directly under `train_dir`, by name."""
    try:
        names = sorted(entry.name for entry in os.scandir(train_dir) if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        run = RunPaths(train_dir=train_dir, run_name=name)
        if run.runner_dir.is_dir():
            yield run


def find_run(run: str, train_dir: Path) -> RunPaths:
    """The run named `run` under `train_dir`, or the run whose folder is the path `run`.

    Raises:
        UsageError: no such run; the message names the nearest one.
    """
    named = RunPaths(train_dir=train_dir, run_name=run)
    if "/" not in run and run not in {"", ".", ".."} and named.runner_dir.is_dir():
        return named
    folder = Path(run)
    if run and (folder / RUNNER_DIR).is_dir():
        folder = folder.resolve() if folder.name in {"", ".."} else folder
        return RunPaths(train_dir=folder.parent, run_name=folder.name)
    known = [found.run_name for found in iter_runs(train_dir)]
    hint = did_you_mean(run, known) or " It holds no runs; is --train_dir right?"
    raise UsageError(f"No run '{run}' under --train_dir={train_dir}.{hint}")
