"""Games between all checkpoints of an experiment: a table of ratings, and a file that a later start goes on with."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sf_algo.checkpoints import CheckpointStore, LoadedCheckpoint, load_checkpoint
from sf_algo.config import Config
from sf_algo.envs.factory import remove_leftovers
from sf_algo.envs.spec import Env
from sf_algo.errors import CheckpointError, EnvError, StorageError
from sf_algo.files import write_bytes_atomically
from sf_algo.own.additions import NOTHING_ADDED, Additions
from sf_algo.own.training_info import TrainingInfo
from sf_algo.paths import ExperimentPaths
from sf_algo.population.pairing import pairs_of
from sf_algo.population.ratings import PairResult, Rating, rate
from sf_algo.processes.stopping import StopCondition, stop_on_signals
from sf_algo.rollout.episodes import mix_seed
from sf_algo.watching.contest import Contest, Contestant, tally
from sf_algo.watching.contestants import Candidate, open_contestant, role_of
from sf_algo.watching.enjoy import close_quietly, make_watched_env

FORMAT_VERSION = 1
_NETWORKS_AT_HAND = 8


def run_league(config: Config, additions: Additions = NOTHING_ADDED) -> int:
    """Plays what is missing, writes after every pair, prints the table; returns the exit code.

    Raises:
        SfAlgoError: no two checkpoints, no environment in which they can meet, a file that cannot be read or written.
    """
    config = replace(config, evaluation=replace(config.evaluation, no_render=True, save_video=False))
    paths = ExperimentPaths(config.run.experiment_dir)
    lines = find_players(config, paths)
    record = Record.read(paths.league)
    seed = config.run.seed if config.run.seed is not None else record.seed
    record.seed = secrets.randbelow(2**31) if seed is None else seed
    torch.set_num_threads(1)
    stop = StopCondition(time_left_s=math.inf)
    with stop_on_signals(stop), ExitStack() as stack:
        stack.callback(remove_leftovers, config.run.env)
        env = make_watched_env(config, additions, TrainingInfo([_most_frames(lines)]))
        stack.callback(close_quietly, env)
        league = _League(config, env, paths.root, record)
        pairs = league.pairs(lines)
        for number, (first, second) in enumerate(pairs, 1):
            result = league.meet(first, second, lambda: stop.reason is not None)
            if stop.reason is not None:
                break
            print(f"{number}/{len(pairs)}: {_told(result)}", flush=True)
            record.write(paths.league, config)
    record.write(paths.league, config)
    print(league_table(record))
    print(f"results: {paths.league}")
    return stop.reason.exit_code if stop.reason is not None else 0


def find_players(config: Config, paths: ExperimentPaths) -> list[list[str]]:
    """Checkpoints as paths below the experiment's folder, a list for each policy, the oldest first.

    Raises CheckpointError where there are fewer than two.
    """
    lines = []
    which = config.league.league_checkpoints
    for folder in sorted(paths.root.glob("checkpoint_p[0-9]*"), key=lambda found: int(found.name.partition("_p")[2])):
        store = CheckpointStore(folder, keep=1)
        regular, milestones = store.regular(), store.milestones()
        earlier_selves = CheckpointStore(folder / "pool", keep=1).regular()  # of self-play
        every = [*earlier_selves, *milestones, *regular]
        chosen = {"all": every, "milestones": milestones, "newest": regular[-1:]}[which]
        unique = {path.name: path for path in chosen}  # a milestone may be a checkpoint, too
        line = [str(unique[name].relative_to(paths.root)) for name in sorted(unique)]
        if line:
            lines.append(line)
    if sum(len(line) for line in lines) < 2:
        raise CheckpointError(
            f"{paths.root} has fewer than two checkpoints for a league (--league_checkpoints={which}); train longer, "
            "or keep more with --keep_checkpoints and --save_milestones_sec"
        )
    return lines


def _most_frames(lines: Sequence[Sequence[str]]) -> int:
    """In a checkpoint's name, after its version."""
    return max(int(Path(player).stem.rpartition("_")[2]) for line in lines for player in line)


class Record:
    """What `league.json` holds: results of pairs by the paths of their checkpoints."""

    def __init__(self, seed: int | None = None, results: Mapping[tuple[str, str], PairResult] | None = None) -> None:
        self.seed = seed
        self.results = dict(results or {})

    @staticmethod
    def read(path: Path) -> Record:
        """Empty where there is no file. Raises StorageError for one that is none of ours."""
        try:
            document = json.loads(path.read_text())
            pairs = [PairResult(**pair) for pair in document["pairs"]]
            return Record(document["seed"], {(pair.first, pair.second): pair for pair in pairs})
        except FileNotFoundError:
            return Record()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{path} cannot be read ({error}); move it away to begin the league anew") from error

    def add(self, result: PairResult) -> None:
        before = self.results.get((result.first, result.second))
        if before is not None:
            counts = (result.wins + before.wins, result.draws + before.draws, result.losses + before.losses)
            result = replace(result, wins=counts[0], draws=counts[1], losses=counts[2])
        self.results[result.first, result.second] = result

    def games(self, first: str, second: str) -> int:
        result = self.results.get((first, second))
        return result.games if result is not None else 0

    def ratings(self) -> list[Rating]:
        """Strongest first; checkpoints that are gone since they played are among them."""
        players = sorted({player for pair in self.results for player in pair})
        return rate(players, list(self.results.values()))

    def write(self, path: Path, config: Config) -> None:
        """Raises StorageError."""
        document: dict[str, Any] = {
            "version": FORMAT_VERSION,
            "env": config.run.env,
            "experiment": config.run.experiment,
            "seed": self.seed,
            "pairs": [vars(result) for result in self.results.values()],
            "ratings": [vars(rating) for rating in self.ratings()],
        }
        write_bytes_atomically(path, json.dumps(document, indent=2).encode() + b"\n", what="league")


class _League:
    """Pairs, and the networks of those that meet."""

    def __init__(self, config: Config, env: Env, root: Path, record: Record) -> None:
        assert record.seed is not None
        self._config, self._env, self._root, self._record = config, env, root, record
        self._seed: int = record.seed
        self._at_hand: dict[str, Contestant] = {}

    def pairs(self, lines: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
        """Those that can meet: between them they can play all roles."""
        found = pairs_of(lines, all_pairs=self._config.league.league_all_pairs)
        roles = {player: self._role(player) for line in lines for player in line}
        needed = set(self._env.spec.roles)
        able = [pair for pair in found if None in (own := {roles[one] for one in pair}) or needed <= own]
        if found and not able:
            raise EnvError("no two of these checkpoints can play all roles of the environment between them")
        return [(min(pair), max(pair)) for pair in able]

    def meet(self, first: str, second: str, stopped: Callable[[], bool]) -> PairResult:
        """Plays the games that the pair lacks; finished ones count, whatever happens then. Returns all that it has."""
        done = self._record.games(first, second)
        contest = Contest(self._env, seed=mix_seed(self._seed, *first.encode(), 0, *second.encode()))
        for number in range(done, self._config.league.league_games):
            game = contest.play([self._contestant(first), self._contestant(second)], number, stopped=stopped)
            if game is None:
                break
            for result in tally([game]):
                self._record.add(result)
        return self._record.results.get(
            (first, second), PairResult(first=first, second=second, wins=0, draws=0, losses=0)
        )

    def _role(self, player: str) -> int | None:
        return role_of(self._candidate(player), self._env.spec) if max(self._env.spec.roles, default=0) else None

    def _candidate(self, player: str) -> Candidate:
        path = self._root / player
        return Candidate(
            name=player, config=self._config, loaded=LoadedCheckpoint(checkpoint=load_checkpoint(path), path=path)
        )

    def _contestant(self, player: str) -> Contestant:
        if player not in self._at_hand:
            while len(self._at_hand) >= _NETWORKS_AT_HAND:
                self._at_hand.pop(next(iter(self._at_hand)))
            self._at_hand[player] = open_contestant(
                self._candidate(player), self._env.spec, self._config, seed=mix_seed(self._seed, *player.encode())
            )
        return self._at_hand[player]


def _told(result: PairResult) -> str:
    return (
        f"{result.first} against {result.second}: {result.wins} won, {result.draws} drawn, {result.losses} lost of "
        f"{result.games}"
    )


def league_table(record: Record) -> str:
    """Strongest first, with intervals, as aligned text."""
    ratings = record.ratings()
    width = max(map(len, ["checkpoint", *(one.player for one in ratings)]))
    lines = [f"{'':>3} {'checkpoint':<{width}} {'rating':>7} {'95 % interval':>15} {'won':>5} {'drawn':>5} {'lost':>5}"]
    for place, one in enumerate(ratings, 1):
        interval = f"{one.low:.0f} to {one.high:.0f}"
        lines.append(
            f"{place:>3} {one.player:<{width}} {one.rating:>7.0f} {interval:>15} {one.wins:>5} {one.draws:>5} "
            f"{one.losses:>5}"
        )
    return "\n".join(lines)
