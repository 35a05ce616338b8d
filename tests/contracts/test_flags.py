"""The public flags of the commands. Changing one is a decision: change this list with it, and the changelog."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sf_runner import cancel, logs, run, status
from sf_runner.cli.parser import Parser

RUN = """
--run --runner --backend --train_dir --experiment_suffix --dry_run --ui --detach --progress_every --max_parallel
--pause_between --order --num_gpus --experiments_per_gpu --gpus --gpu_ids --gpu_exclude_busy --gpu_memory_per_experiment
--cpus_per_experiment --max_retries --retry_delay --max_failures --retry_failed --retry_cancelled --changed --timeout
--stall_timeout --grace --notify_command --notify_on
--slurm_partition --slurm_account --slurm_qos --slurm_constraint --slurm_time --slurm_mem --slurm_gpus_per_job
--slurm_cpus_per_gpu --slurm_cpus_per_job --slurm_experiments_per_job --slurm_side_by_side --slurm_timeout
--slurm_signal_ahead --slurm_max_requeues --slurm_workdir --slurm_sbatch_template --slurm_args --slurm_poll
--slurm_print_only
--ngc_job_template --ngc_train_dir --ngc_poll --ngc_print_only
"""
STATUS = "run --train_dir --json --state --all --watch -w --ui"
CANCEL = "run --train_dir jobs --kill --grace"
LOGS = "run --train_dir job --attempt --follow -f --tail -n --path"


class SeenError(Exception):
    """Carries the parser out of the command."""


@contextmanager
def caught(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Parser]]:
    parsers: list[Parser] = []

    def stop(parser: Parser, argv: object) -> argparse.Namespace:
        parsers.append(parser)
        raise SeenError

    with monkeypatch.context() as patch:
        patch.setattr(Parser, "parse_strictly", stop)
        yield parsers


@pytest.mark.parametrize(("command", "flags"), [(run, RUN), (status, STATUS), (cancel, CANCEL), (logs, LOGS)])
def test_flags_are_frozen(command: Any, flags: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with caught(monkeypatch) as parsers, pytest.raises(SeenError):
        command.main([])
    found = [name for action in parsers[0]._actions for name in (action.option_strings or [action.dest])]
    assert [name for name in found if name not in ("-h", "--help")] == flags.split()
