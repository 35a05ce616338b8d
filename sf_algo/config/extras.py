"""Sections for what surrounds a training: populations, Weights & Biases, watching, the dummy sampler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sf_algo.config.flag import flag
from sf_algo.config.limits import NO_LIMIT


@dataclass(frozen=True, kw_only=True)
class PbtConfig:
    """Population-based training (Jaderberg et al. 2017)."""

    with_pbt: bool = flag(
        False,
        "population-based training over num_policies policies: the worst take over what the best have learned, and all "
        "but the best change their hyperparameters",
    )
    pbt_period_env_steps: int = flag(
        5_000_000,
        "frames between two turns of a policy: those that the policies are trained on, on average",
        at_least=1,
        why="between two turns something must have been learned",
    )
    pbt_start_mutation: int = flag(20_000_000, "frames before the first turn, counted in the same way", at_least=0)
    pbt_replace_fraction: float = flag(
        0.3,
        "share of the population that takes over from the best, and share that counts as the best; 0: nobody takes "
        "over, hyperparameters only mutate",
        at_least=0,
        at_most=1,
        why="it is a fraction",
    )
    pbt_mutation_rate: float = flag(
        0.15,
        "probability that a hyperparameter changes in a turn",
        at_least=0,
        at_most=1,
        why="it is a probability",
    )
    pbt_replace_reward_gap: float = flag(
        0.1,
        "a policy takes over from another only where that one's objective is better by more than this share of it",
        at_least=0,
        why="nobody takes over from somebody worse",
    )
    pbt_replace_reward_gap_absolute: float = flag(
        1e-6,
        "... and better by more than this",
        at_least=0,
        why="nobody takes over from somebody worse",
    )
    pbt_optimize_batch_size: bool = flag(
        False, "batch_size mutates, too: an iteration's experience stays what it is, the minibatches of it change"
    )
    pbt_optimize_gamma: bool = flag(False, "gamma mutates, too: 1 - gamma times or divided by 1.01 to 1.2")
    pbt_target_objective: str = flag(
        "true_reward",
        "what policies are ranked by, more is better: true_reward, reward, win_rate or rating (matches of several "
        "policies) or any statistic of the episodes, averaged over stats_avg episodes",
    )
    pbt_perturb_min: float = flag(
        1.05, "a mutation multiplies or divides by at least this", above=1, why="a factor of 1 changes nothing"
    )
    pbt_perturb_max: float = flag(
        1.5, "a mutation multiplies or divides by at most this", above=1, why="a factor of 1 changes nothing"
    )
    per_policy: tuple[str, ...] = flag(
        (),
        "hyperparameters in which policies differ from the start, with or without with_pbt: name:first..last (spread "
        "evenly on a logarithmic scale, policy 0 has the first) or name:v0/v1/... (one for each), separated by blanks; "
        "reward shaping as shaping/<name>",
    )


@dataclass(frozen=True, kw_only=True)
class WandbConfig:
    """Weights & Biases."""

    with_wandb: bool = flag(False, "send the summaries to Weights & Biases as well")
    wandb_user: str | None = flag(None, "user or team (entity); None: your default one")
    wandb_project: str = flag("sample_factory", "project")
    wandb_group: str | None = flag(None, "group of experiments; None: the environment's name")
    wandb_job_type: str = flag("SF", "job type")
    wandb_tags: tuple[str, ...] = flag((), "tags, separated by blanks")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Watching or evaluating a trained policy."""

    fps: int = flag(
        0,
        "frames per second on the screen; 0: as fast as possible (Doom: asynchronous; 35 is its pace)",
        at_least=0,
    )
    render_action_repeat: int | None = flag(
        None, "frames shown per action instead of env_frameskip", aliases=("eval_env_frameskip",), at_least=1
    )
    no_render: bool = flag(False, "do not open a window")
    policy_index: int = flag(0, "which of num_policies to watch", at_least=0)
    policies: tuple[str, ...] = flag(
        (),
        "policies that play against each other in an environment of several agents, separated by commas: numbers of "
        "this experiment's policies, folders of other experiments (folder:N for their policy N) or checkpoint files",
    )
    record_to: str | None = flag(None, "folder for the environment's own recordings (Doom: .lmp demos)")
    save_video: bool = flag(False, "write an mp4 into the experiment's folder")
    video_frames: int = flag(NO_LIMIT, "most frames in the video", at_least=1, default_text="no limit")
    video_name: str | None = flag(None, "file name of the video; None: replay.mp4")
    max_num_frames: int = flag(NO_LIMIT, "stop after this many frames", at_least=1, default_text="no limit")
    max_num_episodes: int = flag(NO_LIMIT, "stop after this many episodes", at_least=1, default_text="no limit")
    eval_deterministic: bool = flag(False, "take the most probable action instead of drawing one")
    continuous_actions_sample: bool = flag(True, "draw continuous actions; False: take their mean")


@dataclass(frozen=True, kw_only=True)
class LeagueConfig:
    """Games between all checkpoints of an experiment (`python -m sf_algo.league`)."""

    league_games: int = flag(
        20, "games of each pair of checkpoints; those of an earlier start count", at_least=1, why="a pair has to meet"
    )
    league_checkpoints: Literal["all", "milestones", "newest"] = flag(
        "all", "who plays: all checkpoints of all policies, the milestones, or the newest one of every policy"
    )
    league_all_pairs: bool = flag(
        False, "everybody meets everybody; otherwise, of more than 12 checkpoints, each meets some"
    )


@dataclass(frozen=True, kw_only=True)
class DummySamplerConfig:
    """The speed test that only steps environments with random actions."""

    sample_env_frames: int | None = flag(None, "stop after this many frames over all workers", at_least=1)
    sample_env_frames_per_worker: int | None = flag(None, "stop each worker after this many frames", at_least=1)
    timeout_seconds: float | None = flag(None, "stop after this time (s)", above=0)


@dataclass(frozen=True, kw_only=True)
class SpeedConfig:
    """Questions about speed; asked for one start at a time, so never stored."""

    profile: bool = flag(False, "at the end, tell where the time of a frame went, process by process")
    tune: bool = flag(
        False,
        "do not train, but try for about a minute how this training is best spread over this machine, and print "
        "the flags of the fastest way",
    )
