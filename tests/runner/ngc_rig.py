"""The `ngc` backend over a fake cloud, for the contract that every backend keeps and for tests of its own."""

from __future__ import annotations

import os
import select
import shlex
import time
from pathlib import Path

from sf_runner.backends.base import Backend, Known, Launch, Started
from sf_runner.backends.cloud.backend import NgcBackend
from sf_runner.backends.cloud.commands import parse_commands
from sf_runner.backends.cloud.ids import IdFile
from sf_runner.backends.cloud.template import job_values, parse_template
from sf_runner.slots.placement import ANYWHERE
from tests.runner.cloud import FAST, TEMPLATE, FakeCloud

RUN_ID = "c0ffee0c0ffee000"
_PATIENCE_S = 60.0


class NgcRig:
    """`by_name`: ids that an earlier runner wrote down are lost, as if it had been killed before it could."""

    def __init__(self, folder: Path, *, by_name: bool = False, commands: str = FAST) -> None:
        self.folder = folder
        self.cloud = FakeCloud(folder)
        self._old_path = os.environ["PATH"]
        os.environ["PATH"] = self.cloud.path
        self._by_name = by_name
        self.commands = parse_commands(commands, "test", {})
        self.template = parse_template(TEMPLATE, "test", ("name", "experiment_cmd"), {})
        self.ids = folder / "ids.jsonl"
        self.backend: Backend = self.open()

    def open(self) -> NgcBackend:
        backend = NgcBackend(
            RUN_ID, self.commands, self.render, IdFile(self.ids, self.commands.name), since=time.time()
        )
        backend.open()
        return backend

    def render(self, launch: Launch) -> tuple[str, ...]:
        if launch.argv[0] == "no-such-program":
            return ("no-such-program", "batch", "run")
        values = job_values(run_id=RUN_ID, run_name="run", job=launch.job, attempt=launch.attempt, command=launch.argv)
        return self.template.render(values, launch.argv)

    def launch(self, job: str, *, attempt: int = 1, kind: str = "patient") -> Launch:
        file = self.folder / f"finish_{job}"
        wait = f"until test -e '{file}'; do sleep 0.01; done; exit $(cat '{file}')"
        scripts = {"patient": wait, "deaf": f"trap '' TERM; {wait}"}
        argv = ["no-such-program"] if kind == "missing" else ["sh", "-c", scripts[kind]]
        folder = self.folder / job
        return Launch(
            job=job,
            attempt=attempt,
            argv=argv,
            env={},
            placement=ANYWHERE,
            log=str(folder / f"attempt_{attempt}.log"),
            exit_record=str(folder / "exit.json"),
        )

    def finish(self, job: str, exit_code: int) -> None:
        draft = self.folder / f"draft_{job}"
        draft.write_text(str(exit_code))
        draft.rename(self.folder / f"finish_{job}")

    def elsewhere(self, *launches: Launch) -> list[Known]:
        self.backend.close(detach=False)
        earlier = self.open()
        for launch in launches:
            earlier.submit(launch)
        started: dict[str, Started] = {}
        while len(started) < len(launches):
            started |= {report.job: report for report in earlier.poll(time.time()) if isinstance(report, Started)}
            _wait(earlier)
        earlier.close(detach=True)
        earlier.outlive_jobs()
        if self._by_name:
            self.ids.unlink()
        self.backend = self.open()
        return [
            Known(
                job=launch.job,
                attempt=launch.attempt,
                handle=started[launch.job].handle,
                log=launch.log,
                exit_record=launch.exit_record,
            )
            for launch in launches
        ]

    def now(self) -> float:
        return time.time()

    def wait(self) -> None:
        _wait(self.backend)

    def command(self, launch: Launch) -> str:
        return shlex.join(self.render(launch))

    def close(self) -> None:
        self.backend.close(detach=True)
        self.backend.outlive_jobs()
        self.cloud.cleanup()
        os.environ["PATH"] = self._old_path


def _wait(backend: Backend) -> None:
    """Until it has something to say, by its own account."""
    wake = backend.next_wake()
    timeout_s = _PATIENCE_S if wake is None else max(0.0, wake - time.time())
    ready, _, _ = select.select(backend.fds(), (), (), timeout_s)
    assert ready or wake is not None, "nothing happened for a minute"
