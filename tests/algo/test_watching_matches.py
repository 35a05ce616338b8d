"""Policies against each other: games, the command, the league of all checkpoints."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sf_algo import enjoy_appo, league, train_appo
from sf_algo.checkpoints import Checkpoint, CheckpointStore, load_checkpoint
from sf_algo.config import Command, configure, parse_args
from sf_algo.envs.factory import EnvSections, make_env
from sf_algo.envs.spec import Env
from sf_algo.errors import EnvError
from sf_algo.model.types import ActedStep
from sf_algo.own.additions import NOTHING_ADDED
from sf_algo.population.ratings import PairResult
from sf_algo.watching.contest import Contest, Contestant, tally
from sf_algo.watching.league import Record, find_players, league_table

DUEL = "tests.algo.duel_env:make_duel"


class Always:
    """An actor that always does the same."""

    def __init__(self, action: int) -> None:
        self.action = action
        self.seen: list[int] = []

    def step(self, obs: Any, states: torch.Tensor) -> ActedStep:
        rows = len(next(iter(obs.values())))
        self.seen.append(rows)
        zeros = torch.zeros(rows)
        return ActedStep(torch.full((rows, 1), float(self.action)), zeros, zeros, states)


def contestant(name: str, action: int) -> Contestant:
    return Contestant(name=name, actor=Always(action), rnn_state_size=0)  # type: ignore[arg-type]


def duel(**args: Any) -> Env:
    return make_env(DUEL, EnvSections(args=args))


def test_the_higher_score_wins_from_either_seat() -> None:
    contest = Contest(duel(), seed=0)
    players = [contestant("bold", 1), contestant("shy", 0)]
    games = [contest.play(players, number) for number in range(4)]
    assert [game.scores for game in games if game] == [{"bold": 5.0, "shy": -5.0}] * 4
    assert [next(iter(game.scores)) for game in games if game] == ["bold", "shy"] * 2  # seats
    (result,) = tally(game for game in games if game)
    assert result == PairResult(first="bold", second="shy", wins=4, draws=0, losses=0)
    assert contest.frames == 20


def test_a_match_score_decides_where_there_is_one() -> None:
    contest = Contest(duel(upside_down=True), seed=0)
    game = contest.play([contestant("bold", 1), contestant("shy", 0)], 0)
    assert game is not None
    assert game.rewards["bold"] == 5.0
    assert game.scores == {"bold": -5.0, "shy": 5.0}


def test_equals_draw_and_three_take_turns() -> None:
    contest = Contest(duel(), seed=0)
    players = [contestant("a", 1), contestant("b", 1), contestant("c", 0)]
    games = [game for number in range(3) if (game := contest.play(players, number))]
    found = {(r.first, r.second): (r.wins, r.draws, r.losses) for r in tally(games)}
    assert found == {("a", "b"): (0, 1, 0), ("b", "c"): (1, 0, 0), ("a", "c"): (1, 0, 0)}
    asked = {(r.first, r.second): (r.wins, r.draws, r.losses) for r in tally(games, ["c", "b"])}
    assert asked == {("c", "b"): (0, 0, 1), ("b", "a"): (0, 1, 0), ("c", "a"): (0, 0, 1)}


def test_a_game_that_is_cut_short_is_none() -> None:
    assert Contest(duel(), seed=0).play([contestant("a", 1)], 0, stopped=lambda: True) is None


def test_nobody_meets_anybody_where_there_is_one_agent() -> None:
    config = parse_args(["--env=CartPole-v1"]).config
    with pytest.raises(EnvError, match="single agent"):
        Contest(make_env("CartPole-v1", EnvSections.of(config, NOTHING_ADDED)), seed=0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two policies after a few iterations, policy 0 made to dare always, policy 1 never."""
    root = tmp_path_factory.mktemp("train_dir")
    words = [f"--env={DUEL}", f"--train_dir={root}", "--experiment=duel", "--num_policies=2", "--serial_mode=True"]
    words += ["--hidden_size=16", "--use_rnn=False", "--train_for_env_steps=400", "--batch_size=128", "--seed=1"]
    assert train_appo.main([*words, "--num_envs_per_worker=4", "--device=cpu"]) == 0
    for policy, bias in ((0, 100.0), (1, -100.0)):
        store = CheckpointStore(root / "duel" / f"checkpoint_p{policy}", keep=9)
        (path,) = store.regular()
        checkpoint = load_checkpoint(path)
        store.save(later(biased(checkpoint, bias), 1000))
    return root


def biased(checkpoint: Checkpoint, bias: float) -> Checkpoint:
    """The same policy, except that it prefers action 1 by so much."""
    model = {name: tensor.clone() for name, tensor in checkpoint.learner["model"].items()}
    model["heads.0.bias"][:2] = torch.tensor([0.0, bias])  # logits first, then the value
    return replace(checkpoint, learner={**checkpoint.learner, "model": model})


def later(checkpoint: Checkpoint, versions: int) -> Checkpoint:
    version = checkpoint.policy_version + versions
    learner = {**checkpoint.learner, "policy_version": version}
    return replace(checkpoint, policy_version=version, learner=learner)


def enjoy(root: Path, *flags: str) -> int:
    return enjoy_appo.main(
        [f"--train_dir={root}", "--experiment=duel", "--no_render", "--seed=3", "--max_num_episodes=4", *flags]
    )


def test_policies_of_an_experiment_meet(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert enjoy(trained, "--policies=0,1") == 0
    out = capsys.readouterr().out
    assert "policy 0 against policy 1: 4 won, 0 drawn, 0 lost (100% of 4, 95 % interval 51% to 100%)" in out
    document = json.loads((trained / "duel/evaluation_policies.json").read_text())
    assert [player["policy"] for player in document["players"]] == [0, 1]
    assert len(document["games"]) == 4


def test_results_are_those_of_the_policy_that_is_named_first(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert enjoy(trained, "--policies=1,0") == 0
    assert "policy 1 against policy 0: 0 won, 0 drawn, 4 lost (0% of 4" in capsys.readouterr().out


def test_experiments_and_checkpoints_meet(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    oldest = CheckpointStore(trained / "duel/checkpoint_p1", keep=9).regular()[0]
    assert enjoy(trained, f"--policies=0,{trained / 'duel'}:1,{oldest}") == 0
    out = capsys.readouterr().out
    assert "duel:1" in out
    assert f"checkpoint_p1/{oldest.name}" in out
    assert "policy 0: rating 1" in out


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("7", "there is no checkpoint in"),
        ("nowhere", "there is no such policy, folder or file"),
        ("pyproject.toml", "damaged"),
    ],
)
def test_who_cannot_be_found_is_told_in_one_line(
    trained: Path, entry: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enjoy(trained, f"--policies=0,{entry}") != 0
    error = capsys.readouterr().err
    assert fault in error
    assert len(error.strip().splitlines()) == 1


def run_league(root: Path, *flags: str) -> int:
    return league.main([f"--train_dir={root}", "--experiment=duel", "--seed=5", *flags])


def test_a_league_rates_all_checkpoints_and_goes_on(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = trained / "duel/league.json"
    assert run_league(trained, "--league_games=3") == 0
    out = capsys.readouterr().out
    first = json.loads(path.read_text())
    assert len(first["pairs"]) == 6
    assert all(pair["wins"] + pair["draws"] + pair["losses"] == 3 for pair in first["pairs"])
    best = first["ratings"][0]["player"]
    assert best == str(
        CheckpointStore(trained / "duel/checkpoint_p0", keep=9).regular()[-1].relative_to(trained / "duel")
    )
    assert out.index(best) < out.index("results:")
    assert run_league(trained, "--league_games=3") == 0  # nothing is left to play
    assert json.loads(path.read_text()) == first
    assert run_league(trained, "--league_games=5") == 0
    again = json.loads(path.read_text())
    assert all(pair["wins"] + pair["draws"] + pair["losses"] == 5 for pair in again["pairs"])
    path.unlink()
    assert run_league(trained, "--league_games=5") == 0  # at once: the same games
    by_pair = {(pair["first"], pair["second"]): pair for pair in json.loads(path.read_text())["pairs"]}
    certain = [pair for pair in again["pairs"] if best in (pair["first"], pair["second"])]
    assert all(by_pair[pair["first"], pair["second"]] == pair for pair in certain)


def test_a_league_of_the_newest(trained: Path) -> None:
    config = configure(
        [f"--train_dir={trained}", "--experiment=duel", "--league_checkpoints=newest"], Command.LEAGUE
    ).config
    from sf_algo.paths import ExperimentPaths

    lines = find_players(config, ExperimentPaths(config.run.experiment_dir))
    assert [len(line) for line in lines] == [1, 1]


def test_earlier_selves_are_players_too(trained: Path, tmp_path: Path) -> None:
    from sf_algo.paths import ExperimentPaths

    config = configure([f"--train_dir={trained}", "--experiment=duel"], Command.LEAGUE).config
    oldest = CheckpointStore(trained / "duel/checkpoint_p0", keep=9).regular()[0]
    for policy in range(2):
        CheckpointStore(tmp_path / f"checkpoint_p{policy}/pool", keep=9).save(load_checkpoint(oldest))
    lines = find_players(config, ExperimentPaths(tmp_path))
    assert lines == [[f"checkpoint_p{policy}/pool/{oldest.name}"] for policy in range(2)]


def test_a_league_needs_two(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_league(trained, "--league_checkpoints=milestones") == 1
    assert "fewer than two checkpoints" in capsys.readouterr().err


def test_a_damaged_record_is_told(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "league.json"
    path.write_text('{"pairs": 3}')
    with pytest.raises(Exception, match="move it away to begin the league anew"):
        Record.read(path)


def test_the_table_is_aligned() -> None:
    record = Record(1, {("a", "b"): PairResult(first="a", second="b", wins=2, draws=1, losses=0)})
    head, first, second = league_table(record).splitlines()
    assert len(head) == len(first) == len(second)
    assert first.split()[1] == "a"


def test_a_table_without_games_has_its_head() -> None:
    assert league_table(Record(1, {})).split()[:2] == ["checkpoint", "rating"]
