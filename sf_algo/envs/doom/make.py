"""Makes a VizDoom environment from its name and the flags."""

from __future__ import annotations

from pathlib import Path

from sf_algo.config import DoomConfig, EnvConfig
from sf_algo.envs.doom import maps
from sf_algo.envs.doom.doom_env import DoomEnv
from sf_algo.envs.doom.engine import DoomEngine
from sf_algo.envs.doom.scenarios import MULTIPLAYER_NAMES, SCENARIOS, DoomScenario
from sf_algo.envs.spec import EnvPlacement
from sf_algo.errors import EnvError, UnknownEnvError
from sf_algo.own.names import unknown_env

PREFIX = "doom_"
_SCREEN_4_3 = (160, 120)
_SCREEN_16_9 = (256, 144)
_FRAMESKIP = 4


def scenario_of(name: str, doom_cfg: DoomConfig) -> DoomScenario:
    """The scenario called `name`: one of the table, else `<name without doom_>.cfg` in the user's folder.

    Raises UnknownEnvError, or EnvError for matches with several players.
    """
    if name in SCENARIOS:
        return SCENARIOS[name]
    if name in MULTIPLAYER_NAMES:
        raise EnvError(f"--env={name} is a match of several players, and this version plays single-player maps only")
    cfg = f"{name.removeprefix(PREFIX)}.cfg"
    folder = maps.user_dir(doom_cfg.doom_scenarios_dir)
    if folder is not None and (folder / cfg).is_file():
        return DoomScenario(name=name, cfg=cfg)
    raise UnknownEnvError(unknown_env(name, SCENARIOS) + f"; your own: {cfg} in --doom_scenarios_dir")


def make_doom(name: str, env_cfg: EnvConfig, doom_cfg: DoomConfig, placement: EnvPlacement) -> DoomEnv:
    """Raises UnknownEnvError, MissingDependencyError (map, vizdoom) or EnvError. Starts no engine yet."""
    return make_doom_scenario(scenario_of(name, doom_cfg), env_cfg, doom_cfg, placement)


def make_doom_scenario(
    scenario: DoomScenario, env_cfg: EnvConfig, doom_cfg: DoomConfig, placement: EnvPlacement
) -> DoomEnv:
    """As `make_doom`, for a scenario of the caller's own."""
    own_dir = maps.user_dir(doom_cfg.doom_scenarios_dir)
    cfg = maps.find_cfg(scenario.cfg, own_dir)
    if cfg is None:
        raise EnvError(f"{scenario.name}: there is no scenario file {scenario.cfg}; see --doom_scenarios_dir")
    wad = None
    if scenario.wad is not None:
        wad = maps.find_wad(scenario.wad, own_dir, is_downloaded=scenario.wad_is_downloaded)
    if env_cfg.env_framestack != 1:
        raise EnvError("--env_framestack is not available for doom_* environments; use a recurrent policy")
    engine = DoomEngine(
        name=scenario.name,
        cfg=cfg,
        wad=wad,
        screen_wh=_SCREEN_16_9 if doom_cfg.wide_aspect_ratio else _SCREEN_4_3,
        window=placement.render_mode == "human",
        asynchronous=placement.asynchronous,
    )
    return DoomEnv(
        scenario,
        engine,
        frameskip=env_cfg.env_frameskip or _FRAMESKIP,
        out_hw=(doom_cfg.res_h, doom_cfg.res_w),
        record_to=Path(placement.record_to) if placement.record_to else None,
    )
