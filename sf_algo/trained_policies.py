"""Trained policies: `python -m sf_algo.trained_policies`, and `... play doom_basic`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sf_algo.config.entry import CommandParser, with_one_line_faults
from sf_algo.errors import CheckpointError

if TYPE_CHECKING:
    from sf_algo.watching.evaluation import EpisodeResult


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m sf_algo.trained_policies",
        description="Lists, plays, fetches and makes trained policies. Without an action they are listed.",
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("list", help="every policy at hand (the default)")
    named = (
        ("show", "its card: how it was made and how well it plays"),
        ("play", "in a window, or into a GIF where there is no display"),
        ("publish", "to the Hugging Face hub"),
    )
    made = {name: actions.add_parser(name, help=text, allow_abbrev=False) for name, text in named}
    for one in made.values():
        one.add_argument("name", metavar="NAME", help="of a policy at hand, or its folder")
    made["play"].add_argument("--episodes", type=int, metavar="N", help="default: 3; into a GIF: 1")
    made["play"].add_argument("--gif", metavar="FILE", help="a GIF in place of a window (default without display)")
    made["play"].add_argument("--no_picture", action="store_true", help="play for the score alone")
    made["play"].add_argument("--seed", type=int, default=0, metavar="N")
    _add_deterministic(made["play"])
    made["publish"].add_argument("--repository", required=True, metavar="OWNER/NAME")
    made["publish"].add_argument("--private", action="store_true")
    _add_fetch(actions.add_parser("fetch", help="from the Hugging Face hub", allow_abbrev=False))
    _add_add(actions.add_parser("add", help="make one of an experiment", allow_abbrev=False))
    return parser


def _add_deterministic(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--deterministic", action="store_true", help="most probable actions instead of drawn ones")


def _add_fetch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("repository", metavar="OWNER/NAME")
    parser.add_argument("--revision", metavar="NAME", help="branch, tag or commit")
    parser.add_argument("--name", help="what to call it here (default: as there)")
    parser.add_argument("--trust", action="store_true", help="take one that imports code by name, too")


def _add_add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--experiment", required=True, metavar="FOLDER", help="the experiment's folder")
    parser.add_argument("--name", required=True, help="what to call it")
    parser.add_argument("--to", metavar="DIR", help="folder of policies (default: the user's own)")
    parser.add_argument("--about", default="", metavar="TEXT", help="one sentence for its card")
    parser.add_argument("--command", default="", metavar="TEXT", help="the command that trained it, for its card")
    parser.add_argument("--episodes", type=int, default=100, metavar="N", help="to play for its score (default: 100)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of these episodes")
    parser.add_argument("--load_checkpoint_kind", default="latest", choices=("latest", "best"))
    _add_deterministic(parser)


def _list(options: argparse.Namespace) -> int:
    from sf_algo.gallery.card import summary_rows
    from sf_algo.gallery.shelf import cards

    rows = [["name", "environment", "frames", "score, 95 % interval", "of", "parameters"], *summary_rows(cards())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print("\npython -m sf_algo.trained_policies play NAME")
    return 0


def _show(options: argparse.Namespace) -> int:
    from sf_algo.gallery.card import PICTURE, Card
    from sf_algo.gallery.shelf import find

    folder = find(options.name)
    card = Card.load(folder)
    card.check(folder)
    print(card.text())
    if (folder / PICTURE).exists():
        print(f"  an episode: {folder / PICTURE}")
    return 0


def _play(options: argparse.Namespace) -> int:
    from sf_algo.gallery.animation import Animation
    from sf_algo.gallery.card import Card, Score
    from sf_algo.gallery.playing import Picture, has_display, play
    from sf_algo.gallery.shelf import find

    folder = find(options.name)
    card = Card.load(folder)
    card.check(folder)
    picture: Picture = "none" if options.no_picture else "window" if has_display() and not options.gif else "frames"
    path = Path(options.gif or f"{folder.name}.gif")
    if picture == "frames" and path.suffix != ".gif":
        raise CheckpointError(f"--gif={path} must end in .gif")
    animation = Animation(frame_s=_frame_seconds(folder)) if picture == "frames" else None

    def tell(result: EpisodeResult) -> None:
        metrics = result.metrics()
        print(f"episode {result.episode}: {metrics['true_reward']:.4g}, {result.num_frames} frames", flush=True)

    played = play(
        folder,
        picture=picture,
        episodes=options.episodes or (1 if picture == "frames" else 3),
        seed=options.seed,
        deterministic=options.deterministic,
        tell=tell,
        animation=animation,
    )
    values = [result.metrics()["true_reward"] for result in played.results]
    if len(values) > 1:
        print(f"mean {Score.of(values, metric='', seed=options.seed, deterministic=options.deterministic)}")
    print(f"its card says {card.score} over {card.score.episodes} episodes")
    if animation is not None and len(animation):
        animation.write(path)
        print(f"no display: the episode is in {path}" if not options.gif else f"written to {path}")
    return played.exit_code


def _frame_seconds(folder: Path) -> float:
    """How long a step lasts for people (s)."""
    from sf_algo.gallery.playing import invocation_of

    config = invocation_of(folder, picture="none", deterministic=False).config
    return (config.env.env_frameskip or 1) / (config.evaluation.fps or 30)


def _publish(options: argparse.Namespace) -> int:
    from sf_algo.gallery.hub import publish
    from sf_algo.gallery.shelf import find

    print(publish(find(options.name), options.repository, private=options.private))
    return 0


def _fetch(options: argparse.Namespace) -> int:
    from sf_algo.gallery.hub import fetch

    folder = fetch(options.repository, revision=options.revision, name=options.name, trust=options.trust)
    print(f"{folder.name} is in {folder}: python -m sf_algo.trained_policies play {folder.name}")
    return 0


def _add(options: argparse.Namespace) -> int:
    from sf_algo.gallery.making import make_policy
    from sf_algo.gallery.shelf import own_folder

    target = (Path(options.to) if options.to else own_folder()) / options.name
    card = make_policy(
        Path(options.experiment).expanduser(),
        target,
        about=options.about,
        command=options.command,
        episodes=options.episodes,
        seed=options.seed,
        deterministic=options.deterministic,
        kind=options.load_checkpoint_kind,
    )
    print(card.text())
    print(f"written to {target}")
    return 0


_ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": _list,
    "show": _show,
    "play": _play,
    "publish": _publish,
    "fetch": _fetch,
    "add": _add,
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; `argv` without the program's name, by default the process's. Returns the exit code."""

    def run() -> int:
        options = _parser().parse_args(sys.argv[1:] if argv is None else argv)
        return _ACTIONS[options.action or "list"](options)

    return with_one_line_faults(run)


if __name__ == "__main__":
    sys.exit(main())
