"""Takes a picture of the real full-screen UI: starts a run on a pseudo-terminal and saves what it shows as SVG.

    python docs/images/tui_picture.py --after=20 --keys=jj -- --run=run_descriptions.example_grid

What follows `--` goes to `python -m sf_runner.run`. The run is ended when the picture is taken.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.runner.pty_run import Pty  # noqa: E402
from tests.runner.vt import Vt  # noqa: E402

THEME = TerminalTheme(
    (22, 24, 29), (208, 212, 220),
    [(50, 54, 64), (232, 98, 98), (126, 191, 106), (222, 182, 92),
     (97, 160, 230), (190, 132, 214), (86, 182, 194), (208, 212, 220)],
    [(98, 104, 118), (255, 128, 128), (152, 220, 130), (240, 205, 120),
     (130, 190, 255), (215, 160, 240), (110, 215, 225), (240, 244, 250)],
)  # fmt: skip


def ansi(vt: Vt) -> str:
    """The screen as text with escape codes."""
    rows = []
    for cells, styles in zip(vt.cells, vt.styles, strict=True):
        row, last = "", ""
        for cell, style in zip(cells, styles, strict=True):
            row += (f"\x1b[0m\x1b[{style}m" if style != last else "") + cell
            last = style
        rows.append(row + "\x1b[0m")
    return "\n".join(rows)


def svg(vt: Vt, title: str) -> str:
    """The screen as a picture."""
    console = Console(
        record=True,
        width=vt.columns,
        force_terminal=True,
        color_system="truecolor",
        file=io.StringIO(),
        legacy_windows=False,
    )
    for line in ansi(vt).split("\n"):
        console.print(Text.from_ansi(line), no_wrap=True, crop=True, overflow="crop")
    return console.export_svg(title=title, theme=THEME, unique_id="sf-runner-tui")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--after", type=float, default=20.0, help="seconds after which the picture is taken")
    parser.add_argument("--keys", default="", help="keys to press before")
    parser.add_argument("--columns", type=int, default=112)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "tui.svg")
    parser.add_argument("run", nargs="+", help="arguments of python -m sf_runner.run")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sf_runner.run", f"--train_dir={folder}/train_dir", "--grace=2", *args.run]
        with Pty(command, Path.cwd(), size=(args.columns, args.rows), keep_jobs=True) as term:
            deadline = time.monotonic() + args.after
            while time.monotonic() < deadline:
                term.read(0.1)
            term.send(args.keys)
            while term.read(0.8):
                pass
            args.out.write_text(svg(term.vt, "python -m sf_runner.run " + " ".join(args.run)), encoding="utf-8")
    print(args.out)


if __name__ == "__main__":
    main()
