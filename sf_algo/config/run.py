"""What an experiment is called, where it lives, how long it trains and how often it is saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sf_algo.config.flag import flag
from sf_algo.config.limits import NO_LIMIT

_SECONDS = "it is a length of time in seconds"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Identity, duration, storage and reporting of one experiment."""

    algo: Literal["APPO", "DUMMY_SAMPLER"] = flag("APPO", "algorithm to run; DUMMY_SAMPLER only steps the environment")
    env: str | None = flag(
        None,
        "environment: a gymnasium id (CartPole-v1), doom_<name>, atari_<name>, mujoco_<name>, or your own as "
        "package.module:make_env",
    )
    experiment: str = flag("default_experiment", "name of the experiment and of its folder")
    experiments_root: str | None = flag(None, "folder between train_dir and the experiment's own folder")
    train_dir: str = flag("./train_dir", "folder that holds all experiments")
    restart_behavior: Literal["resume", "restart", "overwrite"] = flag(
        "resume",
        "what to do where the experiment exists already: resume its training; restart it from zero and keep "
        "the old one aside as <experiment>_old<k>; overwrite it, deleting the old one",
    )
    device: Literal["auto", "gpu", "cpu"] = flag(
        "auto", "where the networks run; auto: the GPU if there is one", value_aliases={"cuda": "gpu"}
    )
    seed: int | None = flag(
        None,
        "seed of everything random; None: a new one every time",
        at_least=0,
        at_most=2**31 - 1,
        why="environments and generators take seeds of 31 bits",
    )

    train_for_env_steps: int = flag(
        NO_LIMIT,
        "stop after this many environment frames (frame skip included)",
        at_least=0,
        default_text="no limit",
    )
    train_for_seconds: float = flag(
        float(NO_LIMIT),
        "stop after this much training time (s), which counts from the first frame",
        at_least=0,
        default_text="no limit",
    )
    benchmark: bool = flag(False, "measure speed only: nothing is saved and no summaries are written")

    save_every_sec: float = flag(120, "time between two checkpoints (s)", above=0, why=_SECONDS)
    keep_checkpoints: int = flag(
        3,
        "number of newest checkpoints to keep",
        at_least=1,
        why="a resumed training needs at least one checkpoint",
    )
    save_milestones_sec: float = flag(-1, "time between two checkpoints that are kept for ever (s); -1: none")
    save_best_every_sec: float = flag(
        5, "shortest time between two saves of the best policy (s)", above=0, why=_SECONDS
    )
    save_best_metric: str = flag(
        "reward",
        "metric that decides which policy is the best: reward, true_reward or any statistic of the episodes",
    )
    save_best_after: int = flag(100_000, "environment frames before the first save of the best policy", at_least=0)
    load_checkpoint_kind: Literal["latest", "best"] = flag(
        "latest", "checkpoint to start from when resuming or watching: the latest or the best one"
    )

    stats_avg: int = flag(
        100,
        "episodes in the window over which rewards and other statistics are averaged",
        at_least=1,
        why="an average needs at least one episode",
    )
    experiment_summaries_interval: float = flag(
        20,
        "time between two writes of the summaries (s); they are written after every hundredth of a training, too",
        above=0,
        why=_SECONDS,
    )
    status_interval: float = flag(5, "time between two status lines in the log (s)", above=0, why=_SECONDS)

    @property
    def experiment_dir(self) -> Path:
        """``<train_dir>[/<experiments_root>]/<experiment>``."""
        root = Path(self.train_dir).expanduser()
        return (root / self.experiments_root if self.experiments_root else root) / self.experiment

    @property
    def env_steps_limit(self) -> int | None:
        """`train_for_env_steps`, or None where it sets no limit."""
        return self.train_for_env_steps if self.train_for_env_steps < NO_LIMIT else None

    @property
    def seconds_limit(self) -> float | None:
        """`train_for_seconds`, or None where it sets no limit."""
        return self.train_for_seconds if self.train_for_seconds < NO_LIMIT else None
