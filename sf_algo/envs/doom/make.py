"""Makes a VizDoom environment from its name and the flags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sf_algo.config import DoomConfig, EnvConfig
from sf_algo.envs.doom import maps
from sf_algo.envs.doom.doom_env import DoomEnv
from sf_algo.envs.doom.engine import DoomEngine
from sf_algo.envs.doom.match import MAX_PLAYERS, MatchRules
from sf_algo.envs.doom.match_env import MatchEnv
from sf_algo.envs.doom.scenarios import SCENARIOS, DoomScenario
from sf_algo.envs.spec import Env, EnvPlacement
from sf_algo.errors import EnvError, UnknownEnvError
from sf_algo.own.names import unknown_env

PREFIX = "doom_"
_SCREEN_4_3 = (160, 120)
_SCREEN_16_9 = (256, 144)
_FRAMESKIP = 4


def scenario_of(name: str, doom_cfg: DoomConfig) -> DoomScenario:
    """The scenario called `name`: one of the table, else `<name without doom_>.cfg` in the user's folder, which is a
    match where the flags ask for several players.

    Raises UnknownEnvError.
    """
    if name in SCENARIOS:
        return SCENARIOS[name]
    cfg = f"{name.removeprefix(PREFIX)}.cfg"
    folder = maps.user_dir(doom_cfg.doom_scenarios_dir)
    if folder is not None and (folder / cfg).is_file():
        several = doom_cfg.num_agents > 1 or doom_cfg.num_bots > 0 or doom_cfg.num_humans > 0
        match = MatchRules(minutes=None, deathmatch=False) if several else None
        return DoomScenario(name=name, cfg=cfg, match=match)
    raise UnknownEnvError(unknown_env(name, SCENARIOS) + f"; your own: {cfg} in --doom_scenarios_dir")


def match_rules(scenario: DoomScenario, doom_cfg: DoomConfig) -> MatchRules | None:
    """The rules of a scenario as the flags change them; None where it is no match.

    Raises EnvError where flags about matches are given for something else, or too many would play.
    """
    rules = scenario.match
    if rules is None:
        _refuse_match_flags(scenario, doom_cfg)
        return None
    agents = rules.agents if doom_cfg.num_agents < 1 else doom_cfg.num_agents
    bots = rules.bots if doom_cfg.num_bots < 0 else doom_cfg.num_bots
    minutes = rules.minutes if doom_cfg.timelimit is None else doom_cfg.timelimit
    players = agents + bots + doom_cfg.num_humans
    if players > MAX_PLAYERS:
        raise EnvError(
            f"{scenario.name}: {agents} agents, {bots} bots and {doom_cfg.num_humans} people are more than the "
            f"{MAX_PLAYERS} players that a match takes; give a smaller --num_agents, --num_bots or --num_humans"
        )
    return replace(rules, agents=agents, bots=bots, humans=doom_cfg.num_humans, minutes=minutes)


def _refuse_match_flags(scenario: DoomScenario, doom_cfg: DoomConfig) -> None:
    given: list[tuple[str, object]] = []
    given += [("num_agents", doom_cfg.num_agents)] if doom_cfg.num_agents > 1 else []
    given += [(name, getattr(doom_cfg, name)) for name in ("num_humans", "num_bots") if getattr(doom_cfg, name) > 0]
    numbers = ("start_bot_difficulty", "timelimit", "match_port")
    given += [(name, getattr(doom_cfg, name)) for name in numbers if getattr(doom_cfg, name) is not None]
    if given:
        name, value = given[0]
        matches = ", ".join(sorted(name for name, s in SCENARIOS.items() if s.match))
        raise EnvError(f"--{name}={value}: {scenario.name} is no match; matches are {matches}")


def make_doom(name: str, env_cfg: EnvConfig, doom_cfg: DoomConfig, placement: EnvPlacement) -> Env:
    """Raises UnknownEnvError, MissingDependencyError (map, vizdoom) or EnvError. Starts no engine yet."""
    return make_doom_scenario(scenario_of(name, doom_cfg), env_cfg, doom_cfg, placement)


def make_doom_scenario(
    scenario: DoomScenario, env_cfg: EnvConfig, doom_cfg: DoomConfig, placement: EnvPlacement
) -> Env:
    """As `make_doom`, for a scenario of the caller's own."""
    rules = match_rules(scenario, doom_cfg)
    if env_cfg.env_framestack != 1:
        raise EnvError("--env_framestack is not available for doom_* environments; use a recurrent policy")
    make_engine = _engine_maker(scenario, doom_cfg, placement)
    frameskip = env_cfg.env_frameskip or _FRAMESKIP
    out_hw = (doom_cfg.res_h, doom_cfg.res_w)
    record_to = Path(placement.record_to) if placement.record_to else None
    if rules is None:
        return DoomEnv(scenario, make_engine(0, ""), frameskip=frameskip, out_hw=out_hw, record_to=record_to)
    return MatchEnv(
        scenario,
        rules,
        make_engine,
        frameskip=frameskip,
        out_hw=out_hw,
        start_difficulty=doom_cfg.start_bot_difficulty,
        port=doom_cfg.match_port,
        record_to=record_to,
    )


def _engine_maker(
    scenario: DoomScenario, doom_cfg: DoomConfig, placement: EnvPlacement
) -> Callable[[int, str], DoomEngine]:
    """Player and arguments -> its engine; only the first one has a window."""
    own_dir = maps.user_dir(doom_cfg.doom_scenarios_dir)
    cfg = maps.find_cfg(scenario.cfg, own_dir)
    if cfg is None:
        raise EnvError(f"{scenario.name}: there is no scenario file {scenario.cfg}; see --doom_scenarios_dir")
    wad = None
    if scenario.wad is not None:
        wad = maps.find_wad(scenario.wad, own_dir, is_downloaded=scenario.wad_is_downloaded)

    def make_engine(player: int, game_args: str) -> DoomEngine:
        return DoomEngine(
            name=scenario.name,
            cfg=cfg,
            wad=wad,
            screen_wh=_SCREEN_16_9 if doom_cfg.wide_aspect_ratio else _SCREEN_4_3,
            window=placement.render_mode == "human" and player == 0,
            asynchronous=placement.asynchronous,
            game_args=game_args,
        )

    return make_engine
