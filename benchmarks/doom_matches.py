"""CPU time of Doom environments with bots and of matches, beside Sample Factory 2.1.1, in turns.

    python benchmarks/doom_matches.py --env=doom_duel --steps=200 --pairs=3 --peer_python=/path/to/venv/bin/python

Random actions in one environment. CPU time is that of all processes together, so it may be measured on a busy machine;
frames are those of all agents.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_FRAMESKIP = 4
_LIMIT_S = 300


def tree(pid: int) -> list[int]:
    """A process and all that it has started."""
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            found += tree(int(child))
    return found


def cpu_s() -> float:
    """CPU time so far of this process and all that it has started and that live."""
    total = 0
    for pid in set(tree(os.getpid())):
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(words[11]) + int(words[12])
    return total / _TICKS_PER_S


def ours(name: str) -> tuple[int, Callable[[], Any], Callable[[], None]]:
    """Number of agents, a step, how to end."""
    import numpy as np

    from sf_algo.envs.factory import EnvSections, make_env

    env = make_env(name, EnvSections())
    rows, rng = env.spec.empty_rows(), np.random.default_rng(0)
    env.reset(rows, seed=1)
    return env.spec.num_agents, lambda: env.step(env.spec.sample_actions(rng, rows), rows), env.close


def peer(name: str) -> tuple[int, Callable[[], Any], Callable[[], None]]:
    """The same, in an interpreter that has Sample Factory 2.1.1."""
    from sample_factory.utils.attr_dict import AttrDict  # type: ignore[import-not-found]
    from sf_examples.vizdoom.doom.doom_utils import make_doom_env  # type: ignore[import-not-found]

    flags = {"env_frameskip": _FRAMESKIP, "num_agents": -1, "num_humans": 0, "num_bots": -1, "fps": 35, "res_w": 128}
    flags |= {"start_bot_difficulty": None, "timelimit": None, "res_h": 72, "wide_aspect_ratio": False}
    flags |= {"eval_env_frameskip": 1, "record_to": None, "env_framestack": 1, "pixel_format": "CHW"}
    env = make_doom_env(name, AttrDict(**flags), AttrDict(worker_index=0, vector_index=0, env_id=0))
    env.reset()
    agents = getattr(env, "num_agents", 1)

    def step() -> Any:
        actions = [env.action_space.sample() for _ in range(agents)]
        return env.step(actions if agents > 1 else actions[0])

    return agents, step, env.close


def measure(side: str, name: str, steps: int) -> str:
    """One line of figures."""
    agents, step, close = (ours if side == "ours" else peer)(name)
    cpu, began = cpu_s(), time.monotonic()
    for _ in range(steps):
        step()
    lasted, cpu = time.monotonic() - began, cpu_s() - cpu
    frames = steps * agents * _FRAMESKIP
    line = f"{side:5} {name}: {frames / cpu:,.0f} frames per CPU second, {frames / lasted:,.0f} per second"
    print(line, flush=True)
    close()
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--env", default="doom_duel")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument(
        "--peer_python", help="interpreter with sample-factory==2.1.1, vizdoom and opencv; none: ours only"
    )
    parser.add_argument("--side", choices=["ours", "peer"], help="measure this one here and now")
    options = parser.parse_args()
    if options.side:
        measure(options.side, options.env, options.steps)
        os._exit(0)  # the peer's processes do not always end
    sides = {"ours": sys.executable, **({"peer": options.peer_python} if options.peer_python else {})}
    for _ in range(options.pairs):
        for side, python in sides.items():
            command = [python, __file__, f"--side={side}", f"--env={options.env}", f"--steps={options.steps}"]
            try:
                ended = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
            except subprocess.TimeoutExpired:
                print(f"{side:5} {options.env}: not done within {_LIMIT_S} s", flush=True)
                continue
            lines = [line for line in ended.stdout.splitlines() if line.startswith(side)]
            print(lines[0] if lines else f"{side:5} failed: {ended.stderr.strip()[-200:]}", flush=True)


if __name__ == "__main__":
    main()
