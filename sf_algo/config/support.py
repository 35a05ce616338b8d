"""Flags that parse already but whose feature this version does not have: starting with them is an error."""

from __future__ import annotations

from sf_algo.config.env import DoomConfig
from sf_algo.config.env_family import EnvFamily
from sf_algo.config.sections import Config


def unsupported_features(config: Config) -> list[str]:
    """One line for each feature asked for that does not exist yet."""
    missing = []
    if config.pbt.with_pbt:
        missing.append(
            "--with_pbt=True: population-based training is not in this version; without it num_policies > 1 "
            "trains independent policies"
        )
    family = config.env_family
    if family is EnvFamily.DOOM:
        missing += [
            f"--{flag}={value}: VizDoom matches of several players or bots are not in this version"
            for flag, value in _match_flags(config.doom)
        ]
    return missing


def _match_flags(doom: DoomConfig) -> list[tuple[str, object]]:
    """Flags about matches that ask for more than one agent alone."""
    asked = [("num_agents", doom.num_agents)] if doom.num_agents not in (-1, 1) else []
    asked += [(name, getattr(doom, name)) for name in ("num_humans", "num_bots") if getattr(doom, name) > 0]
    limits = ("start_bot_difficulty", "timelimit")
    return [*asked, *((name, getattr(doom, name)) for name in limits if getattr(doom, name) is not None)]
