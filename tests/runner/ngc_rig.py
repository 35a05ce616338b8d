"""The `ngc` backend over a fake cloud, for the contract that every backend keeps and for tests of its own."""

from __future__ import annotations

import os
import select
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from sf_runner.backends.base import Backend, Known, Launch, Started
from sf_runner.backends.cluster.api import SubmitRequest
from sf_runner.backends.cluster.backend import ClusterBackend
from sf_runner.backends.cluster.ids import IdFile
from sf_runner.backends.cluster.template import parse_template
from sf_runner.basics.clock import steady_s
from sf_runner.slots.placement import ANYWHERE
from tests.runner.cloud import TEMPLATE, FakeCloud, FastNgc

RUN_ID = "c0ffee0c0ffee000"
_PATIENCE_S = 60.0


class _RigNgc(FastNgc):
    def submit(self, job: SubmitRequest) -> Sequence[str]:
        if job.argv[0] == "no-such-program":
            return ("no-such-program", "batch", "run")
        return super().submit(job)


class NgcRig:
    """`by_name`: ids that an earlier runner wrote down are lost, as if it had been killed before it could."""

    def __init__(self, folder: Path, *, by_name: bool = False, call_timeout_s: float = 60.0) -> None:
        self.folder = folder
        self.cloud = FakeCloud(folder)
        self._old_path = os.environ["PATH"]
        os.environ["PATH"] = self.cloud.path
        self._by_name = by_name
        self.cluster = _RigNgc(parse_template(TEMPLATE, "test", {}))
        self.cluster.call_timeout_s = call_timeout_s
        self.ids = folder / "ids.jsonl"
        self.backend: Backend = self.open()

    def open(self) -> ClusterBackend:
        ids = IdFile(self.ids)
        backend = ClusterBackend(RUN_ID, self.cluster, self.request, ids, since=time.time())
        backend.open()
        return backend

    def request(self, launch: Launch) -> SubmitRequest:
        return SubmitRequest(
            run_id=RUN_ID, run="run", job=launch.job, attempt=launch.attempt, argv=launch.argv, log=launch.log
        )

    def render(self, launch: Launch) -> tuple[str, ...]:
        return tuple(self.cluster.submit(self.request(launch)))

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
            started |= {report.job: report for report in earlier.poll(steady_s()) if isinstance(report, Started)}
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
        return steady_s()

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
    timeout_s = _PATIENCE_S if wake is None else max(0.0, wake - steady_s())
    ready, _, _ = select.select(backend.fds(), (), (), timeout_s)
    assert ready or wake is not None, "nothing happened for a minute"
