"""Where summaries go: tensorboard files and Weights & Biases."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from sf_algo.config.extras import WandbConfig
from sf_algo.config.run import RunConfig
from sf_algo.errors import StorageError, SummaryError
from sf_algo.files import storage_fault, write_bytes_atomically
from sf_algo.paths import ExperimentPaths
from sf_algo.summaries.event_file import EventFileWriter

log = logging.getLogger(__name__)


class SummarySink(Protocol):
    """Takes the scalars of one policy at one step. A sink that fails says so once and never ends a
    training."""

    def write(self, policy_id: int, values: Mapping[str, float], *, env_steps: int, wall_time: float) -> None: ...

    def write_table(self, policy_id: int, table: Mapping[str, Any], *, env_steps: int, wall_time: float) -> None:
        """A table with `title`, `columns` and `rows`."""

    def close(self) -> None: ...


class TensorboardSink:
    """One tensorboard folder per policy, ``.summary/<policy>``."""

    def __init__(
        self,
        paths: ExperimentPaths,
        *,
        num_policies: int,
        wall_time: float,
        resume_env_steps: Sequence[int] | None = None,
    ) -> None:
        """`resume_env_steps`: where each policy's training goes on; later points of earlier files are
        dropped.

        Raises:
            StorageError: a file cannot be made.
        """
        self._failed = False
        self._writers = []
        for policy in range(num_policies):
            folder = paths.summary(policy)
            resume_step = resume_env_steps[policy] if resume_env_steps is not None else None
            try:
                self._writers.append(EventFileWriter(folder, wall_time=wall_time, resume_step=resume_step))
            except OSError as error:
                raise StorageError(storage_fault("summaries", folder, error)) from error

    def write(self, policy_id: int, values: Mapping[str, float], *, env_steps: int, wall_time: float) -> None:
        writer = self._writers[policy_id]
        self._attempt(writer, lambda: writer.add_scalars(values, step=env_steps, wall_time=wall_time))

    def write_table(self, policy_id: int, table: Mapping[str, Any], *, env_steps: int, wall_time: float) -> None:
        writer, text = self._writers[policy_id], markdown_table(table)
        self._attempt(writer, lambda: writer.add_text(table["title"], text, step=env_steps, wall_time=wall_time))

    def _attempt(self, writer: EventFileWriter, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            if not self._failed:
                log.warning("%s", storage_fault("summaries", writer.path, error))
            self._failed = True
        else:
            self._failed = False

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


class WandbSink:
    """One Weights & Biases run for the experiment; a resumed training continues it."""

    def __init__(
        self,
        wandb_cfg: WandbConfig,
        run_cfg: RunConfig,
        paths: ExperimentPaths,
        *,
        num_policies: int,
        flags: Mapping[str, Any],
    ) -> None:
        """`flags` are shown as the run's configuration.

        Raises:
            SummaryError: not installed, not logged in, or refused.
        """
        try:
            import wandb
        except ImportError as error:
            raise SummaryError("--with_wandb=True needs the package wandb: pip install wandb") from error
        self._prefixes = [f"p{policy}/" if num_policies > 1 else "" for policy in range(num_policies)]
        self._failed = False
        try:
            self._run = wandb.init(
                project=wandb_cfg.wandb_project,
                entity=wandb_cfg.wandb_user,
                group=wandb_cfg.wandb_group or run_cfg.env,
                job_type=wandb_cfg.wandb_job_type,
                tags=list(wandb_cfg.wandb_tags),
                name=run_cfg.experiment,
                id=_run_id(paths.wandb_id),
                resume="allow",
                dir=str(paths.root),
                config=dict(flags),
                settings=wandb.Settings(console="off", silent=True),
            )
            self._run.define_metric("*", step_metric="env_steps")
        except Exception as error:  # wandb raises many kinds: usage, login, network, its own service's death
            raise SummaryError(
                f"Weights & Biases cannot start: {str(error).rstrip('. ') or type(error).__name__}; run "
                "`wandb login`, set WANDB_MODE=offline, or leave --with_wandb out"
            ) from error
        where = f"offline, in {paths.root / 'wandb'}" if self._run.offline else self._run.url
        log.info("Weights & Biases: %s", where)

    def write(self, policy_id: int, values: Mapping[str, float], *, env_steps: int, wall_time: float) -> None:
        prefix = self._prefixes[policy_id]
        row = {prefix + tag: value for tag, value in values.items()}
        try:
            self._run.log({**row, "env_steps": env_steps})
        except Exception as error:
            if not self._failed:
                log.warning("Weights & Biases takes no more summaries: %s", error)
            self._failed = True

    def write_table(self, policy_id: int, table: Mapping[str, Any], *, env_steps: int, wall_time: float) -> None:
        """Its numbers are among the averages already."""

    def close(self) -> None:
        try:
            self._run.finish()
        except Exception as error:
            log.warning("Weights & Biases did not end cleanly: %s", error)


def markdown_table(table: Mapping[str, Any]) -> str:
    """A table with `columns` and `rows` as Markdown."""
    lines = [list(table["columns"]), ["---"] * len(table["columns"]), *(map(_cell, row) for row in table["rows"])]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


def _run_id(path: Path) -> str:
    """The identity stored by an earlier start of this experiment, or a new one."""
    if path.exists():
        return path.read_text().strip()
    identity = uuid.uuid4().hex[:12]
    write_bytes_atomically(path, identity.encode(), what="Weights & Biases run id")
    return identity
