"""Frames per second and time to the first step: ours against Sample Factory 2.1.1 (and Stable-Baselines3), in turns.

    python benchmarks/throughput.py --workload=doom_benchmark --pairs=3 --json=doom.json
    python benchmarks/throughput.py --workload=cartpole --sides=ours,peer,sb3 --json=cartpole.json
    python benchmarks/throughput.py --workload=doom_benchmark --sides=peer --all_settings --pairs=1

The programs train one after the other, in turns, each with the whole machine, the same network, rollout, batch size,
epochs and precision, and each with the setting that measured best for it (`workloads.py` lists those tried;
--all_settings runs them all). A figure is the slope of frames over seconds after a warm-up; the table gives medians and
ratios of medians. Other programs live in virtual environments of their own, which are made and filled on first use.
With --append, earlier figures of the same file count as well, so that pairs can be measured one at a time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast, get_args

import programs
from workloads import WORKLOADS, Setting, Side, Workload, command


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One program once."""

    workload: str
    side: str
    setting: str
    frames_per_s: float
    first_step_s: float | None
    core_us_per_frame: float
    """Processor time of all its processes for one frame: hardly depends on what else the machine does."""
    other_cores: float
    """Cores kept busy by anything else on the machine, and by the host for other machines: 0 is a quiet machine."""
    stolen_cores: float
    date: str


def measure(side: Side, load: Workload, setting: Setting, python: Path, *, warm_up_s: float, seconds: float) -> Figure:
    words = command(side, load, setting, python, seconds=10 * (warm_up_s + seconds) + 300)
    with programs.started(words, env=dict(setting.env)) as running:
        conditions = running.run_for(warm_up_s=warm_up_s, seconds=seconds)
        fps, first = running.frames_per_s(warm_up_s), running.first_step_s
    return Figure(
        workload=load.name,
        side=side,
        setting=setting.name,
        frames_per_s=fps,
        first_step_s=first,
        core_us_per_frame=1e6 * conditions.own_cores / fps,
        other_cores=conditions.other_cores,
        stolen_cores=conditions.stolen_cores,
        date=time.strftime("%Y-%m-%d %H:%M"),
    )


def table(figures: Sequence[Figure]) -> str:
    """Medians by side and setting; the ratio compares with the best setting of each other side."""
    groups: dict[tuple[str, str, str], list[Figure]] = {}
    for figure in figures:
        groups.setdefault((figure.workload, figure.side, figure.setting), []).append(figure)
    speed = {key: statistics.median(f.frames_per_s for f in found) for key, found in groups.items()}
    lines = [
        "| workload | program | setting | runs | frames/s (median) | spread | core us/frame | first step, s | "
        "disturbed, cores | ours / this |"
    ]
    lines.append("|" + " --- |" * 10)
    for key, found in groups.items():
        values = [f.frames_per_s for f in found]
        firsts = [f.first_step_s for f in found if f.first_step_s is not None]
        ours = max((s for k, s in speed.items() if k[0] == key[0] and k[1] == "ours"), default=None)
        cells = [*key, str(len(found)), f"{speed[key]:,.0f}", f"{min(values):,.0f} to {max(values):,.0f}"]
        cells.append(f"{statistics.median(f.core_us_per_frame for f in found):,.1f}")
        cells.append(f"{statistics.median(firsts):.2f}" if firsts else "-")
        cells.append(f"{statistics.median(f.other_cores + f.stolen_cores for f in found):.2f}")
        cells.append(f"{ours / speed[key]:.2f}" if ours else "-")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def pythons(sides: Sequence[Side], options: argparse.Namespace) -> dict[Side, Path]:
    found: dict[Side, Path] = {"ours": Path()}
    if "peer" in sides:
        found["peer"] = programs.prepare_venv(options.peer_venv, programs.PEER_PACKAGES)
    if "sb3" in sides:
        found["sb3"] = programs.prepare_venv(options.sb3_venv, programs.SB3_PACKAGES)
    return found


def load_figures(path: Path | None) -> list[Figure]:
    if path is None or not path.exists():
        return []
    return [Figure(**figure) for figure in json.loads(path.read_text())["figures"]]


def parse() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--workload", choices=sorted(WORKLOADS), required=True)
    parser.add_argument("--sides", default="ours,peer", help="which programs, in which order (ours, peer, sb3)")
    parser.add_argument("--pairs", type=int, default=3, help="turns of every program")
    parser.add_argument("--seconds", type=float, default=35.0, help="measured time of a turn")
    parser.add_argument("--warm_up", type=float, default=8.0, help="time before it that does not count (s)")
    parser.add_argument("--all_settings", action="store_true", help="every known setting, not only the best")
    parser.add_argument("--peer_venv", type=Path, default=programs.CACHE / "peer_venv")
    parser.add_argument("--sb3_venv", type=Path, default=programs.CACHE / "sb3_venv")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--append", action="store_true", help="keep the figures that the file holds already")
    return parser.parse_args()


def main() -> None:
    options = parse()
    load = WORKLOADS[options.workload]
    sides = cast("list[Side]", options.sides.split(","))
    for side in sides:
        if side not in get_args(Side) or side not in load.settings:
            raise SystemExit(f"--sides: {side} does not run {load.name}; choose from {', '.join(load.settings)}")
    python = pythons(sides, options)
    figures = load_figures(options.json) if options.append else []
    for turn in range(options.pairs):
        for side in sides:
            settings = load.settings[side] if options.all_settings else load.settings[side][:1]
            for setting in settings:
                figure = measure(side, load, setting, python[side], warm_up_s=options.warm_up, seconds=options.seconds)
                figures.append(figure)
                first = "-" if figure.first_step_s is None else f"{figure.first_step_s:.2f}"
                print(
                    f"{turn + 1} {side:5} {setting.name:24} {figure.frames_per_s:9,.0f} frames/s, "
                    f"{figure.core_us_per_frame:7,.1f} core us/frame, first step {first} s, disturbed by "
                    f"{figure.other_cores:.2f} + {figure.stolen_cores:.2f} cores",
                    flush=True,
                )
                if options.json:
                    body = {"machine": programs.machine(), "figures": [asdict(f) for f in figures]}
                    options.json.write_text(json.dumps(body, indent=1))
    print(table(figures))


if __name__ == "__main__":
    main()
