"""`python -m sf_runner.tb '*mask*' ...`: tensorboard on exactly the runs and experiments that masks select."""

from __future__ import annotations

import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sf_runner.basics.errors import UsageError
from sf_runner.board.find import FoundExperiment, Scan, nearest, normalize, scan, unmatched
from sf_runner.board.find import select as select_experiments
from sf_runner.board.link_tree import LinkChange, LinkTree, Workspace, sweep
from sf_runner.board.server import ServerOptions, Tensorboard, forwarding_hint
from sf_runner.cli.errors import run_command
from sf_runner.cli.parser import Parser, duration_s, whole
from sf_runner.linux.signals import SignalInbox

_LISTED = 30
_SCAN_AT_MOST_EVERY_S = 10.0
_SCAN_COST_SHARE = 20
"""Looking for new experiments takes at most a 20th of the time, however slow the file system."""
_CHECK_S = 1.0

_EPILOG = """\
A mask is a name, a path or a wildcard for a run, an experiment or any folder above one, e.g. 'doom_study',
'*doom*', 'doom_study/*see_0*'. Quote it, or the shell replaces it. Experiments that appear later are shown too.
Arguments after -- go to tensorboard as they are. Ends with Ctrl-C.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; `argv` without the program's name, by default the process's. Returns the exit code."""
    return run_command(_tb, argv)


def _parser() -> Parser:
    what = "Tensorboard on exactly the runs and experiments that wildcards select."
    parser = Parser("sf_runner.tb", "[MASK...]", what, _EPILOG)
    parser.add_argument("masks", metavar="MASK", nargs="*", help="what to show (default: everything)")
    parser.add_argument("--dir", default="./train_dir", help="where to look, at any depth (default: ./train_dir)")
    parser.flag(parser, "--port", whole(0), "0: any free one (default: 6006)", default=6006, metavar="PORT")
    parser.add_argument("--host", help="address to serve on (default: this machine only)")
    parser.switch(parser, "--bind_all", "serve on all addresses, for browsers on other machines")
    text = "time between two looks for new data (default: 60)"
    parser.flag(parser, "--reload_interval", whole(0), text, default=60, metavar="SECONDS")
    text = "start tensorboard anew at this interval, e.g. 12h, should it grow too big (default: never)"
    parser.flag(parser, "--refresh_every", duration_s, text, metavar="TIME")
    parser.add_argument(
        "--load_fast", default="auto", choices=("auto", "true", "false"), help="tensorboard's data loader"
    )
    parser.switch(parser, "--list", "list everything the masks select, and end")
    parser.switch(parser, "--quiet", "print the address and errors only")
    return parser


def _tb(argv: Sequence[str]) -> int:
    ours, more = (list(argv), [])
    if "--" in ours:
        more = ours[ours.index("--") + 1 :]
        ours = ours[: ours.index("--")]
    options = _parser().parse_strictly(ours)
    root = Path(options.dir)
    masks = [normalize(mask, root) for mask in options.masks] or ["*"]
    found = scan(root)
    chosen = select_experiments(found, masks)
    for line in _missing(found, masks):
        print(line, file=sys.stderr)
    if not options.quiet or options.list:
        print("\n".join(listing(chosen, root, everything=options.list)), flush=True)
    if options.list:
        return 0
    sweep()
    server_options = ServerOptions(
        port=options.port,
        host=options.host,
        bind_all=options.bind_all,
        reload_interval_s=options.reload_interval,
        load_fast=options.load_fast,
        more=tuple(more),
    )
    with SignalInbox() as signals, Workspace() as workspace:
        tree = LinkTree(workspace.runs, root)
        tree.sync(chosen)
        with Tensorboard(server_options, workspace) as tensorboard:
            session = _Session(options=options, masks=masks, tree=tree, tensorboard=tensorboard, signals=signals)
            return session.serve()


def _missing(found: Scan, masks: Sequence[str]) -> Iterator[str]:
    """A line per mask that selects nothing, when others do; UsageError when none does."""
    missing = unmatched(found, masks)
    if found.folders and len(missing) < len(masks):
        yield from (f"warning: '{mask}' matches nothing under {found.root}.{nearest(found, mask)}" for mask in missing)
    elif found.root_has_events:
        raise UsageError(f"--dir={found.root} is itself an experiment; give the folder above it")
    elif not found.folders:
        raise UsageError(
            f"no experiments under --dir={found.root}; they are folders with .summary or tensorboard's event files"
        )
    else:
        raise UsageError(f"nothing under --dir={found.root} matches {_quoted(masks)}.{nearest(found, missing[0])}")


def _quoted(masks: Sequence[str]) -> str:
    return ", ".join(f"'{mask}'" for mask in masks)


def listing(chosen: Sequence[FoundExperiment], root: Path, *, everything: bool) -> list[str]:
    """What is shown: per run the number of experiments, and their names while they are few."""
    runs: dict[str, list[FoundExperiment]] = {}
    for experiment in chosen:
        runs.setdefault(experiment.run, []).append(experiment)
    number = f"{len(chosen)} experiment{'s' * (len(chosen) != 1)} of {len(runs)} run{'s' * (len(runs) != 1)}"
    lines = [f"{number} under {root}:" if chosen else f"no experiments yet under {root}; they are shown as they come"]
    for run, experiments in runs.items():
        lines.append(f"  {run}: {len(experiments)}")
        if everything or len(chosen) <= _LISTED:
            lines.extend(f"    {e.path[len(run) + 1 :] or '.'}{_no_data(e)}" for e in experiments)
    silent = sum(not experiment.event_dirs for experiment in chosen)
    if silent and not everything and len(chosen) > _LISTED:
        lines.append(f"  {silent} of them have no summaries yet; they are shown as soon as they do")
    return lines


def _no_data(experiment: FoundExperiment) -> str:
    return "" if experiment.event_dirs else "  (no summaries yet)"


@dataclass(kw_only=True)
class _Session:
    """Serves until a signal comes or tensorboard ends."""

    options: Any
    masks: Sequence[str]
    tree: LinkTree
    tensorboard: Tensorboard
    signals: SignalInbox
    told_url: str | None = None

    def serve(self) -> int:
        """The exit code: 0 after Ctrl-C, 128 + signal after another one. BackendError when tensorboard ends."""
        restart_at = self._restart_at()
        scan_at = time.monotonic() + self._scan_interval(0.0)
        while True:
            wait_s = min(scan_at, restart_at, time.monotonic() + _CHECK_S) - time.monotonic()
            output = [] if self.tensorboard.at_eof else [self.tensorboard.fd]
            select.select([self.signals.fd, *output], [], [], max(wait_s, 0.0))
            for signum in self.signals.take():
                return 0 if signum == signal.SIGINT else 128 + signum
            for line in self.tensorboard.read():
                if not self.options.quiet:
                    print(line, file=sys.stderr, flush=True)
            self._tell_url()
            if self.tensorboard.has_ended:
                raise self.tensorboard.failure()
            if time.monotonic() >= scan_at:
                scan_at = time.monotonic() + self._scan_interval(self._look_again())
            if time.monotonic() >= restart_at:
                self.tensorboard.stop()
                self.tensorboard.start()
                restart_at = self._restart_at()

    def _restart_at(self) -> float:
        return time.monotonic() + (self.options.refresh_every or float("inf"))

    def _scan_interval(self, last_scan_s: float) -> float:
        wanted = min(max(self.options.reload_interval, 1), _SCAN_AT_MOST_EVERY_S)
        return float(max(wanted, _SCAN_COST_SHARE * last_scan_s))

    def _look_again(self) -> float:
        """Show experiments that are new; how long looking took, in seconds."""
        begin = time.monotonic()
        try:
            found = scan(Path(self.options.dir))
        except UsageError:  # the directory is away for a moment: what is shown stays
            return time.monotonic() - begin
        change = self.tree.sync(select_experiments(found, self.masks))
        if not self.options.quiet:
            _print_change(change)
        return time.monotonic() - begin

    def _tell_url(self) -> None:
        url = self.tensorboard.url
        if url is None or url == self.told_url:
            return
        self.told_url = url
        print(f"tensorboard: {url}   (Ctrl-C ends it)", flush=True)
        hint = forwarding_hint(url)
        if hint is not None and not self.options.quiet:
            print(hint, flush=True)


def _print_change(change: LinkChange) -> None:
    for sign, names in (("+", change.added), ("-", change.removed)):
        for name in names[:_LISTED]:
            print(f"{sign} {name}", flush=True)
        if len(names) > _LISTED:
            print(f"{sign} and {len(names) - _LISTED} more", flush=True)


if __name__ == "__main__":
    sys.exit(main())
