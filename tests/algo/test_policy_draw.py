"""Whom agents follow: by the roster, against earlier selves, and what is told of their matches."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sf_algo.ipc.roster import NOBODY, Roster
from sf_algo.ipc.training_board import TrainingBoard
from sf_algo.rollout.episodes import EpisodeReport, MatchReport, with_match
from sf_algo.rollout.matches import Players
from sf_algo.rollout.policy_draw import PolicyDraw

EPISODES = 400


def make_roster(num_acting: int, num_roles: int = 1) -> Roster:
    board = TrainingBoard.create(num_acting=num_acting, shaping=[], num_roles=num_roles)
    board.close()  # the memory stays as long as it is mapped
    return board.roster


def drawn(draw: PolicyDraw, num_agents: int) -> list[tuple[int, ...]]:
    return [
        tuple(draw.draw(env_index=3, episode=episode, num_agents=num_agents).tolist()) for episode in range(EPISODES)
    ]


def test_an_empty_roster_changes_nothing() -> None:
    plain = PolicyDraw(num_policies=3, mix=True, seed=1)
    assert drawn(plain, 2) == drawn(PolicyDraw(num_policies=3, mix=True, seed=1, roster=make_roster(3)), 2)
    assert set(np.ravel(drawn(plain, 2))) == {0, 1, 2}


def test_policies_are_drawn_by_their_weights_and_by_the_same_numbers_everywhere() -> None:
    roster = make_roster(3)
    draw = PolicyDraw(num_policies=3, mix=True, seed=1, roster=roster)
    roster.write(weights=[[3.0], [0.0], [1.0]], members=[NOBODY] * 3)
    counts = Counter(policy for ids in drawn(draw, 2) for policy in ids)
    assert counts[1] == 0
    assert 0.65 < counts[0] / (2 * EPISODES) < 0.85
    assert drawn(draw, 2) == drawn(PolicyDraw(num_policies=3, mix=True, seed=1, roster=roster), 2)
    assert {draw.draw_one(env_index=0, agent=0, episode=episode) for episode in range(100)} == {0, 2}


@pytest.mark.parametrize("num_policies", [1, 2])
def test_against_earlier_selves_one_agent_follows_a_policy_in_training(num_policies: int) -> None:
    roster = make_roster(num_policies + 1)
    draw = PolicyDraw(num_policies=num_policies, mix=True, seed=1, roster=roster)
    opponent = num_policies
    roster.write(weights=[[1.0]] * (num_policies + 1), members=[*[NOBODY] * num_policies, 7], opponent_share=1.0)
    found = drawn(draw, 4)
    assert {sum(policy == opponent for policy in ids) for ids in found} == {3}
    assert len({next(agent for agent, policy in enumerate(ids) if policy != opponent) for ids in found}) == 4
    roster.write(weights=[[1.0]] * (num_policies + 1), members=[*[NOBODY] * num_policies, 7], opponent_share=0.25)
    share = sum(opponent in ids for ids in drawn(draw, 4)) / EPISODES
    assert 0.15 < share < 0.35


def test_of_several_roles_one_side_is_in_training() -> None:
    roster = make_roster(3, num_roles=2)
    draw = PolicyDraw(num_policies=2, mix=True, seed=1, roles=(0, 0, 1), roster=roster)
    # The opponent has learned role 1.
    roster.write(weights=[[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], members=[NOBODY, NOBODY, 0], opponent_share=1.0)
    assert set(drawn(draw, 3)) == {(0, 0, 2), (0, 0, 1)}  # nobody can be the opponent in role 0


def test_who_has_no_opponents_plays_as_without() -> None:
    roster = make_roster(2)
    draw = PolicyDraw(num_policies=1, mix=True, seed=1, roster=roster)
    roster.write(weights=[[1.0], [0.0]], members=[NOBODY, NOBODY], opponent_share=1.0)
    assert set(drawn(draw, 2)) == {(0, 0)}


def test_another_process_s_view_is_whole() -> None:
    board = TrainingBoard.create(num_acting=2, shaping=["a"], num_roles=2)
    other = TrainingBoard.attach(board.fd, num_acting=2, shaping=["a"], num_roles=2)
    assert other.roster.version == 0
    board.roster.write(weights=[[1, 2], [3, 4]], members=[NOBODY, 5], opponent_share=0.5)
    view = other.roster.view()
    assert view.weights.tolist() == [[1, 2], [3, 4]]
    assert view.members.tolist() == [NOBODY, 5]
    assert view.opponent_share == 0.5
    assert other.roster.view() is view
    board.roster.write(weights=[[1, 2], [3, 4]], members=[NOBODY, 6])
    assert other.roster.view().members.tolist() == [NOBODY, 6]
    assert view.members.tolist() == [NOBODY, 5]
    board.close()


def test_a_match_with_one_player_or_one_that_was_exchanged_is_none() -> None:
    roster = make_roster(2)
    draw = PolicyDraw(num_policies=1, mix=True, seed=1, roster=roster)
    ids = np.zeros(4, np.int32)
    players = Players(draw, ids, meet=True)
    roster.write(weights=[[1.0], [1.0]], members=[NOBODY, 5])
    players.begin(slice(0, 2))
    assert players.of_match(slice(0, 2)) is None
    ids[3] = 1
    players.begin(slice(2, 4))
    assert players.of_match(slice(2, 4)) == [(0, NOBODY), (1, 5)]
    roster.write(weights=[[1.0], [1.0]], members=[NOBODY, 6])
    assert players.of_match(slice(2, 4)) is None
    assert Players(draw, ids, meet=False).of_match(slice(2, 4)) is None


def report(reward: float, policy: int, **stats: float) -> EpisodeReport:
    return EpisodeReport(policy_id=policy, reward=reward, num_steps=3, stats=stats)


def test_the_score_decides_else_the_reward() -> None:
    players = [(0, NOBODY), (1, NOBODY), (0, NOBODY)]
    told = with_match([report(1.0, 0), report(0.0, 1), report(0.0, 0)], players)
    assert [one.stats["win_rate"] for one in told] == [1.0, 0.25, 0.5]
    assert told[0].match == MatchReport(players=players, scores=[1.0, 0.0, 0.0])
    assert told[1].match is None
    scored = with_match([report(1.0, 0, match_score=2.0), report(0.0, 1, match_score=3.0)], players[:2])
    assert [one.stats["win_rate"] for one in scored] == [0.0, 1.0]


def test_a_report_survives_its_way_between_processes() -> None:
    match = MatchReport(players=[(0, NOBODY), (2, 7)], scores=[1.0, 0.5])
    for one in (report(1.0, 0, a=2.0), EpisodeReport(policy_id=0, reward=1.0, num_steps=3, extras=[1], match=match)):
        assert EpisodeReport.from_message(one.to_message()) == one
