"""Makes the environments of one process from the configuration."""

from __future__ import annotations

from sf_algo.config import Config
from sf_algo.envs.factory import EnvSections, make_env, remove_leftovers
from sf_algo.envs.spec import Env, EnvPlacement, EnvSpec
from sf_algo.own.additions import NOTHING_ADDED, Additions


class EnvMaker:
    """Knows the name and the sections that environments are made from."""

    def __init__(self, config: Config, worker_index: int = 0, additions: Additions = NOTHING_ADDED) -> None:
        """`additions`: the user's program, which may make the environments itself."""
        self._name = config.run.env
        self._sections = EnvSections.of(config, additions)
        self._worker_index = worker_index

    def make(self, env_index: int) -> Env:
        """Environment number `env_index` of the run. Raises what `make_env` does."""
        placement = EnvPlacement(worker_index=self._worker_index, env_index=env_index)
        return make_env(self._name, self._sections, placement)

    def spec(self) -> EnvSpec:
        """The spec of the run's environments; makes one and closes it."""
        env = self.make(0)
        try:
            return env.spec
        finally:
            env.close()

    def clean_up(self) -> None:
        """Removes what killed environments have left on the machine."""
        remove_leftovers(self._name)
