"""The clouds of `fake_cloud.py` in a temporary folder: put on PATH, disturbed, looked at, taken down."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sf_runner.backends.cluster.ngc import Ngc

PROGRAM = Path(__file__).with_name("fake_cloud.py")

FAST = """
from sf_runner.backends.cluster.api import Cluster

Cluster.poll_s, Cluster.settle_s, Cluster.retry_s, Cluster.call_timeout_s = 0.05, 0.3, 0.05, 60.0
"""
"""A `sitecustomize` module: clusters that answer in milliseconds."""


class FastNgc(Ngc):
    """NGC for the fake cloud, which answers in milliseconds."""

    poll_s = 0.05
    settle_s = 0.3
    retry_s = 0.05
    call_timeout_s = 60.0


TEMPLATE = """\
ngc batch run --name "{{ name }}" \\
    --image "nvcr.io/org/image:1.0" --instance dgx1v.16g.1.norm --result /results \\
    --commandline "{{ experiment_cmd }}" \\
    --format_type json
"""


class FakeCloud:
    """`bin` holds the executables `ngc` and `aws`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "cloud"
        self.bin = folder / "bin"
        self.folder.mkdir(parents=True)
        self.bin.mkdir()
        for name in ("ngc", "aws"):
            script = self.bin / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{PROGRAM}" "{self.folder}" {name} "$@"\n')
            script.chmod(0o755)

    @property
    def path(self) -> str:
        """A value for PATH."""
        return f"{self.bin}:{os.environ['PATH']}"

    def calls(self, *words: str) -> list[list[str]]:
        """Arguments of all calls so far whose first ones are these."""
        log = self.folder / "calls.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        found = [json.loads(line)["argv"] for line in lines]
        return [argv for argv in found if argv[: len(words)] == list(words)]

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs ever submitted, in order."""
        return [json.loads(path.read_text()) for path in sorted((self.folder / "jobs").glob("*.json"))]

    def job(self, part: str) -> dict[str, Any]:
        """The last job whose name holds `part`."""
        return [job for job in self.jobs() if part in job["name"]][-1]

    def ended(self, part: str) -> bool:
        return (self.folder / "jobs" / f"{self.job(part)['id']}.code").exists()

    def force(self, part: str, state: str) -> None:
        """The cloud says so of that job from now on."""
        draft = self.folder / "draft"
        draft.write_text(state)
        draft.rename(self.folder / "states" / str(self.job(part)["id"]))

    def faults(self, *faults: dict[str, Any]) -> None:
        """See `fake_cloud.py`."""
        draft = self.folder / "draft"
        draft.write_text(json.dumps(faults))
        draft.rename(self.folder / "faults.json")

    def hold_queue(self, hold: bool = True) -> None:
        if hold:
            (self.folder / "queue").touch()
        else:
            (self.folder / "queue").unlink()

    def cleanup(self) -> None:
        """No job runs any more."""
        self.hold_queue()
        for path in (self.folder / "jobs").glob("*.pid"):
            with contextlib.suppress(OSError, ValueError):
                os.killpg(int(path.read_text()), signal.SIGKILL)
