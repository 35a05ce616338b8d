"""Memory of a whole training and of its rollout workers: ours and Sample Factory 2.1.1.

    python benchmarks/memory.py --workload=doom_benchmark [--setting=2x16]

Each program trains with the setting that is fastest for it (`workloads.py`), ours with another one if that is named.
After a warm-up the proportional set size (PSS: what is shared by n processes counts 1/n for each) of all its processes
is read from /proc. Game engines are counted apart: they are the same program on both sides.
"""

from __future__ import annotations

import argparse
import json
import statistics
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import programs
from workloads import WORKLOADS, Setting, Side, Workload, command

_ENGINE = "vizdoom"


@dataclass(frozen=True, kw_only=True)
class Memory:
    """MB (2**20 bytes) of one training."""

    workload: str
    side: str
    setting: str
    total_mb: float
    """All processes but engines."""
    engines_mb: float
    processes: list[tuple[str, float]]
    """What each was started as, and its PSS; largest first."""

    @property
    def worker_mb(self) -> float | None:
        """Median over rollout workers: ours are a module of their own; the peer's are forks named by their title."""
        found = [mb for name, mb in self.processes if "worker" in name and "learner" not in name]
        return statistics.median(found) if found else None


def pss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"/proc/{pid}/smaps_rollup has no Pss")


def words(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()


def descendants_of_workers(pids: list[int]) -> set[int]:
    """Processes of a program that have no processes of the program's own below them but engines: see `label`."""
    parents = set()
    for pid in pids:
        with suppress(OSError, IndexError, ValueError):
            if Path(f"/proc/{pid}/exe").resolve().name != _ENGINE:
                continue
            parents.add(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]))
    return parents


def label(pid: int, owners_of_engines: set[int]) -> str:
    name = Path(f"/proc/{pid}/comm").read_text().strip()
    if name == "sf_worker" or pid in owners_of_engines:
        return "rollout worker"
    return "learner" if name == "sf_learner" else words(pid)[:60]


def measure(side: Side, load: Workload, setting: Setting, python: Path, warm_up_s: float) -> Memory:
    command_line = command(side, load, setting, python, seconds=warm_up_s + 600)
    with programs.started(command_line, env=dict(setting.env)) as running:
        running.run_for(warm_up_s=warm_up_s, seconds=0)
        pids = running.pids
        owners = descendants_of_workers(pids)
        found: list[tuple[str, float]] = []
        engines = 0.0
        for pid in pids:
            with suppress(OSError):  # it has just ended
                size = pss_mb(pid)
                if Path(f"/proc/{pid}/exe").resolve().name == _ENGINE:
                    engines += size
                else:
                    found.append((label(pid, owners), size))
    found.sort(key=lambda one: -one[1])
    return Memory(
        workload=load.name,
        side=side,
        setting=setting.name,
        total_mb=sum(mb for _, mb in found),
        engines_mb=engines,
        processes=found,
    )


def chosen_setting(load: Workload, side: Side, name: str | None) -> Setting:
    names = {setting.name: setting for setting in load.settings[side]}
    if name is None:
        return load.settings[side][0]
    if name not in names:
        raise SystemExit(f"--setting={name}: choose from {', '.join(repr(known) for known in names)}")
    return names[name]


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--workload", choices=sorted(WORKLOADS), default="doom_benchmark")
    parser.add_argument("--sides", default="ours,peer")
    parser.add_argument("--setting", help="of ours, instead of the fastest: a name in workloads.py")
    parser.add_argument("--warm_up", type=float, default=15.0, help="time after the first frames (s)")
    parser.add_argument("--peer_venv", type=Path, default=programs.CACHE / "peer_venv")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    load = WORKLOADS[options.workload]
    found: list[Memory] = []
    for side in cast("list[Side]", options.sides.split(",")):
        python = programs.prepare_venv(options.peer_venv, programs.PEER_PACKAGES) if side == "peer" else Path()
        setting = chosen_setting(load, side, options.setting if side == "ours" else None)
        memory = measure(side, load, setting, python, options.warm_up)
        found.append(memory)
        worker = "-" if memory.worker_mb is None else f"{memory.worker_mb:.0f}"
        print(
            f"{side:5} {memory.setting}: {memory.total_mb:,.0f} MB without engines "
            f"(engines {memory.engines_mb:,.0f} MB), a rollout worker {worker} MB",
            flush=True,
        )
        for name, mb in memory.processes:
            print(f"      {mb:8.1f} MB  {name}")
    if options.json:
        body = {"machine": programs.machine(), "memory": [asdict(memory) for memory in found]}
        options.json.write_text(json.dumps(body, indent=1))


if __name__ == "__main__":
    main()
