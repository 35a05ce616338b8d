"""Runs on the Slurm of the tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sf_runner.state import events as ev
from tests.runner.harness import RunUnderTest, shell
from tests.runner.slurm_cluster import SlurmCluster

WAITS = "until test -e '{file}'; do sleep 0.05; done; exit $(cat '{file}')"


class SlurmRun(RunUnderTest):
    """A run on a cluster. Flags that every start gets are in `base_flags`."""

    def __init__(self, folder: Path, cluster: SlurmCluster, *experiments: str) -> None:
        super().__init__(folder, *experiments)
        self.cluster = cluster
        self.before_path = ""
        """Folders, each with a colon, in which commands are looked for before Slurm's own."""
        self.base_flags = ["--runner=slurm", "--slurm_gpus_per_job=0", "--slurm_poll=1", "--ui=plain"]

    def environ(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        theirs = {name: self.cluster.environ[name] for name in ("SLURM_CONF", "PATH")}
        theirs["PATH"] = self.before_path + theirs["PATH"]
        return super().environ({**theirs, **(extra or {})})

    @property
    def slurm_dir(self) -> Path:
        return self.paths.slurm_dir

    def arrays(self) -> list[str]:
        """Ids of all arrays that were submitted."""
        return [path.read_text().strip() for path in sorted(self.slurm_dir.glob("[0-9]*/sbatch.out"))]

    def slurm_id(self, name: str) -> str:
        """Array and index of the last attempt of an experiment that was started."""
        started = self.read_events(ev.AttemptStarted, name)
        return str(started[-1].handle["slurm"])  # type: ignore[attr-defined]

    def cancel(self, *names: str) -> None:
        done = self.tool("cancel", *(self.job(name).job_id for name in names))
        assert done.returncode == 0, done.stderr

    def wait_file(self, name: str) -> Path:
        return self.folder / f"finish_{name}"

    def waiting(self, name: str) -> str:
        """The text of an experiment that runs until `finish`; TERM ends it with 143."""
        return shell(name, WAITS.format(file=self.wait_file(name)))

    def finish_waiting(self, name: str, code: int = 0) -> None:
        draft = self.folder / f"draft_{name}"
        draft.write_text(str(code))
        draft.rename(self.wait_file(name))

    def cleanup(self) -> None:
        super().cleanup()
        self.cluster.clear()


@contextmanager
def slurm_run(folder: Path, cluster: SlurmCluster, *experiments: str) -> Iterator[SlurmRun]:
    run = SlurmRun(folder, cluster, *experiments)
    try:
        yield run
    finally:
        run.cleanup()
