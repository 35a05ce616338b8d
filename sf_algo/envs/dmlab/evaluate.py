"""Scores of a trained policy on the held-out levels of DMLab-30:
`python -m sf_algo.envs.dmlab.evaluate --experiment=NAME`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sf_algo.cpus import usable_cpus
from sf_algo.envs.dmlab.arguments import positive

_COMMAND = "python -m sf_algo.envs.dmlab.evaluate"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0, 1 where episodes were lost, 130 when interrupted."""
    options = parser().parse_args(argv)
    from sf_algo.watching.level_scores import main as evaluate  # the command stands here, its body needs torch

    return evaluate(options)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=_COMMAND, description=(__doc__ or "").split(":")[0])
    made.add_argument("--experiment", required=True, help="its folder below --train_dir")
    made.add_argument("--train_dir", default="train_dir", help="(%(default)s)")
    made.add_argument("--env", default="dmlab_30", help="whose levels (%(default)s)")
    made.add_argument("--episodes", type=positive, default=10, help="of every level (%(default)s)")
    made.add_argument("--processes", type=positive, default=usable_cpus(), help="engines at once (%(default)s)")
    made.add_argument("--policy_index", type=int, default=0, help="which of --num_policies (%(default)s)")
    made.add_argument("--load_checkpoint_kind", choices=("latest", "best"), default="latest", help="(%(default)s)")
    made.add_argument("--seed", type=int, default=0, help="of the episodes and drawn actions (%(default)s)")
    made.add_argument("--eval_deterministic", action="store_true", help="take the most probable actions")
    made.add_argument("--training_levels", action="store_true", help="the levels that are trained on")
    made.add_argument("--dmlab30_dataset", help="instead of the training's")
    made.add_argument("--dmlab_level_cache_path", help="instead of the training's")
    return made


if __name__ == "__main__":
    sys.exit(main())
