"""Sections about environments: what every family shares, then VizDoom and DMLab."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sf_algo.config.flag import flag

_SCREEN = "a rendered frame has at least one pixel"


@dataclass(frozen=True, kw_only=True)
class EnvConfig:
    """What every environment family understands."""

    env_frameskip: int | None = flag(
        None,
        "frames per action; rewards of the skipped frames are summed. None: the environment's own",
        at_least=1,
        why="every action is shown for at least one frame",
    )
    env_framestack: int = flag(
        1, "frames stacked along the channels of an image", at_least=1, why="1 means no stacking"
    )
    step_fields: tuple[str, ...] = flag(
        (),
        "numbers that the environment's info has at every step and that losses of your own need (cost), or vectors "
        "with their length (forces:3)",
    )
    pixel_format: Literal["CHW", "HWC"] = flag(
        "CHW", "layout of images as the environment gives them; always stored as CHW"
    )


@dataclass(frozen=True, kw_only=True)
class DoomConfig:
    """VizDoom environments."""

    num_agents: int = flag(-1, "agents in one match; -1: the environment's own", at_least=-1)
    num_humans: int = flag(0, "human players that join the match when watching", at_least=0)
    num_bots: int = flag(-1, "built-in bots in one match; -1: the environment's own", at_least=-1)
    start_bot_difficulty: int | None = flag(
        None, "difficulty of the bots in the first match, 0 to 150", at_least=0, at_most=150
    )
    match_port: int | None = flag(
        None, "UDP port of a match that people join; None: any that is free", at_least=1024, at_most=65535
    )
    timelimit: float | None = flag(None, "length of a match in minutes; None: the environment's own", above=0)
    res_w: int = flag(128, "width of the observation in pixels", at_least=1, why=_SCREEN)
    res_h: int = flag(72, "height of the observation in pixels", at_least=1, why=_SCREEN)
    wide_aspect_ratio: bool = flag(False, "render 16:9 (256x144) instead of 4:3 (160x120) before resizing")
    doom_scenarios_dir: str | None = flag(None, "folder searched first for scenario files (.cfg and .wad)")


@dataclass(frozen=True, kw_only=True)
class DmlabConfig:
    """DeepMind Lab environments."""

    res_w: int = flag(96, "width of the observation in pixels", at_least=1, why=_SCREEN)
    res_h: int = flag(72, "height of the observation in pixels", at_least=1, why=_SCREEN)
    dmlab30_dataset: str = flag(
        "~/datasets/brady_konkle_oliva2008",
        "folder of the photographs that two levels show; dummy: colours in their place",
    )
    dmlab_renderer: Literal["software", "hardware"] = flag("software", "how frames are rendered")
    dmlab_gpus: tuple[int, ...] = flag((0,), "GPUs for hardware rendering")
    dmlab_with_instructions: bool | None = flag(
        None, "observe the level's instruction as words; None: where the level has them"
    )
    dmlab_extended_action_set: bool = flag(False, "15 discrete actions instead of 9")
    dmlab_use_level_cache: bool = flag(True, "reuse generated maps")
    dmlab_level_cache_path: str = flag("~/.dmlab_cache", "folder of the generated maps, shared by all that name it")
    dmlab_level_cache_max_gb: float | None = flag(
        None, "keep no more maps when the folder has grown to this size (GB, 10^9 bytes); None: no limit", above=0
    )
    dmlab_one_task_per_worker: bool = flag(False, "a worker plays one level only, with all its environments")
    dmlab_throughput_benchmark: bool = flag(False, "play for speed only: every episode has the same seed and map")
    dmlab_test_levels: bool = flag(
        False, "play as in an evaluation: the held-out levels, and episodes that no training sees"
    )


def parse_step_field(text: str) -> tuple[str, tuple[int, ...]]:
    """Name and shape of one of `EnvConfig.step_fields`: `cost` is a number, `forces:3` a vector. Raises ValueError."""
    name, has_size, size = text.partition(":")
    if not name.isidentifier():
        raise ValueError(f"{name!r} is no name of a field; write name, or name:length for a vector")
    if not has_size:
        return name, ()
    if not size.isdecimal() or int(size) < 1:
        raise ValueError("the length of a vector is a whole number of at least 1")
    return name, (int(size),)
