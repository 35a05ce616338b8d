"""A real Slurm on this machine, for as long as a test session: munged, slurmctld, several slurmd, fake GPUs.

Needs root and the packages slurm-wlm and munge (slurmdbd and mariadb-server for accounting). Every daemon keeps its
files in one temporary directory and is taken down with it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

if __name__ == "__main__":  # started by its path
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from sf_runner.linux.kernel import process_stat

_PATIENCE_S = 60.0

_SLURM_CONF = """\
ClusterName={name}
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={munge}/munge.socket
CredType=cred/munge
SlurmctldPort={port}
SlurmdPort={slurmd_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MaxArraySize={max_array_size}
MaxJobCount={max_job_count}
MinJobAge={min_job_age}
SlurmdTimeout=120
MessageTimeout=10
ReturnToService=2
SlurmdParameters=config_overrides
{accounting}
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first_port}-{last_port}] CPUs={cpus} Gres=gpu:{gpus}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""

_DBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdPort={dbd_port}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct
"""


def why_not(*, accounting: bool) -> str:
    """Why no Slurm can be brought up here; empty when it can."""
    if os.geteuid() != 0:
        return "bringing up a Slurm needs root"
    programs = ["munged", "slurmctld", "slurmd", "sbatch", "squeue"]
    if accounting:
        programs += ["slurmdbd", "mariadbd"]
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    missing = [name for name in programs if shutil.which(name, path=path) is None]
    if not missing:
        return ""
    return f"{', '.join(missing)} not installed (apt-get install slurm-wlm munge slurmdbd mariadb-server)"


class SlurmCluster:
    """Use as a context manager; `environ` is what clients need. `limits`: those of accounts and QOS are enforced.
    Where none can be brought up, the test is skipped.

    beside: a cluster that keeps accounting, and on whose machines clients know this one, called `name`, as well."""

    def __init__(
        self,
        *,
        nodes: int = 2,
        cpus: int = 32,
        gpus: int = 2,
        max_array_size: int = 1001,
        max_job_count: int = 20000,
        min_job_age_s: int = 300,
        accounting: bool = False,
        limits: bool = False,
        name: str = "test",
        beside: SlurmCluster | None = None,
    ) -> None:
        self._accounting = accounting or limits or beside is not None
        if why := why_not(accounting=self._accounting):
            pytest.skip(why)
        self.folder = Path(tempfile.mkdtemp(prefix="slurm_test_"))
        self.nodes = nodes
        self._name = name
        self._beside = beside
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._claim, ports = _reserve_ports(nodes + 3)
        self._dbd_port = ports[1] if beside is None else beside._dbd_port
        self._munge = self.folder if beside is None else beside.folder
        accounting_lines = "AccountingStorageType=accounting_storage/none"
        if self._accounting:
            accounting_lines = (
                "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=localhost\n"
                f"AccountingStoragePort={self._dbd_port}\nAccountingStoragePass={self._munge}/munge.socket"
            )
        if limits:
            accounting_lines += "\nAccountingStorageEnforce=associations,limits,qos"
        self._conf = _SLURM_CONF.format(
            name=name,
            folder=self.folder,
            munge=self._munge,
            port=ports[0],
            slurmd_port=ports[2],
            first_port=ports[3],
            last_port=ports[3] + nodes - 1,
            nodes=nodes,
            cpus=cpus,
            gpus=gpus,
            host=socket.gethostname().split(".")[0],
            max_array_size=max_array_size,
            max_job_count=max_job_count,
            min_job_age=min_job_age_s,
            accounting=accounting_lines,
        )
        self._gpus = gpus
        self.environ = {
            **os.environ,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin",
        }

    def __enter__(self) -> SlurmCluster:
        # Whatever becomes of this process, nothing of the cluster outlives it: its end closes the pipe. Neither it nor
        # a daemon gets a session of its own: a backend under test in this process would take them for its jobs.
        self._undertaker = subprocess.Popen([sys.executable, __file__, str(self.folder)], stdin=subprocess.PIPE)
        try:
            self._bring_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in (
            "slurmctld",
            *(f"slurmd-n{n}" for n in range(1, self.nodes + 1)),
            "slurmdbd",
            "mariadbd",
            "munged",
        ):
            self._stop(name)
        self._undertaker.communicate()
        self._claim.close()

    # ---- daemons -------------------------------------------------------------------------------------------

    def _bring_up(self) -> None:
        folder = self.folder
        for name in ("state", "spool", "dev"):
            (folder / name).mkdir()
        folder.chmod(0o755)
        for index in range(self._gpus):
            device = folder / "dev" / f"nvidia{index}"
            os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        (folder / "slurm.conf").write_text(self._conf)
        devices = f"{folder}/dev/nvidia[0-{self._gpus - 1}]"
        gres = f"NodeName=n[1-{self.nodes}] Name=gpu File={devices}\n" if self._gpus else ""
        (folder / "gres.conf").write_text(gres)
        (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        if self._beside is None:
            self._start_munge()
            if self._accounting:
                self._start_accounting()
        else:
            self.run("sacctmgr", "-i", "add", "cluster", self._name)
        self.start_controller()
        for number in range(1, self.nodes + 1):
            self.start_node(number)
        idle = f"{self.nodes} nodes to be idle"
        wait_for(idle, lambda: self.run("sinfo", "-h", "-N", "-p", "main", "-o", "%t").split() == ["idle"] * self.nodes)

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = {name: f"{self.folder}/munge.{name}" for name in ("socket", "pid", "log", "seed")}
        self._start(
            "munged",
            ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={files['socket']}",
             f"--pid-file={files['pid']}", f"--log-file={files['log']}", f"--seed-file={files['seed']}"],
        )  # fmt: skip
        wait_for("munged", lambda: Path(files["socket"]).exists())

    def _start_accounting(self) -> None:
        data, sock = self.folder / "mysql", self.folder / "mysql.socket"
        subprocess.run(
            ["mariadb-install-db", f"--datadir={data}", "--user=root", "--auth-root-authentication-method=normal",
             "--skip-test-db"], check=True, capture_output=True, env=self.environ,
        )  # fmt: skip
        self._start(
            "mariadbd",
            ["mariadbd", "--no-defaults", f"--datadir={data}", "--user=root", f"--socket={sock}", "--skip-networking",
             f"--pid-file={self.folder}/mariadbd.pid", "--innodb-buffer-pool-size=64M"],
        )  # fmt: skip
        wait_for("mariadbd", sock.exists)
        self.environ["MYSQL_UNIX_PORT"] = str(sock)
        conf = self.folder / "slurmdbd.conf"
        conf.write_text(_DBD_CONF.format(folder=self.folder, dbd_port=self._dbd_port))
        conf.chmod(0o600)
        self._start("slurmdbd", ["slurmdbd", "-D"])

        def known() -> bool:
            return "test" in self.run("sacctmgr", "-n", "list", "cluster", check=False)

        def answers() -> bool:
            self.run("sacctmgr", "-i", "add", "cluster", "test", check=False)
            return known()

        wait_for("slurmdbd", answers)

    def start_controller(self) -> None:
        self._start("slurmctld", ["slurmctld", "-D", "-f", f"{self.folder}/slurm.conf"])
        wait_for("slurmctld", lambda: "UP" in self.run("scontrol", "ping", check=False))

    def stop_controller(self) -> None:
        self._stop("slurmctld")

    def start_node(self, number: int) -> None:
        self._start(f"slurmd-n{number}", ["slurmd", "-D", "-N", f"n{number}", "-f", f"{self.folder}/slurm.conf"])

    def kill_node(self, number: int) -> None:
        """As when the power fails: its daemon and everything that runs on it; and the controller has noticed."""
        self._stop(f"slurmd-n{number}", signal.SIGKILL)
        pids = _pids_with(f"SLURMD_NODENAME=n{number}", self.folder)
        for pid in [*_stepds_of(pids), *pids]:  # the helpers first: they would tell how the jobs ended
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.run("scontrol", "update", f"NodeName=n{number}", "State=DOWN", "Reason=power")

    def _start(self, name: str, argv: Sequence[str]) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self._processes[name] = subprocess.Popen(
                argv, env=self.environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def _stop(self, name: str, signum: int = signal.SIGTERM) -> None:
        process = self._processes.pop(name, None)
        if process is None:
            return
        process.send_signal(signum)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    # ---- clients -------------------------------------------------------------------------------------------

    def run(self, *argv: str, check: bool = True) -> str:
        """The standard output of a client."""
        done = subprocess.run(argv, env=self.environ, capture_output=True, text=True, timeout=_PATIENCE_S)
        assert not check or done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout

    def jobs(self) -> list[tuple[str, str]]:
        """(id, state) of every job that has not ended."""
        lines = self.run("squeue", "-h", "-r", "-o", "%i %T").splitlines()
        return [(line.split()[0], line.split()[1]) for line in lines]

    def clear(self) -> None:
        """End everything, so that the next test finds the cluster empty and whole."""
        self.run("scancel", "--user=root", check=False)
        deadline = time.monotonic() + 5
        while self.jobs():
            if time.monotonic() > deadline:
                self.run("scancel", "--signal=KILL", "--full", "--user=root", check=False)
                deadline = time.monotonic() + _PATIENCE_S
            time.sleep(0.1)


def wait_for(what: str, reached: Callable[[], object], timeout_s: float = _PATIENCE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(0.05)


def _reserve_ports(count: int) -> tuple[socket.socket, list[int]]:
    """Ports in a row that are free now, and what keeps other clusters from them for as long as it is open."""
    for first in range(21000, 29000, 50):
        claim = socket.socket(socket.AF_UNIX)
        sockets = []
        try:
            claim.bind(f"\0sf_runner_test_slurm_{first}")
            for port in range(first, first + count):
                sock = socket.socket()
                sockets.append(sock)
                sock.bind(("127.0.0.1", port))
            return claim, list(range(first, first + count))
        except OSError:
            claim.close()
        finally:
            for sock in sockets:
                sock.close()
    raise AssertionError("no free ports")


def _pids_with(assignment: str, folder: Path) -> list[int]:
    """Processes with that variable (or one that starts so) and this cluster's SLURM_CONF."""
    wanted = (assignment.encode(), f"SLURM_CONF={folder}/slurm.conf".encode())
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                variables = (entry / "environ").read_bytes().split(b"\0")
                if all(any(variable.startswith(start) for variable in variables) for start in wanted):
                    found.append(int(entry.name))
    return found


def _stepds_of(pids: Sequence[int]) -> list[int]:
    """The helpers of slurmd under which these processes run."""
    found: set[int] = set()
    for pid in pids:
        ancestor = pid
        while ancestor > 1 and (status := process_stat(ancestor)) is not None:
            with suppress(OSError):
                if Path(f"/proc/{ancestor}/comm").read_text().strip() == "slurmstepd":
                    found.add(ancestor)
            ancestor = status.parent
    return sorted(found)


def _bury(folder: Path) -> None:
    """End what belongs to this cluster and is still there, and remove its folder."""
    pids = _pids_with("SLURM_CONF=", folder)
    for pid in [*_stepds_of(pids), *pids]:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.read()
    _bury(Path(sys.argv[1]))
