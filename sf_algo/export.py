"""Writes a trained policy as ONNX, for programs without torch:
`python -m sf_algo.export --experiment=first`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sf_algo.config.entry import CommandParser, with_one_line_faults
from sf_algo.errors import CheckpointError, StorageError


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m sf_algo.export",
        description="Writes a trained policy as one ONNX file and checks it against the policy. Flags of the training "
        "(--env_frameskip=1) change what is stored with the experiment.",
        allow_abbrev=False,
    )
    parser.add_argument("--experiment", required=True, metavar="NAME", help="name or folder of the experiment")
    parser.add_argument("--train_dir", default="./train_dir", metavar="DIR", help="where experiments are")
    parser.add_argument("--output", metavar="FILE", help="default: policy.onnx in the experiment's folder")
    parser.add_argument("--policy_index", type=int, default=0, metavar="N", help="which of several policies")
    parser.add_argument("--load_checkpoint_kind", default="latest", choices=("latest", "best"))
    parser.add_argument(
        "--check_steps", type=int, default=1000, metavar="N", help="steps of the environment to compare; 0: none"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the steps to compare")
    return parser


def export(argv: Sequence[str]) -> int:
    """The command's body; returns the exit code.

    Raises:
        SfAlgoError: no such policy, a missing package, a network that ONNX does not know, or an exported policy that
            acts otherwise.
    """
    options, flags = _parser().parse_known_args(argv)
    import torch

    from sf_algo.exporting.check import compare
    from sf_algo.exporting.form import PolicyForm
    from sf_algo.exporting.onnx_file import export_onnx
    from sf_algo.watching.load_policy import load_policy

    torch.set_num_threads(1)
    folder = Path(options.experiment)
    if not (folder / "cfg.json").exists():
        folder = Path(options.train_dir) / options.experiment
    policy = load_policy(
        folder, kind=options.load_checkpoint_kind, policy=options.policy_index, seed=options.seed, flags=flags
    )
    form = PolicyForm(spec=policy.spec, state_size=policy.model.rnn_state_size)
    path = Path(options.output) if options.output else folder / "policy.onnx"
    _check_folder(path)
    env_name = policy.config.run.env
    export_onnx(policy.model, form, path, env=env_name, env_steps=policy.env_steps, frameskip=policy.spec.frameskip)
    print(f"{policy.path.name} of {env_name} ({policy.env_steps:,} frames) written to {path}", flush=True)
    if options.check_steps > 0:
        env = policy.make_env()
        try:
            found = compare(path, form, policy.model, env, steps=options.check_steps, seed=options.seed)
        finally:
            env.close()
        print(f"checked against the policy: {found}")
        if not found.is_same:
            raise CheckpointError(f"{path} does not act as the policy does; please report this with its cfg.json")
    return 0


def _check_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; choose another --output") from error


def main(argv: Sequence[str] | None = None) -> int:
    """The command; `argv` without the program's name, by default the process's. Returns the exit code."""
    return with_one_line_faults(lambda: export(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    sys.exit(main())
