"""Plays a trained policy: on the screen, into a GIF, or for its score alone."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sf_algo.config import Command, Config, configure
from sf_algo.config.resolve import Invocation
from sf_algo.envs.factory import remove_leftovers
from sf_algo.envs.spec import Env
from sf_algo.gallery.animation import Animation
from sf_algo.own.additions import NOTHING_ADDED, additions_of
from sf_algo.own.training_info import TrainingInfo
from sf_algo.processes.stopping import StopCondition, stop_on_signals
from sf_algo.watching.actors import make_actor
from sf_algo.watching.checkpoint import load_for_watching
from sf_algo.watching.drawing import drawing, prepare_drawing
from sf_algo.watching.enjoy import make_watched_env
from sf_algo.watching.evaluation import EpisodeResult, FrameSource, Player, PlayLimits

Picture = Literal["window", "frames", "none"]


@dataclass(frozen=True, kw_only=True)
class Played:
    """Results of all episodes of all agents; `exit_code` is not 0 where a signal ended it."""

    results: list[EpisodeResult]
    frames: int
    exit_code: int


def has_display() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def invocation_of(folder: Path, *, picture: Picture, deterministic: bool, kind: str = "latest") -> Invocation:
    """What would play the policy in `folder` as a command. Raises ConfigError."""
    flags = {"window": [], "frames": ["--save_video=True"], "none": ["--no_render"]}[picture]
    words = [f"--train_dir={folder.parent}", f"--experiment={folder.name}", f"--load_checkpoint_kind={kind}"]
    words.append(f"--eval_deterministic={deterministic}")
    return configure([*words, *flags], Command.ENJOY, NOTHING_ADDED)


def play(
    folder: Path,
    *,
    picture: Picture,
    episodes: int,
    seed: int,
    deterministic: bool,
    kind: str = "latest",
    tell: Callable[[EpisodeResult], None] = lambda result: None,
    animation: Animation | None = None,
) -> Played:
    """Plays until the episodes are done or a signal comes.

    Raises:
        SfAlgoError: no policy, no environment, or no way to draw it.
    """
    invocation = invocation_of(folder, picture=picture, deterministic=deterministic, kind=kind)
    config = invocation.config
    prepare_drawing(config)
    loaded = load_for_watching(config)
    stop = StopCondition(time_left_s=math.inf)
    results: list[EpisodeResult] = []
    additions = additions_of(invocation)
    with stop_on_signals(stop), ExitStack() as stack:
        stack.callback(remove_leftovers, config.run.env)
        env = make_watched_env(config, additions, TrainingInfo([loaded.checkpoint.env_steps]))
        stack.callback(env.close)
        actor, model = make_actor(config, env.spec, loaded, config.evaluation, seed=seed)
        player = Player(env, actor, rnn_state_size=model.rnn_state_size, seed=seed)
        window = not config.evaluation.no_render and not config.evaluation.save_video
        limits = PlayLimits(
            max_episodes=episodes,
            max_frames=config.evaluation.max_num_frames,
            frames_per_second=config.evaluation.fps if window else 0,
        )
        for finished in player.play(limits, show=_shower(config, animation), stopped=lambda: stop.reason is not None):
            for result in finished:
                tell(result)
            results += finished
        return Played(
            results=results, frames=player.frames, exit_code=0 if stop.reason is None else stop.reason.exit_code
        )


def _shower(config: Config, animation: Animation | None) -> Callable[[Env], None]:
    if animation is None:
        return lambda env: None
    frames = FrameSource(animation.add, config.evaluation.video_frames)

    def show(env: Env) -> None:
        with drawing(config.run.env):
            frames(env)

    return show
