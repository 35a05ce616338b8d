"""Flags of Sample Factory 2 that need no counterpart: old command lines go on working, and are told why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sf_algo.config.flag import flag


@dataclass(frozen=True, kw_only=True)
class AcceptedConfig:
    """Accepted for the sake of old command lines; all without effect."""

    optimizer: Literal["adam"] = flag("adam", "there is one; --adam_eps, --adam_beta1 and --adam_beta2 tune it")
    batched_sampling: bool = flag(
        False, "step as arrays; without effect", idle="environments that step as arrays are noticed"
    )
    env_gpu_actions: bool = flag(
        False, "give actions as GPU tensors; without effect", idle="environments get numpy arrays"
    )
    env_gpu_observations: bool = flag(
        True, "take observations as GPU tensors; without effect", idle="environments give numpy arrays"
    )
    shuffle_minibatches: bool = flag(
        False,
        "shuffle minibatches; without effect",
        idle="several minibatches are always shuffled",
    )
    summaries_use_frameskip: bool = flag(
        True,
        "count skipped frames in summaries; without effect",
        idle="frames are counted, skipped ones too",
    )
    flush_summaries_interval: int = flag(
        30, "seconds until summaries are on disk; without effect", idle="summaries are on disk when they are written"
    )
    heartbeat_reporting_interval: int = flag(
        180, "seconds between reports of hung processes; without effect", idle="--heartbeat_interval decides"
    )
    log_to_file: bool = flag(True, "write a log file; without effect", idle="sf_log.txt is always written")
    use_env_info_cache: bool = flag(
        False, "remember spaces on disk; without effect", idle="asking an environment for its spaces is cheap"
    )
    use_record_episode_statistics: bool = flag(
        False, "wrap environments to count episodes; without effect", idle="episodes are always counted"
    )
    train_script: str | None = flag(
        None, "for model cards; without effect", idle="this version does not publish to a hub"
    )
    enjoy_script: str | None = flag(
        None, "for model cards; without effect", idle="this version does not publish to a hub"
    )
    push_to_hub: bool = flag(False, "publish the policy; without effect", idle="this version does not publish to a hub")
    hf_repository: str | None = flag(
        None, "where to publish; without effect", idle="this version does not publish to a hub"
    )
