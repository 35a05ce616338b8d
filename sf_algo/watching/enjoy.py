"""The evaluation command: loads a checkpoint, plays, prints a table, writes JSON and perhaps a video."""

from __future__ import annotations

import json
import math
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

from sf_algo.checkpoints import LoadedCheckpoint
from sf_algo.config import Config
from sf_algo.envs.dmlab.scores import LevelScores, ScoreRow, score_rows, score_table
from sf_algo.envs.factory import EnvSections, derived_means, make_env, remove_leftovers
from sf_algo.envs.spec import Env, EnvPlacement, EnvSpec
from sf_algo.files import write_bytes_atomically
from sf_algo.own.additions import NOTHING_ADDED, Additions
from sf_algo.own.training_info import TrainingInfo
from sf_algo.paths import ExperimentPaths
from sf_algo.processes.stopping import StopCondition, stop_on_signals
from sf_algo.watching.actors import make_actor
from sf_algo.watching.checkpoint import load_for_watching
from sf_algo.watching.drawing import drawing, prepare_drawing
from sf_algo.watching.evaluation import EpisodeResult, FrameSource, Player, PlayLimits, summarize, table
from sf_algo.watching.video import mp4_writer, require_video

_USUAL = ("reward", "len", "true_reward")
"""Rows of the table where levels have one of their own."""


def run_evaluation(config: Config, additions: Additions = NOTHING_ADDED) -> int:
    """Plays until the limits, Ctrl-C or SIGTERM; returns the exit code.

    Raises:
        SfAlgoError: no checkpoint, no environment, no video package.
    """
    evaluation = config.evaluation
    if evaluation.save_video:
        require_video()
    prepare_drawing(config)
    paths = ExperimentPaths(config.run.experiment_dir)
    loaded = load_for_watching(config)
    for note in loaded.notes:
        print(f"note: {note}")
    seed = config.run.seed if config.run.seed is not None else secrets.randbelow(2**31)
    stop = StopCondition(time_left_s=math.inf)
    results: list[EpisodeResult] = []
    with stop_on_signals(stop), ExitStack() as stack:
        stack.callback(remove_leftovers, config.run.env)
        env = make_watched_env(config, additions, TrainingInfo([loaded.checkpoint.env_steps]))
        stack.callback(close_quietly, env)
        actor, model = make_actor(config, env.spec, loaded, evaluation, seed=seed)
        player = Player(env, actor, rnn_state_size=model.rnn_state_size, seed=seed)
        show = stack.enter_context(record_video(config, paths, env.spec)) if evaluation.save_video else show_nothing
        limits = PlayLimits(
            max_episodes=evaluation.max_num_episodes,
            max_frames=evaluation.max_num_frames,
            frames_per_second=0 if evaluation.no_render or evaluation.save_video else evaluation.fps,
        )
        print(f"policy {evaluation.policy_index} from {loaded.path}, seed {seed}", flush=True)
        for finished in player.play(limits, show=show, stopped=lambda: stop.reason is not None):
            for result in finished:
                print(_line(result), flush=True)
            results += finished
        frames = player.frames
    scores = derived_means(config.run.env, EnvSections.of(config, additions))
    _tell(config=config, paths=paths, loaded=loaded, seed=seed, results=results, frames=frames, scores=scores)
    return stop.reason.exit_code if stop.reason is not None else 0


def _level_rows(results: list[EpisodeResult], scores: LevelScores) -> list[ScoreRow]:
    """What each level of a suite came to."""
    found = summarize(results)
    counts = Counter(name for result in results for name in result.metrics())
    return score_rows(scores.levels, {name: row["mean"] for name, row in found.items()}, counts)


def close_quietly(env: Env) -> None:
    with suppress(Exception, SystemExit):  # what it does to itself must not cost the results
        env.close()


def make_watched_env(config: Config, additions: Additions, training: TrainingInfo) -> Env:
    """An environment to be watched as the flags of evaluation say. Raises EnvError."""
    evaluation = config.evaluation
    env_cfg = config.env
    if evaluation.render_action_repeat is not None:
        env_cfg = replace(env_cfg, env_frameskip=evaluation.render_action_repeat)
    window = not evaluation.no_render and not evaluation.save_video
    placement = EnvPlacement(
        policy_index=evaluation.policy_index,
        render_mode="human" if window else "rgb_array" if evaluation.save_video else None,
        asynchronous=window and evaluation.fps == 0,
        record_to=evaluation.record_to,
        watched=True,
    )
    sections = EnvSections.of(replace(config, env=env_cfg), additions, training)
    if placement.render_mode is None:
        return make_env(config.run.env, sections, placement)
    with drawing(config.run.env):
        return make_env(config.run.env, sections, placement)


def show_nothing(env: Env) -> None:
    pass


@contextmanager
def record_video(config: Config, paths: ExperimentPaths, spec: EnvSpec) -> Iterator[Callable[[Env], None]]:
    evaluation = config.evaluation
    path = paths.video(evaluation.video_name)
    with mp4_writer(path, fps=evaluation.fps / spec.frameskip) as write:
        frames = FrameSource(write, evaluation.video_frames)

        def show(env: Env) -> None:
            with drawing(config.run.env):
                frames(env)

        yield show
    print(f"video: {path}")


def _line(result: EpisodeResult) -> str:
    agent = f" agent {result.agent}" if result.agent else ""
    true_reward = result.metrics()["true_reward"]
    true = f" (true {true_reward:.3f})" if true_reward != result.reward else ""
    return f"episode {result.episode}{agent}: reward {result.reward:.3f}{true}, {result.num_frames} frames"


def _tell(
    *,
    config: Config,
    paths: ExperimentPaths,
    loaded: LoadedCheckpoint,
    seed: int,
    results: list[EpisodeResult],
    frames: int,
    scores: LevelScores | None,
) -> None:
    if not results:
        print(f"no episode ended within {frames} frames")
    else:
        print(f"{len(results)} episodes, {frames} frames")
        print(table({name: row for name, row in summarize(results).items() if scores is None or name in _USUAL}))
    levels = _level_rows(results, scores) if scores is not None else []
    if levels and scores is not None:
        print(score_table(levels, len(scores.levels)))
    document: dict[str, Any] = {
        "version": 1,
        "env": config.run.env,
        "experiment": config.run.experiment,
        "policy": config.evaluation.policy_index,
        "checkpoint": loaded.path.name,
        "env_steps": loaded.checkpoint.env_steps,
        "seed": seed,
        "deterministic": config.evaluation.eval_deterministic,
        "frames": frames,
        "metrics": summarize(results),
        **({"levels": [vars(row) for row in levels]} if levels else {}),
        "episodes": [{"episode": r.episode, "agent": r.agent, "frames": r.num_frames, **r.metrics()} for r in results],
    }
    path = paths.evaluation(config.evaluation.policy_index)
    write_bytes_atomically(path, json.dumps(document, indent=2).encode() + b"\n", what="evaluation")
    print(f"results: {path}")
