"""Arguments that the inspecting commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sf_runner.basics.errors import UsageError
from sf_runner.basics.job_names import resolve
from sf_runner.basics.paths import RunPaths, find_run
from sf_runner.cli.parser import Parser
from sf_runner.engine.snapshot import RunSnapshot


def add_run_arguments(parser: Parser, *, run_optional: bool = False) -> None:
    """RUN and --train_dir, as every command about an existing run has them."""
    parser.add_argument("run", metavar="RUN", nargs="?" if run_optional else None, help="name or folder of the run")
    parser.add_argument(
        "--train_dir", metavar="DIR", default="./train_dir", help="where runs are (default: ./train_dir)"
    )


def run_paths(run: str, train_dir: str) -> RunPaths:
    """UsageError naming the nearest run when there is none of that name."""
    return find_run(run, Path(train_dir))


def jobs_of(snapshot: RunSnapshot, wanted: Sequence[str]) -> list[str]:
    """Ids of the jobs that were asked for. UsageError when one matches nothing."""
    if not snapshot.state.jobs:
        raise UsageError(f"run '{snapshot.paths.run_name}' has no experiments yet")
    return resolve(wanted, list(snapshot.state.jobs))
