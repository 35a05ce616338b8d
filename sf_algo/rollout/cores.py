"""Which cores a worker runs on. What it starts (a game engine) inherits them, and runs beside it."""

from __future__ import annotations

import os


def worker_cores(worker: int, num_workers: int) -> tuple[int, ...]:
    """The cores of a worker: an even share of ours, or one of them where workers outnumber cores."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    cores = sorted(os.sched_getaffinity(0))
    if num_workers >= len(cores):
        return (cores[worker % len(cores)],)
    share = len(cores) // num_workers
    return tuple(cores[worker * share : (worker + 1) * share])
