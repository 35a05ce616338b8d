"""What a user writes: experiments, and the run that holds them.

The classes keep the shape of Sample Factory's, so that a description written for it moves over by its import.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from sf_runner.basics.errors import DescriptionError
from sf_runner.describe.command import environment, parameter_arguments, split_command
from sf_runner.describe.naming import experiment_name, folder_name
from sf_runner.describe.thresholds import checked_thresholds
from sf_runner.describe.values import Texts, may_clash, same_command

_MAX_COMBINATIONS = 1_000_000
_MAX_RUN_NAME_BYTES = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What one experiment needs; None leaves it to the run's setting on the command line.

    gpus: whole GPUs, 0 for none.
    cpus: cores.
    gpu_memory_mb: MiB on each of its GPUs.
    timeout_s: seconds an attempt may take.
    """

    gpus: int | None = None
    cpus: int | None = None
    gpu_memory_mb: int | None = None
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("gpus", 0), ("cpus", 1), ("gpu_memory_mb", 1)):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < least):
                raise DescriptionError(f"Resources: {name} must be a whole number of at least {least}, got {value!r}")
        if self.timeout_s is not None and not (isinstance(self.timeout_s, (int, float)) and self.timeout_s > 0):
            raise DescriptionError(f"Resources: timeout_s must be a positive number of seconds, got {self.timeout_s!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunDefaults:
    """Settings a description may carry; the command line overrides them, None leaves them to it.

    called: how the description calls those that it calls otherwise, for messages: field -> name.
    """

    num_gpus: int | None = None
    experiments_per_gpu: int | None = None
    max_parallel: int | None = None
    pause_between_s: float | None = None
    called: Mapping[str, str] = field(default_factory=dict, compare=False)

    def name_of(self, name: str) -> str:
        """What the description calls this setting."""
        return self.called.get(name, name)

    def __post_init__(self) -> None:
        for name in ("num_gpus", "experiments_per_gpu", "max_parallel", "pause_between_s"):
            value = getattr(self, name)
            kinds = (int, float) if name == "pause_between_s" else (int,)
            least = {"max_parallel": 1, "experiments_per_gpu": -1}.get(name, 0)
            if value is not None and (isinstance(value, bool) or not isinstance(value, kinds) or value < least):
                what = f"RunDescription: {self.name_of(name)}"
                raise DescriptionError(f"{what} must be a number of at least {least}, got {value!r}")


class Experiment:
    """One command and the parameter combinations to run it with; without any it runs once as it is.

    Args:
        name: base name, part of every experiment's name and folder.
        cmd: text, split like a shell would split it, or a list of arguments. Nothing is expanded.
        param_generator: any iterable of dicts: a `ParamGrid`, what its `generate_params` yields, a list. It
            is read once, here.
        env_vars: added to the environment of every job.
        resources: what each combination needs; default: the run's settings.

    Raises:
        DescriptionError: naming this experiment.
    """

    def __init__(
        self,
        name: str,
        cmd: str | Sequence[str],
        param_generator: Iterable[Mapping[str, object]] | None = None,
        env_vars: Mapping[str, object] | None = None,
        *,
        resources: Resources | None = None,
    ) -> None:
        if not isinstance(name, str) or not name:
            raise DescriptionError(f"Experiment: name must be a non-empty text, got {name!r}")
        self.base_name = name
        self.cmd = cmd
        self.env_vars = env_vars
        self.resources = Resources() if resources is None else resources
        with _naming_experiment(name):
            if not isinstance(self.resources, Resources):
                raise DescriptionError(f"resources must be a Resources(...), got {resources!r}")
            split_command(cmd)
            environment(env_vars)
            self.params = _materialised(param_generator)

    def generate_experiments(
        self,
        experiment_arg_name: str | None,
        customize_experiment_name: bool = True,
        param_prefix: str = "--",
    ) -> Iterator[tuple[str, str]]:
        """Yield (command as one shell-quoted line, experiment name)."""
        for expansion in self.expand(experiment_arg_name, customize_experiment_name, param_prefix):
            yield shlex.join(expansion.argv), expansion.name

    def expand(
        self, experiment_arg_name: str | None, customize_experiment_name: bool, param_prefix: str
    ) -> Iterator[Expansion]:
        """Yield every combination as arguments, without those that name directories."""
        with _naming_experiment(self.base_name):
            base_argv = split_command(self.cmd)
            env = environment(self.env_vars)
            texts = Texts()
            self._check_commands(param_prefix, texts)
            for index, params in enumerate(self.params or [{}]):
                given = parameter_arguments(params, param_prefix, texts)
                name = experiment_name(self.base_name, index, params, customize=customize_experiment_name, texts=texts)
                arguments = [argument for argument in given if argument]
                if experiment_arg_name:
                    arguments.append(f"{experiment_arg_name}={name}")
                yield Expansion(
                    experiment=self,
                    index=index,
                    name=name,
                    params=params,
                    param_arguments=tuple(given),
                    base_argv=base_argv,
                    argv=(*base_argv, *arguments),
                    env=env,
                )

    def _check_commands(self, param_prefix: str, texts: Texts) -> None:
        """Refuse different values that would give one command."""
        if may_clash(self.params):
            same = same_command((tuple(parameter_arguments(p, param_prefix, texts)), p) for p in self.params)
            if same:
                raise DescriptionError(f"{same}, so that two combinations would be one command")


@dataclass(frozen=True, kw_only=True, slots=True)
class Expansion:
    """One combination of one experiment.

    `param_arguments` has one argument per parameter, in order; empty for one that is ABSENT. `argv` is `base_argv`,
    those that are not empty, and the experiment's name; it still lacks the arguments that name directories.
    """

    experiment: Experiment
    index: int
    name: str
    params: Mapping[str, object]
    param_arguments: tuple[str, ...]
    base_argv: tuple[str, ...]
    argv: tuple[str, ...]
    env: Mapping[str, str]


class RunDescription:
    """A named set of experiments; the module given to `--run` holds one as `RUN_DESCRIPTION`.

    Args:
        run_name: the run's folder under the training directory.
        experiments: `Experiment` objects.
        experiment_dirs_sf_format: how the program is told its directory. True: by the two arguments
            `--train_dir=<train_dir> --experiments_root=<run_name>/<folder>`. False: by one,
            `<experiment_dir_arg_name>=<train_dir>/<run_name>/<folder>`.
        experiment_arg_name: the argument that carries the experiment's name; None or '': none is added.
        experiment_dir_arg_name: see above; None or '': no such argument is added.
        customize_experiment_name: False leaves the parameters out of the names.
        param_prefix: put before every parameter's name; '' for Hydra.
        use_gpus, num_gpus, experiments_per_gpu, max_parallel, pause_between_experiments: defaults that the
            command line overrides (use_gpus is the older name of num_gpus; the pause is in seconds).
        seed_param: the parameter that tells repetitions of one configuration apart.
        thresholds: which value of the reported metric counts as learned, by the name of the experiment or task, which
            may hold wildcards: `{"cartpole*": 475}`; of another metric: `{"battle@kills": 10}`. See docs/results.md.

    Raises:
        DescriptionError: an argument cannot be used.
    """

    def __init__(
        self,
        run_name: str,
        experiments: Iterable[Experiment],
        experiment_dirs_sf_format: bool = True,
        experiment_arg_name: str | None = "--experiment",
        experiment_dir_arg_name: str | None = "--train_dir",
        customize_experiment_name: bool = True,
        param_prefix: str = "--",
        *,
        use_gpus: int | None = None,
        num_gpus: int | None = None,
        experiments_per_gpu: int | None = None,
        max_parallel: int | None = None,
        pause_between_experiments: float | None = None,
        seed_param: str = "seed",
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        _check_run_name(run_name)
        if not isinstance(experiment_dirs_sf_format, bool):
            raise DescriptionError(
                f"RunDescription '{run_name}': experiment_dirs_sf_format must be True or False, got "
                f"{experiment_dirs_sf_format!r}; pass the arguments after the second by keyword"
            )
        self.run_name = run_name
        self.experiments = _checked_experiments(run_name, experiments)
        self.experiment_suffix = ""
        self.experiment_dirs_sf_format = experiment_dirs_sf_format
        self.experiment_arg_name = experiment_arg_name
        self.experiment_dir_arg_name = experiment_dir_arg_name
        self.customize_experiment_name = customize_experiment_name
        self.param_prefix = param_prefix
        self.seed_param = seed_param
        self.thresholds = checked_thresholds(run_name, thresholds)
        self.defaults = RunDefaults(
            num_gpus=use_gpus if num_gpus is None else num_gpus,
            experiments_per_gpu=experiments_per_gpu,
            max_parallel=max_parallel,
            pause_between_s=pause_between_experiments,
            called={
                "pause_between_s": "pause_between_experiments",
                **({"num_gpus": "use_gpus"} if num_gpus is None else {}),
            },
        )

    def expand(self) -> Iterator[Expansion]:
        """Yield every combination of every experiment, in order."""
        for experiment in self.experiments:
            yield from experiment.expand(self.experiment_arg_name, self.customize_experiment_name, self.param_prefix)

    def folder(self, experiment: Experiment, suffix: str | None = None) -> str:
        """The folder of the experiment's jobs inside the run's folder: `<base_name>_<suffix>`, made safe."""
        return folder_name(experiment.base_name, self.experiment_suffix if suffix is None else suffix)

    def directory_arguments(self, train_dir: str, folder: str) -> tuple[str, ...]:
        """The arguments that tell a program where to put its files."""
        root_dir = f"{self.run_name}/{folder}"
        if self.experiment_dirs_sf_format:
            return (f"--train_dir={train_dir}", f"--experiments_root={root_dir}")
        if not self.experiment_dir_arg_name:
            return ()
        return (f"{self.experiment_dir_arg_name}={_join(train_dir, root_dir)}",)

    def generate_experiments(
        self, train_dir: str, makedirs: bool = True
    ) -> Iterator[tuple[str, str, str, Mapping[str, object] | None]]:
        """Yield (command as one shell-quoted line, experiment name, root_dir, env_vars) for every job.

        `root_dir` is `<run_name>/<folder>`. `makedirs` creates it under `train_dir` where the program is told
        that directory in one argument, as programs other than Sample Factory rely on it.
        """
        for expansion in self.expand():
            folder = self.folder(expansion.experiment)
            root_dir = f"{self.run_name}/{folder}"
            if makedirs and not self.experiment_dirs_sf_format:
                Path(train_dir, root_dir).mkdir(parents=True, exist_ok=True)
            command = shlex.join((*expansion.argv, *self.directory_arguments(str(train_dir), folder)))
            yield command, expansion.name, root_dir, expansion.experiment.env_vars


class _naming_experiment:  # noqa: N801  reads as a statement
    """Prefixes a DescriptionError raised inside with the experiment's name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        prefix = f"Experiment '{self.name}': "
        if isinstance(error, DescriptionError) and not str(error).startswith(prefix):
            raise DescriptionError(prefix + str(error)) from error


def _materialised(generator: object) -> list[dict[str, object]]:
    """The combinations as a list: a generator that can be read only once is read here and nowhere else."""
    if generator is None:
        return []
    if isinstance(generator, (str, bytes, Mapping)) or not isinstance(generator, Iterable):
        raise DescriptionError(f"param_generator must be an iterable of dicts, such as a ParamGrid, got {generator!r}")
    combinations: list[dict[str, object]] = []
    for position, params in enumerate(islice(generator, _MAX_COMBINATIONS + 1)):
        if not isinstance(params, Mapping):
            raise DescriptionError(f"combination {position} must be a dict of parameters, got {params!r}")
        bad = [name for name in params if not isinstance(name, str) or not name]
        if bad:
            raise DescriptionError(f"combination {position}: a parameter's name must be text, got {bad[0]!r}")
        combinations.append(dict(params))
    if len(combinations) > _MAX_COMBINATIONS:
        raise DescriptionError(f"param_generator gives more than {_MAX_COMBINATIONS:,} combinations; does it ever end?")
    if not combinations and isinstance(generator, Iterator):
        # An empty list means no parameters; an empty generator was read before, or filters too strictly.
        raise DescriptionError(
            "param_generator gives no combinations; was it read before? Leave it out to run cmd as it is"
        )
    return combinations


def _checked_experiments(run_name: str, experiments: object) -> list[Experiment]:
    if isinstance(experiments, Experiment):
        return [experiments]
    if isinstance(experiments, (str, Mapping)) or not isinstance(experiments, Iterable):
        raise DescriptionError(f"RunDescription '{run_name}': experiments must be a list, got {experiments!r}")
    listed = list(experiments)
    for experiment in listed:
        if not isinstance(experiment, Experiment):
            raise DescriptionError(
                f"RunDescription '{run_name}': experiments must hold Experiments, got {experiment!r}"
            )
    if not listed:
        raise DescriptionError(f"RunDescription '{run_name}': there are no experiments")
    return listed


def _join(train_dir: str, root_dir: str) -> str:
    """Joined as text, so that a leading `./` stays as the user wrote it."""
    return f"{train_dir}{root_dir}" if train_dir.endswith("/") or not train_dir else f"{train_dir}/{root_dir}"


def _check_run_name(run_name: object) -> None:
    if not isinstance(run_name, str) or not run_name.strip():
        raise DescriptionError(f"RunDescription: run_name must be a non-empty text, got {run_name!r}")
    if "/" in run_name or run_name.startswith(".") or not run_name.isprintable():
        raise DescriptionError(
            "RunDescription: run_name becomes one folder; it must not contain '/' or line breaks or start "
            f"with '.', got {run_name!r}"
        )
    if len(run_name.encode("utf-8", "surrogatepass")) > _MAX_RUN_NAME_BYTES:
        raise DescriptionError(f"RunDescription: run_name has more than {_MAX_RUN_NAME_BYTES} bytes: {run_name!r}")
