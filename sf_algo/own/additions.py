"""What a user's program adds to the trainer, as one value that is there before processes are forked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sf_algo.config.env_family import EnvFamily, family_of
from sf_algo.config.program import EnvParameters
from sf_algo.config.resolve import Invocation
from sf_algo.config.store import ProgramFacts
from sf_algo.errors import ConfigError
from sf_algo.own.loading import load_maker, load_object
from sf_algo.own.observers import Observer
from sf_algo.own.parameters import OFFERED, maker_parameters, registered_parameters


@dataclass(frozen=True, kw_only=True)
class Model:
    """Parts of the network that a program brings, as import paths (package.module:maker): defaults of the flags
    --encoder_custom, --core_custom, --decoder_custom and --actor_critic_custom, whose pages say what is called how."""

    encoder: str | None = None
    core: str | None = None
    decoder: str | None = None
    actor_critic: str | None = None


@dataclass(frozen=True)
class Additions:
    """Sections, environments and defaults; `sf_algo.App` is one with commands. Nothing of it needs torch, so that
    rollout workers stay free of it: what does is named by its import path."""

    path: str | None = None
    """Where this value can be imported from, as package.module:attribute. It is stored with an experiment, so that
    `sf_algo.enjoy_appo` finds the program. None: only processes that are forked from this one know it."""
    sections: Mapping[str, type] = field(default_factory=dict)
    """Own sections: name -> dataclass whose fields (with `sf_algo.flag` or plain defaults) become flags. Makers that
    have a parameter of a section's name get the section."""
    envs: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """Own environments: name -> maker."""
    defaults: Callable[[str], Mapping[str, Any]] | Mapping[str, Any] = field(default_factory=dict)
    """Values for flags, by name, that lie under what the user says; a function gets the environment's name."""
    model: Model = Model()
    losses: tuple[str, ...] = ()
    """Functions, as import paths, whose losses are added: the default of --extra_losses."""
    fields: tuple[str, ...] = ()
    """Numbers of every step, beside the reward, that these losses need: the default of --step_fields."""
    observers: tuple[Callable[[], Observer], ...] = ()
    """Classes of `sf_algo.Observer`, or functions that make one."""

    def has_env(self, env: str | None) -> bool:
        return env in self.envs

    def defaults_for(self, env: str | None) -> Mapping[str, Any]:
        parts = {f"{part.name}_custom": getattr(self.model, part.name) for part in dataclasses.fields(self.model)}
        given: dict[str, Any] = {name: path for name, path in parts.items() if path is not None}
        given |= {"extra_losses": self.losses} if self.losses else {}
        given |= {"step_fields": self.fields} if self.fields else {}
        if not callable(self.defaults):
            return {**given, **self.defaults}
        return {**given, **(self.defaults(env) if env else {})}

    def parameters(self, env: str) -> EnvParameters:
        if self.has_env(env):
            return maker_parameters(self.envs[env], self.offered_to_own)
        if is_import_path(env):
            return maker_parameters(load_maker(env), self.offered)
        if family_of(env) in (EnvFamily.GYMNASIUM, EnvFamily.CLASSIC_CONTROL, EnvFamily.CUSTOM):
            return registered_parameters(env)
        return EnvParameters()

    @property
    def offered(self) -> tuple[str, ...]:
        """Parameters of makers that are given by import path which the trainer fills in."""
        return (*OFFERED, *self.sections)

    @property
    def offered_to_own(self) -> tuple[str, ...]:
        """The same for makers in `envs`, which may serve several names."""
        return ("name", *self.offered)

    def facts(self, config: Mapping[str, Mapping[str, Any]]) -> ProgramFacts:
        """What `config_from_dict` needs to know to read such a configuration."""
        return ProgramFacts(sections=self.sections, path=self.path, names_env=self.has_env(config["run"]["env"]))

    def find(self, path: str) -> Additions:
        return find_additions(path)


NOTHING_ADDED = Additions()


def find_additions(path: str) -> Additions:
    """The program at an import path. Raises ConfigError, or EnvError where its module raises."""
    found = load_object(path, "app")
    if not isinstance(found, Additions):
        raise ConfigError(f"app={path} is a {type(found).__name__}, no sf_algo.App")
    return found


def additions_at(path: str | None) -> Additions:
    """As `find_additions`; nothing is added where there is no path."""
    return NOTHING_ADDED if path is None else find_additions(path)


def additions_of(invocation: Invocation) -> Additions:
    """The program that a command line belongs to."""
    return invocation.program if isinstance(invocation.program, Additions) else NOTHING_ADDED


def is_import_path(env: str) -> bool:
    """Whether an environment's name is `package.module:maker`. `module:Name-v0` is gymnasium's own way to import a
    module that registers environments."""
    stem, _, version = env.rpartition("-v")
    return ":" in env and not (bool(stem) and version.isdigit())


def is_importable(env: str | None, additions: Additions) -> bool:
    """Whether a new process finds the user's program and environment by their import paths."""
    if additions is not NOTHING_ADDED and (additions.path is None or additions.path.startswith("__main__:")):
        return False
    return not (env or "").startswith("__main__:")
