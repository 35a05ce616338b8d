"""Engines of VizDoom seen from outside: which they are, and what of theirs lies in /dev/shm."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from sf_algo.envs.doom import shm
from sf_algo.envs.doom.watch import instance_of


def children_of(pid: int) -> list[int]:
    """Processes that it has started and that are still there."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, path.read_text().split())
    return found


def instances_of(pids: Iterable[int]) -> set[str]:
    """The names by which vizdoom tells the engines among these processes apart."""
    return {instance for pid in pids if (instance := instance_of(pid))}


def segments_left_by(instances: Iterable[str]) -> list[Path]:
    """Shared memory of these engines that still has a name."""
    return [path for instance in instances for path in shm.segments_of(instance)]
