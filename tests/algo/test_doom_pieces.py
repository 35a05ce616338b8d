"""VizDoom without an engine: buttons, screen, shaping and measurements, in numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sf_algo.envs.doom.actions import (
    ButtonGroup,
    OneOf,
    TurnAngles,
    TurnContinuous,
    action_spec,
    button_mapping,
    groups_of_buttons,
    num_buttons,
)
from sf_algo.envs.doom.measurements import Measurements
from sf_algo.envs.doom.scenarios import SCENARIOS
from sf_algo.envs.doom.screen import plane_sampler
from sf_algo.envs.doom.shaping import BATTLE_SCHEME, BOTS_SCHEME, DEATHMATCH_SCHEME, RewardScheme, Shaper
from sf_algo.envs.spec import Box, Discrete
from sf_algo.errors import EnvError
from sf_algo.own.shaping import flatten, nest


def pressed(groups: tuple[OneOf | TurnAngles | TurnContinuous, ...], *row: float) -> list[float]:
    return list(button_mapping(groups)(np.array(row, np.float32)))


def test_a_flat_choice_presses_one_button_or_none() -> None:
    groups = (OneOf(3),)
    assert action_spec(groups).components == (Discrete(4),)
    assert [pressed(groups, k) for k in range(4)] == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_several_groups_press_side_by_side() -> None:
    groups = (OneOf(2), OneOf(1), TurnAngles(11, 10.0))
    assert action_spec(groups).components == (Discrete(3), Discrete(2), Discrete(11))
    assert num_buttons(groups) == 4
    assert pressed(groups, 2, 1, 0) == [0, 1, 1, -10]
    assert pressed(groups, 0, 0, 5) == [0, 0, 0, 0]
    assert pressed(groups, 1, 0, 8) == [1, 0, 0, 6]


def test_a_continuous_turn_is_clipped_and_scaled() -> None:
    groups = (OneOf(1), TurnContinuous(7.5))
    assert action_spec(groups).components == (Discrete(2), Box((-1.0,), (1.0,)))
    assert pressed(groups, 1, 0.5) == [1, 3.75]
    assert pressed(groups, 0, -3.0) == [0, -7.5]


def test_pressing_never_alters_what_was_pressed_before() -> None:
    press = button_mapping((OneOf(1), OneOf(1)))
    first = press(np.array([1, 0], np.float32))
    press(np.array([0, 1], np.float32))
    assert list(first) == [1, 0]


def test_groups_follow_from_the_buttons_of_a_scenario_file() -> None:
    names = ["MOVE_LEFT", "MOVE_RIGHT", "ATTACK", *(f"SELECT_WEAPON{k}" for k in range(1, 8)), "SPEED"]
    assert groups_of_buttons(names) == (OneOf(2), OneOf(1), OneOf(7), OneOf(1))
    assert groups_of_buttons(["TURN_LEFT_RIGHT_DELTA", "USE"]) == (TurnAngles(11, 10.0), OneOf(1))
    assert groups_of_buttons(["TURN_LEFT", "MOVE_FORWARD"]) == (OneOf(1), OneOf(1))
    with pytest.raises(EnvError, match="MOVE_FORWARD_BACKWARD_DELTA"):
        groups_of_buttons(["MOVE_FORWARD_BACKWARD_DELTA"])


def test_every_environment_has_the_actions_that_results_are_compared_on() -> None:
    turn_walk, turn_attack = [3, 3], [3, 2]
    expected = {
        "doom_basic": [4],
        "doom_two_colors_easy": turn_walk,
        "doom_two_colors_hard": turn_walk,
        "doom_my_way_home": turn_walk,
        "doom_my_way_home_flat_actions": [5],
        "doom_defend_the_center": turn_attack,
        "doom_defend_the_center_flat_actions": [4],
        "doom_defend_the_line": turn_attack,
        "doom_deadly_corridor": [3, 3, 3, 2],
        "doom_health_gathering": [5],
        "doom_health_gathering_supreme": [5],
        "doom_battle": [3, 3, 2, 2, 11],
        "doom_battle2": [3, 3, 2, 2, 11],
        "doom_benchmark": [9],
        "doom_dm": [3, 3, 3, 2, 2, 7.5],
        "doom_dwango5": [3, 3, 3, 2, 2, 7.5],
        "doom_duel_bots": [3, 3, 8, 2, 2, 2, 21],
        "doom_deathmatch_bots": [3, 3, 8, 2, 2, 21],
        "doom_duel": [3, 3, 8, 2, 2, 2, 21],
        "doom_deathmatch_full": [3, 3, 8, 2, 2, 2, 21],
    }
    found = {name: [_size(group) for group in scenario.groups or ()] for name, scenario in SCENARIOS.items()}
    assert found == expected


def _size(group: ButtonGroup) -> float:
    """Number of choices; the degrees of a continuous turn."""
    if isinstance(group, TurnContinuous):
        return group.degrees
    (component,) = action_spec((group,)).components
    assert isinstance(component, Discrete)
    return component.n


@pytest.mark.parametrize("screen", [(120, 160), (144, 256), (480, 640), (72, 128), (131, 201)])
def test_planes_are_sampled_from_their_nearest_pixels(screen: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, *screen), dtype=np.uint8)
    out = np.zeros((3, 72, 128), np.uint8)
    plane_sampler(screen_hw=screen, out_hw=(72, 128))(image, out)
    for y, x in [(0, 0), (1, 1), (71, 127), (40, 77), (13, 3)]:
        assert out[:, y, x].tolist() == image[:, y * screen[0] // 72, x * screen[1] // 128].tolist()


def test_planes_equal_those_of_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    image = np.random.default_rng(1).integers(0, 256, (3, 120, 160), dtype=np.uint8)
    out = np.zeros((3, 72, 128), np.uint8)
    plane_sampler(screen_hw=(120, 160), out_hw=(72, 128))(image, out)
    for plane, sampled in zip(image, out, strict=True):
        assert np.array_equal(cv2.resize(plane, (128, 72), interpolation=cv2.INTER_NEAREST), sampled)


VARIABLES = (
    "SELECTED_WEAPON",
    "SELECTED_WEAPON_AMMO",
    "HEALTH",
    "FRAGCOUNT",
    "DAMAGECOUNT",
    "DEAD",
    "WEAPON6",
)


def rewards(scheme: RewardScheme, *states: tuple[float, ...], ended_last: bool = False) -> list[float]:
    shaper = Shaper(scheme, VARIABLES)
    shaper.reset()
    last = len(states) - 1
    steps = enumerate(states)
    return [round(shaper.step(np.array(s, float), ended=ended_last and i == last), 7) for i, s in steps]


ALIVE = (2.0, 0.0, 100.0, 0.0, 0.0, 0.0, 0.0)


def changed(**values: float) -> tuple[float, ...]:
    return tuple(values.get(name, ALIVE[i]) for i, name in enumerate(VARIABLES))


@pytest.mark.parametrize(
    ("scheme", "values", "reward"),
    [
        (BOTS_SCHEME, {"FRAGCOUNT": 2}, 2.0),
        (BOTS_SCHEME, {"FRAGCOUNT": -1}, -1.5),
        (BOTS_SCHEME, {"HEALTH": 110}, 0.05),
        (BOTS_SCHEME, {"HEALTH": 90}, -0.03),
        (BOTS_SCHEME, {"DAMAGECOUNT": 100}, 0.3),
        (BOTS_SCHEME, {"DAMAGECOUNT": 900}, 0.6),
        (BOTS_SCHEME, {"WEAPON6": 1}, 0.2),
        (BOTS_SCHEME, {"FRAGCOUNT": 1, "HEALTH": 90, "DAMAGECOUNT": 10}, 1.0 - 0.03 + 0.03),
        (BATTLE_SCHEME, {"HEALTH": 90}, -0.03),
        (DEATHMATCH_SCHEME, {"FRAGCOUNT": -1}, -0.001),
        (DEATHMATCH_SCHEME, {"HEALTH": 90}, -0.1),
        (DEATHMATCH_SCHEME, {"DAMAGECOUNT": 10}, 0.1),
    ],
)
def test_changes_are_paid_per_unit(scheme: RewardScheme, values: dict[str, float], reward: float) -> None:
    assert rewards(scheme, ALIVE, changed(**values)) == [0.0, pytest.approx(reward)]
    assert rewards(scheme, ALIVE, changed(**values), ended_last=True) == [0.0, 0.0], "nothing at the end"


def test_who_begins_dead_gains_nothing_by_it() -> None:
    shaper = Shaper(DEATHMATCH_SCHEME, VARIABLES)
    telefragged = np.array(changed(HEALTH=-999_900.0, DEAD=1.0))
    shaper.reset(telefragged)
    assert [shaper.step(state, ended=False) for state in (telefragged, np.array(ALIVE))] == [0.0, 0.0]


def test_a_respawn_is_not_a_gain() -> None:
    dying = changed(HEALTH=0.0, DEAD=1.0)
    assert rewards(BOTS_SCHEME, ALIVE, dying, ALIVE, ALIVE) == [0.0, -0.3, 0.0, 0.0]
    telefragged = changed(HEALTH=-999_900.0, DEAD=1.0)
    assert rewards(BOTS_SCHEME, ALIVE, telefragged, ALIVE, ALIVE) == [0.0, -0.3, 0.0, 0.0]


@pytest.mark.parametrize(("weapon", "reward"), [(2, 0.0002), (3, 0.001), (7, 0.002), (9, 0.0)])
def test_holding_a_loaded_weapon_pays_for_that_weapon_from_the_fifth_step(weapon: int, reward: float) -> None:
    held = changed(SELECTED_WEAPON=weapon, SELECTED_WEAPON_AMMO=10.0)
    empty = changed(SELECTED_WEAPON=weapon, SELECTED_WEAPON_AMMO=0.0)
    other = changed(SELECTED_WEAPON=1, SELECTED_WEAPON_AMMO=10.0)
    assert rewards(BOTS_SCHEME, *[held] * 6) == [0, 0, 0, 0, reward, reward]
    assert rewards(BOTS_SCHEME, *[held] * 5, empty, held)[-2:] == [0, reward]
    assert rewards(BOTS_SCHEME, *[held] * 5, other, held)[-2:] == [0, 0]


def test_variables_that_a_map_lacks_pay_nothing() -> None:
    shaper = Shaper(BATTLE_SCHEME, ("POSITION_X", "HEALTH"))
    shaper.reset()
    assert [shaper.step(np.array([x, 100.0]), ended=False) for x in (0.0, 50.0)] == [0.0, 0.0]


def test_measurements_are_scaled_bounded_and_in_order() -> None:
    names = (
        "AMMO7",
        "HEALTH",
        "SELECTED_WEAPON",
        "SELECTED_WEAPON_AMMO",
        "USER2",
        "WEAPON0",
        "ARMOR",
        "AMMO0",
    )
    out = np.full(23, 99.0, np.float32)
    Measurements(names).write(np.array([300.0, 90.0, 3.0, 30.0, 20.0, 1.0, 15.0, 6.0]), out)
    expected = np.zeros(23, np.float32)
    expected[:7] = [3.0, 2.0, 3.0, 0.5, 2.0, 0.0, 0.2]
    expected[7] = 1.0
    expected[15] = 0.4
    expected[22] = 5.0
    assert out == pytest.approx(expected)
    Measurements(names).write(np.full(8, -1.0), out)
    assert out.min() == 0.0
    Measurements(("PLAYER_COUNT",)).write(np.array([8.0]), out)
    assert out[6] == pytest.approx(1.6)


def test_shaping_can_be_changed() -> None:
    variables = ("HEALTH", "SELECTED_WEAPON", "SELECTED_WEAPON_AMMO", "POSITION_X")
    shaper = Shaper(BATTLE_SCHEME, variables)
    assert shaper.values()["delta"] == {"HEALTH": {"gain": 0.005, "loss": -0.003}}
    flat = flatten(shaper.values())
    assert flat["held_weapon/3"] == pytest.approx(0.001)
    shaper.reset()
    shaper.step(np.array([50.0, 0.0, 0.0, 0.0]), ended=False)
    shaper.set_values(nest({**flat, "delta/HEALTH/gain": 1.0}))
    assert shaper.step(np.array([53.0, 0.0, 0.0, 0.0]), ended=False) == 3.0
    assert flatten(shaper.values()) == {**flat, "delta/HEALTH/gain": 1.0}
