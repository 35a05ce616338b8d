"""Policies against each other (`enjoy_appo --policies=0,1`): plays, prints who has won, writes JSON."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from sf_algo.config import Config
from sf_algo.envs.factory import remove_leftovers
from sf_algo.files import write_bytes_atomically
from sf_algo.own.additions import NOTHING_ADDED, Additions
from sf_algo.own.training_info import TrainingInfo
from sf_algo.paths import ExperimentPaths
from sf_algo.population.ratings import PairResult, rate, win_share
from sf_algo.processes.stopping import StopCondition, stop_on_signals
from sf_algo.rollout.episodes import mix_seed
from sf_algo.watching.contest import Contest, Game, tally
from sf_algo.watching.contestants import Candidate, find_candidates, open_contestant
from sf_algo.watching.drawing import prepare_drawing
from sf_algo.watching.enjoy import close_quietly, make_watched_env, record_video, show_nothing
from sf_algo.watching.evaluation import Pace
from sf_algo.watching.video import require_video


def run_matches(config: Config, additions: Additions = NOTHING_ADDED) -> int:
    """Plays until the limits, Ctrl-C or SIGTERM; returns the exit code.

    Raises:
        SfAlgoError: no such policy, no environment in which they can meet, no video package.
    """
    evaluation = config.evaluation
    if evaluation.save_video:
        require_video()
    prepare_drawing(config)
    paths = ExperimentPaths(config.run.experiment_dir)
    candidates = find_candidates(config, additions)
    seed = config.run.seed if config.run.seed is not None else secrets.randbelow(2**31)
    stop = StopCondition(time_left_s=math.inf)
    games: list[Game] = []
    with stop_on_signals(stop), ExitStack() as stack:
        stack.callback(remove_leftovers, config.run.env)
        frames_so_far = max(candidate.loaded.checkpoint.env_steps for candidate in candidates)
        env = make_watched_env(config, additions, TrainingInfo([frames_so_far]))
        stack.callback(close_quietly, env)
        contest = Contest(env, seed=seed)
        contestants = [
            open_contestant(candidate, env.spec, config, seed=mix_seed(seed, index))
            for index, candidate in enumerate(candidates)
        ]
        show = stack.enter_context(record_video(config, paths, env.spec)) if evaluation.save_video else show_nothing
        for candidate in candidates:
            print(f"{candidate.name} from {candidate.loaded.path}", flush=True)
        paced = not (evaluation.no_render or evaluation.save_video)
        pace = Pace(env.spec.frameskip / evaluation.fps if paced and evaluation.fps else 0.0)
        while len(games) < evaluation.max_num_episodes and contest.frames < evaluation.max_num_frames:
            game = contest.play(
                contestants,
                len(games),
                show=lambda shown: (pace.wait(), show(shown))[1],  # type: ignore[func-returns-value]
                stopped=lambda: stop.reason is not None or contest.frames >= evaluation.max_num_frames,
            )
            if game is None:
                break
            print(game_line(game), flush=True)
            games.append(game)
    _tell(config, paths, candidates, games, seed=seed)
    return stop.reason.exit_code if stop.reason is not None else 0


def game_line(game: Game) -> str:
    scores = ", ".join(f"{name} {score:.3f}" for name, score in game.scores.items())
    return f"game {game.number}: {scores} ({game.num_frames} frames)"


def pair_lines(results: Sequence[PairResult]) -> list[str]:
    """Wins, draws and losses of every pair, and the share of wins with its interval."""
    lines = []
    for result in results:
        share, low, high = win_share(result.wins, result.draws, result.losses)
        lines.append(
            f"{result.first} against {result.second}: {result.wins} won, {result.draws} drawn, {result.losses} lost "
            f"({share:.0%} of {result.games}, 95 % interval {low:.0%} to {high:.0%})"
        )
    return lines


def _tell(
    config: Config, paths: ExperimentPaths, candidates: Sequence[Candidate], games: list[Game], *, seed: int
) -> None:
    names = [candidate.name for candidate in candidates]
    results = tally(games, names)
    if not games:
        print("no game came to its end")
    for line in pair_lines(results):
        print(line)
    ratings = rate(names, results)
    if len(names) > 2:
        for one in ratings:
            print(f"{one.player}: rating {one.rating:.0f} ({one.low:.0f} to {one.high:.0f})")
    document: dict[str, Any] = {
        "version": 1,
        "env": config.run.env,
        "experiment": config.run.experiment,
        "seed": seed,
        "deterministic": config.evaluation.eval_deterministic,
        "players": [
            {
                "name": candidate.name,
                "checkpoint": str(candidate.loaded.path),
                "policy": candidate.policy,
                "env_steps": candidate.loaded.checkpoint.env_steps,
            }
            for candidate in candidates
        ],
        "pairs": [vars(result) for result in results],
        "ratings": [vars(one) for one in ratings],
        "games": [vars(game) for game in games],
    }
    path = paths.contest
    write_bytes_atomically(path, json.dumps(document, indent=2).encode() + b"\n", what="evaluation")
    print(f"results: {path}")
