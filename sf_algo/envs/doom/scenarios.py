"""Every VizDoom environment by name: scenario file, map, actions, limits, rewards. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from sf_algo.envs.doom.actions import ButtonGroup, OneOf, TurnAngles, TurnContinuous
from sf_algo.envs.doom.match import MatchRules
from sf_algo.envs.doom.shaping import BATTLE_SCHEME, BOTS_SCHEME, DEATHMATCH_SCHEME, RewardScheme

_TURN_WALK = (OneOf(2), OneOf(2))
_TURN_ATTACK = (OneOf(2), OneOf(1))
_TURN_WALK_STRAFE_ATTACK = (OneOf(2), OneOf(2), OneOf(2), OneOf(1))
_WALK_STRAFE_ATTACK_SPRINT_ANGLE = (OneOf(2), OneOf(2), OneOf(1), OneOf(1), TurnAngles(11, 10.0))
_ANGLES = TurnAngles(21, 12.5)
_WEAPONS_ANGLE = (OneOf(2), OneOf(2), OneOf(7), OneOf(1), OneOf(1), _ANGLES)
_WEAPONS_USE_ANGLE = (OneOf(2), OneOf(2), OneOf(7), OneOf(1), OneOf(1), OneOf(1), _ANGLES)
_NEXT_WEAPON_TURN = (OneOf(2), OneOf(2), OneOf(2), OneOf(1), OneOf(1), TurnContinuous(7.5))


@dataclass(frozen=True, kw_only=True)
class DoomScenario:
    """One VizDoom environment.

    `cfg` and `wad` are file names looked up as `sf_algo.envs.doom.maps` says, or absolute paths.
    """

    name: str
    cfg: str
    wad: str | None = None
    """None: the map that the scenario file names (`doom_scenario_path`)."""
    wad_is_downloaded: bool = False
    """The map comes with our download command, even where vizdoom ships another one of that name."""
    groups: tuple[ButtonGroup, ...] | None = None
    """Actions; None: derived from the buttons in the scenario file."""
    frame_limit: int | None = None
    """In tics of 1/35 s, beside the scenario file's own episode_timeout; the earlier one counts."""
    reward_scale: float = 1.0
    """Of the reward that is trained on; `true_reward` is never scaled."""
    health_bonus: float = 0.0
    """Added to the reward of a step in which health rises."""
    shaping: RewardScheme | None = None
    measurements: bool = False
    """Observe {obs, measurements[23]} instead of the screen alone."""
    match: MatchRules | None = None
    """None: one player alone with the map."""


_BATTLE = DoomScenario(
    name="doom_battle",
    cfg="battle.cfg",
    wad="battle.wad",
    wad_is_downloaded=True,
    groups=_WALK_STRAFE_ATTACK_SPRINT_ANGLE,
    frame_limit=2100,
    shaping=BATTLE_SCHEME,
    measurements=True,
)
_GATHERING = DoomScenario(
    name="doom_health_gathering",
    cfg="health_gathering.cfg",
    wad="health_gathering.wad",
    groups=(OneOf(4),),
    health_bonus=1.0,
)
_TWO_COLORS = DoomScenario(
    name="doom_two_colors_easy",
    cfg="two_colors_easy.cfg",
    wad="two_colors_easy.wad",
    wad_is_downloaded=True,
    groups=_TURN_WALK,
    health_bonus=1.0,
)
_MY_WAY_HOME = DoomScenario(name="doom_my_way_home", cfg="my_way_home.cfg", wad="my_way_home.wad", groups=_TURN_WALK)
_CENTER = DoomScenario(
    name="doom_defend_the_center",
    cfg="defend_the_center.cfg",
    wad="defend_the_center.wad",
    groups=_TURN_ATTACK,
)

_DUEL = DoomScenario(
    name="doom_duel",
    cfg="ssl2.cfg",
    wad="ssl2.wad",
    wad_is_downloaded=True,
    groups=_WEAPONS_USE_ANGLE,
    shaping=DEATHMATCH_SCHEME,
    measurements=True,
    match=MatchRules(agents=2, respawn_delay_s=2, true_reward="win"),
)
_DM = replace(
    _DUEL,
    name="doom_dm",
    cfg="cig.cfg",
    wad="cig.wad",
    wad_is_downloaded=False,
    groups=_NEXT_WEAPON_TURN,
    match=MatchRules(agents=8, true_reward="win"),
)

_ALL = (
    DoomScenario(
        name="doom_basic",
        cfg="basic.cfg",
        wad="basic.wad",
        groups=(OneOf(3),),
        frame_limit=300,
        reward_scale=0.01,
    ),
    _TWO_COLORS,
    replace(_TWO_COLORS, name="doom_two_colors_hard", cfg="two_colors_hard.cfg", wad="two_colors_hard.wad"),
    _MY_WAY_HOME,
    replace(_MY_WAY_HOME, name="doom_my_way_home_flat_actions", groups=(OneOf(4),)),
    _CENTER,
    replace(_CENTER, name="doom_defend_the_center_flat_actions", groups=(OneOf(3),)),
    DoomScenario(
        name="doom_defend_the_line", cfg="defend_the_line.cfg", wad="defend_the_line.wad", groups=_TURN_ATTACK
    ),
    DoomScenario(
        name="doom_deadly_corridor",
        cfg="deadly_corridor.cfg",
        wad="deadly_corridor.wad",
        groups=_TURN_WALK_STRAFE_ATTACK,
        reward_scale=0.01,
    ),
    _GATHERING,
    replace(
        _GATHERING,
        name="doom_health_gathering_supreme",
        cfg="health_gathering_supreme.cfg",
        wad="health_gathering_supreme.wad",
        wad_is_downloaded=True,
    ),
    _BATTLE,
    replace(_BATTLE, name="doom_battle2", cfg="battle2.cfg", wad="battle2.wad"),
    DoomScenario(
        name="doom_benchmark",
        cfg="benchmark.cfg",
        wad="battle.wad",
        wad_is_downloaded=True,
        groups=(OneOf(8),),
        frame_limit=2100,
    ),
    _DM,
    replace(_DM, name="doom_dwango5", cfg="dwango5.cfg", wad="dwango5.wad", wad_is_downloaded=True),
    replace(
        _DUEL,
        name="doom_duel_bots",
        shaping=BOTS_SCHEME,
        match=MatchRules(bots=1, respawn_delay_s=2, true_reward="frags"),
    ),
    replace(
        _DUEL,
        name="doom_deathmatch_bots",
        cfg="dwango5_weapons.cfg",
        wad="dwango5.wad",
        groups=_WEAPONS_ANGLE,
        shaping=BOTS_SCHEME,
        match=MatchRules(bots=7, true_reward="frags"),
    ),
    _DUEL,
    replace(
        _DUEL,
        name="doom_deathmatch_full",
        cfg="freedm.cfg",
        wad="freedm.wad",
        match=MatchRules(agents=4, bots=4, respawn_delay_s=2, true_reward="win"),
    ),
)

SCENARIOS: Mapping[str, DoomScenario] = MappingProxyType({scenario.name: scenario for scenario in _ALL})
