"""Experiments in a folder that no runner made: told apart by what their configuration files (`cfg.json`) differ in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sf_runner.basics.paths import JobPaths
from sf_runner.board.find import FoundExperiment, scan
from sf_runner.results.experiments import RECORDED, SEED_NAMES, TASK_NAMES, Experiment

_PLACES = frozenset(
    {"experiment", "train_dir", "experiments_root", "device", "cli_args", "command_line", "wandb_job_type"}
)
"""Flags that differ without making another configuration."""


def experiments_in(folder: Path, name: str) -> list[Experiment]:
    """Every experiment under `folder`, in the state `RECORDED`, for nobody tells how they ended; empty when there is
    none. UsageError when `folder` is no directory."""
    found = scan(folder)
    configs = [_config(JobPaths(experiment_dir=folder / experiment.path)) for experiment in found.experiments]
    varying = _varying(configs)
    return [
        _experiment(index, experiment, config, folder, name, varying)
        for index, (experiment, config) in enumerate(zip(found.experiments, configs, strict=True))
    ]


def _experiment(
    index: int, found: FoundExperiment, config: Mapping[str, object], folder: Path, name: str, varying: Iterable[str]
) -> Experiment:
    seed_name = next((known for known in SEED_NAMES if config.get(known) is not None), None)
    params = {key: config.get(key) for key in varying if key != seed_name}
    # Without a configuration file each experiment is one of its own.
    identity = json.dumps(params, sort_keys=True, default=str) if config else found.path
    return Experiment(
        run=name,
        job_id=found.path,
        index=index,
        base_name=str(config.get("env") or found.path.rsplit("/", 1)[0]),
        params=params,
        seed=None if seed_name is None else str(config[seed_name]),
        task=next((str(config[key]) for key in TASK_NAMES if config.get(key) is not None), ""),
        config=hashlib.blake2b(identity.encode(), digest_size=8).hexdigest(),
        state=RECORDED,
        attempts=1,
        wall_time_s=_wall_time_s(JobPaths(experiment_dir=folder / found.path)),
        error="",
        paths=JobPaths(experiment_dir=folder / found.path),
    )


def _varying(configs: Iterable[Mapping[str, object]]) -> list[str]:
    """Flags with more than one value; those that every experiment that has any shares say nothing."""
    values: dict[str, set[str]] = {}
    known = [config for config in configs if config]
    for config in known:
        for key, value in config.items():
            values.setdefault(key, set()).add(json.dumps(value, default=str))
    return [
        key
        for key, seen in values.items()
        if key not in _PLACES and (len(seen) > 1 or any(key not in config for config in known))
    ]


def _config(job: JobPaths) -> dict[str, object]:
    """The leaves of `cfg.json` by their last name: our trainer keeps them in sections, others in one object."""
    body = _read_object(job.config)
    leaves: dict[str, object] = {}
    pending = [body.get("config", body) if isinstance(body.get("config", body), dict) else body]
    while pending:
        for key, value in pending.pop().items():
            if isinstance(value, dict):
                pending.append(value)
            elif not isinstance(value, list):
                leaves.setdefault(str(key), value)
    return leaves


def _wall_time_s(job: JobPaths) -> float | None:
    value = _read_object(job.results).get("wall_seconds")
    return float(value) if isinstance(value, int | float) else None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}
