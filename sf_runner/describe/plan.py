"""The plan: a run description expanded to frozen jobs, before anything is started."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sf_runner.basics.digest import digest
from sf_runner.basics.errors import DescriptionError
from sf_runner.basics.paths import JobPaths, RunPaths
from sf_runner.describe.description import Expansion, Experiment, Resources, RunDefaults, RunDescription
from sf_runner.describe.values import value_text


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One command to run once with success.

    job_id: its folder relative to the run's, `<base_name>_<suffix>/<name>`; stable, unique within the run.
    index: position in the plan, from 0.
    base_name, params: its experiment's base name, its combination.
    argv: the command as written in the description, with all arguments; `command.runtime_argv` chooses the
        interpreter.
    env: the variables that the description adds to the environment.
    seed: the text of the seed parameter, None when there is none.
    seed_rank: 0 for the first seed met in the plan, 1 for the second, ...; 0 without a seed.
    config_key: equal for jobs that differ by their seed only.
    fingerprint: hash of argv (without directories) and env: changes when the job would do something else.
    """

    job_id: str
    index: int
    base_name: str
    params: Mapping[str, object]
    argv: tuple[str, ...]
    env: Mapping[str, str]
    resources: Resources
    run_paths: RunPaths
    seed: str | None
    seed_rank: int
    config_key: str
    fingerprint: str

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.job_id.rpartition("/")[2]

    @property
    def paths(self) -> JobPaths:
        return self.run_paths.job(self.job_id)

    @property
    def command(self) -> str:
        """The command as one line that a shell would understand."""
        return shlex.join(self.argv)

    @property
    def seed_major_key(self) -> tuple[int, int]:
        """Sorts jobs so that one seed of everything comes before the second seed of anything."""
        return (self.seed_rank, self.index)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Every job of a run, in the order of the description. `fingerprint` covers all jobs; `seed_param` names the
    parameter that is the seed."""

    run_name: str
    paths: RunPaths
    jobs: tuple[Job, ...]
    fingerprint: str
    defaults: RunDefaults = field(default_factory=RunDefaults)
    seed_param: str = "seed"
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def by_id(self) -> dict[str, Job]:
        return {job.job_id: job for job in self.jobs}


def make_plan(
    description: RunDescription,
    train_dir: str | Path,
    *,
    experiment_suffix: str | None = None,
    train_dir_of_jobs: str | None = None,
) -> Plan:
    """Expand a description. Touches no disk.

    `experiment_suffix` (`--experiment_suffix`) is appended to the experiments' folders; None: the
    description's own. `train_dir_of_jobs`: what `train_dir` is called where the jobs run, in their arguments.

    Raises:
        DescriptionError: a value cannot become an argument, or two jobs would share a folder.
    """
    paths = RunPaths(train_dir=Path(train_dir), run_name=description.run_name)
    suffix = description.experiment_suffix if experiment_suffix is None else experiment_suffix
    builder = _Builder(description, str(train_dir) if train_dir_of_jobs is None else train_dir_of_jobs, suffix, paths)
    jobs = tuple(builder.job(index, expansion) for index, expansion in enumerate(description.expand()))
    return Plan(
        run_name=description.run_name,
        paths=paths,
        jobs=jobs,
        fingerprint=digest(part for job in jobs for part in (job.job_id, job.fingerprint)),
        defaults=description.defaults,
        seed_param=description.seed_param,
        thresholds=description.thresholds,
    )


class _Builder:
    """Turns expansions into jobs, remembering what was met before."""

    def __init__(self, description: RunDescription, train_dir: str, suffix: str, paths: RunPaths) -> None:
        self.description = description
        self.train_dir = train_dir
        self.suffix = suffix
        self.paths = paths
        self._folders: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._seed_ranks: dict[str, int] = {}
        self._owners: dict[str, Expansion] = {}
        self._configs: dict[str, str] = {}  # one object for all seeds

    def job(self, index: int, expansion: Expansion) -> Job:
        experiment = expansion.experiment
        folder, directories = self._folder(experiment)
        job_id = f"{folder}/{expansion.name}"
        first = self._owners.setdefault(job_id, expansion)
        if first is not expansion:
            raise DescriptionError(
                f"{_where(first)} and {_where(expansion)} would both be '{job_id}'; "
                "give the experiments different names"
            )
        parameters = dict(zip(expansion.params, expansion.param_arguments, strict=True))
        seed = None
        if parameters.pop(self.description.seed_param, ""):
            seed = value_text(expansion.params[self.description.seed_param])
        env = [f"{key}={value}" for key, value in sorted(expansion.env.items())]
        config_key = digest(
            (experiment.base_name, *expansion.base_argv, "", *filter(None, parameters.values()), "", *env)
        )
        return Job(
            job_id=job_id,
            index=index,
            base_name=experiment.base_name,
            params=expansion.params,
            argv=(*expansion.argv, *directories),
            env=expansion.env,
            resources=experiment.resources,
            run_paths=self.paths,
            seed=seed,
            seed_rank=0 if seed is None else self._seed_ranks.setdefault(seed, len(self._seed_ranks)),
            config_key=self._configs.setdefault(config_key, config_key),
            fingerprint=digest((*expansion.argv, "", *env)),
        )

    def _folder(self, experiment: Experiment) -> tuple[str, tuple[str, ...]]:
        """The experiment's folder and the arguments that tell a program about it."""
        known = self._folders.get(experiment.base_name)
        if known is None:
            folder = self.description.folder(experiment, self.suffix)
            known = (folder, self.description.directory_arguments(self.train_dir, folder))
            self._folders[experiment.base_name] = known
        return known


def _where(expansion: Expansion) -> str:
    parameters = ", ".join(f"{name}={value!r}" for name, value in expansion.params.items())
    name = expansion.experiment.base_name
    return f"combination {expansion.index} of experiment '{name}' ({parameters or 'no parameters'})"
