"""Sample Factory's own environments with random actions, for `sampler.py`; runs in a virtual environment of its own.

    python benchmarks/peer_sampler.py --env=doom_benchmark --num_workers=2 --num_envs=16 --pinned

One process per worker steps its environments in turn, as Sample Factory's rollout workers do, without anything else
that those do.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from typing import Any

_REPORT_S = 0.5


def work(index: int, frames: Any, options: argparse.Namespace) -> None:
    from sample_factory.envs.create_env import create_env
    from sample_factory.utils.attr_dict import AttrDict
    from sf_examples.vizdoom.train_vizdoom import parse_vizdoom_cfg, register_vizdoom_components

    if options.pinned:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[index % len(cores)]})
    register_vizdoom_components()
    cfg = parse_vizdoom_cfg([f"--env={options.env}", "--wide_aspect_ratio=False", f"--env_frameskip={options.skip}"])
    envs = []
    for number in range(options.num_envs):
        place = AttrDict(worker_index=index, vector_index=number, env_id=index * options.num_envs + number)
        env = create_env(options.env, cfg=cfg, env_config=place)
        env.reset(seed=place.env_id)
        envs.append(env)
    actions = [envs[0].action_space.sample() for _ in range(1024)]
    steps = 0
    while True:
        for env in envs:
            _, _, terminated, truncated, _ = env.step(actions[steps % len(actions)])
            if terminated or truncated:
                env.reset()
            steps += 1
        frames[index] = steps * options.skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", required=True)
    parser.add_argument("--num_workers", type=int, default=2)
    parser.add_argument("--num_envs", type=int, default=16, help="environments of a worker")
    parser.add_argument("--skip", type=int, default=4)
    parser.add_argument("--pinned", action="store_true", help="each worker, and its engines, on a core of its own")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    frames = context.Array("q", options.num_workers, lock=False)
    workers = [context.Process(target=work, args=(i, frames, options), daemon=True) for i in range(options.num_workers)]
    for worker in workers:
        worker.start()
    while all(worker.is_alive() for worker in workers):
        time.sleep(_REPORT_S)
        if all(frames):
            print(f"Total num frames: {sum(frames)}", flush=True)
    raise SystemExit("a worker has ended")


if __name__ == "__main__":
    main()
