"""Which policies meet (--policies), and their networks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sf_algo.checkpoints import CheckpointStore, LoadedCheckpoint, load_checkpoint
from sf_algo.config import Command, Config, configure
from sf_algo.config.store import CONFIG_FILE_NAME
from sf_algo.envs.spec import EnvSpec
from sf_algo.errors import CheckpointError, CheckpointMismatchError, ConfigError
from sf_algo.own.additions import NOTHING_ADDED, Additions
from sf_algo.paths import ExperimentPaths
from sf_algo.watching.actors import make_actor
from sf_algo.watching.contest import Contestant

_FORMS = (
    "write the number of a policy of this experiment, the folder of another experiment (with :N for its policy N), or "
    "a checkpoint's file"
)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A policy on disk."""

    name: str
    """How it is told apart from the others."""
    config: Config
    """Of the experiment that it was trained in."""
    loaded: LoadedCheckpoint

    @property
    def policy(self) -> int:
        return self.loaded.checkpoint.policy_id


def find_candidates(config: Config, additions: Additions = NOTHING_ADDED) -> list[Candidate]:
    """The policies of `--policies`, in that order.

    Raises:
        ConfigError: an entry that means nothing; an experiment that does not load.
        CheckpointError: a policy without a checkpoint, or a file that is none.
    """
    found = [_find(entry, config, additions) for entry in config.evaluation.policies]
    names = [candidate.name for candidate in found]
    return [
        candidate if names.count(candidate.name) == 1 else replace(candidate, name=f"{candidate.name}#{index}")
        for index, candidate in enumerate(found)
    ]


def _find(entry: str, config: Config, additions: Additions) -> Candidate:
    best: Literal["latest", "best"] = config.run.load_checkpoint_kind
    root = config.run.experiment_dir
    if entry.isdecimal():
        return _of_experiment(root, int(entry), best, config, name=f"policy {int(entry)}")
    path, policy = Path(entry).expanduser(), 0
    if not path.exists() and (parts := entry.rpartition(":"))[2].isdecimal():
        path, policy = Path(parts[0]).expanduser(), int(parts[2])
    if path.is_file():
        return _of_file(path, config, additions)
    if path.is_dir():
        other = config if path.resolve() == root.resolve() else _config_of(path, additions)
        return _of_experiment(path, policy, best, other, name=f"{path.name}:{policy}")
    raise ConfigError(f"--policies={entry}: there is no such policy, folder or file; {_FORMS}")


def _of_experiment(root: Path, policy: int, kind: Literal["latest", "best"], config: Config, *, name: str) -> Candidate:
    store = CheckpointStore(ExperimentPaths(root).checkpoints(policy), keep=1)
    loaded = store.load_best() if kind == "best" else store.load_latest()
    if loaded is None:
        raise CheckpointError(f"--policies: there is no checkpoint in {store.folder}; {_FORMS}")
    return Candidate(name=name, config=config, loaded=loaded)


def _of_file(path: Path, config: Config, additions: Additions) -> Candidate:
    loaded = LoadedCheckpoint(checkpoint=load_checkpoint(path), path=path)
    folder = next((up for up in path.resolve().parents if (up / CONFIG_FILE_NAME).is_file()), None)
    if folder is None:
        raise ConfigError(f"--policies={path}: no {CONFIG_FILE_NAME} in the folders above it tells which network it is")
    own = folder == config.run.experiment_dir.resolve()
    name = str(path.resolve().relative_to(folder)) if own else f"{folder.name}/{path.resolve().relative_to(folder)}"
    return Candidate(name=name, config=config if own else _config_of(folder, additions), loaded=loaded)


def _config_of(folder: Path, additions: Additions) -> Config:
    absolute = folder.resolve()
    words = [f"--train_dir={absolute.parent}", f"--experiment={absolute.name}"]
    return configure(words, Command.ENJOY, additions).config


def open_contestant(candidate: Candidate, spec: EnvSpec, config: Config, *, seed: int) -> Contestant:
    """Its network, ready to act in the environment of `config`.

    Raises CheckpointMismatchError where it knows other observations or actions than that environment has.
    """
    try:
        actor, model = make_actor(candidate.config, spec, candidate.loaded, config.evaluation, seed=seed)
    except CheckpointMismatchError as error:
        raise CheckpointMismatchError(
            f"{candidate.name} ({candidate.loaded.path}) cannot play in {config.run.env}: it was trained on "
            f"{candidate.config.run.env} with other observations or actions"
        ) from error
    return Contestant(
        name=candidate.name, actor=actor, rnn_state_size=model.rnn_state_size, role=role_of(candidate, spec)
    )


def role_of(candidate: Candidate, spec: EnvSpec) -> int | None:
    """The role that the policy was trained for; None where all play all."""
    roles = max(spec.roles, default=0) + 1
    separate = 1 < roles <= candidate.config.sampling.num_policies
    return candidate.policy % roles if separate else None
