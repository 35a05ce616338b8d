"""What a wrapper finds out where it runs: which task it is, whether the batch is its to run, GPUs, time left, whether
the kernel killed for want of memory. Standard library only."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

from sf_runner.backends.slurm.batches import BatchPaths
from sf_runner.backends.slurm.environment import asking_environment

_LEFT = re.compile(r"(?:(?P<d>\d+)-)?(?:(?P<h>\d+):)?(?P<m>\d+):(?P<s>\d+)\Z")


def split_gpus(given: str | None, position: int, side_by_side: int) -> str | None:
    """The part of CUDA_VISIBLE_DEVICES for one of the experiments that share a job: disjoint as long as there are
    enough, else one each in turn. None where Slurm set nothing."""
    if given is None or side_by_side == 1:
        return given
    devices = [device for device in given.split(",") if device]
    if not devices:
        return given
    if side_by_side >= len(devices):
        return devices[position % len(devices)]
    share = len(devices) // side_by_side
    return ",".join(devices[position * share : (position + 1) * share])


def share_gpus(share: str | None, wanted: str | None) -> str | None:
    """What the experiment gets that names devices itself (`wanted`): its choice, but never beyond its share."""
    if wanted is None or share is None:
        return wanted if share is None else share
    allowed = share.split(",")
    chosen = [device.strip() for device in wanted.split(",") if device.strip()]
    return wanted if all(device in allowed or device == "-1" for device in chosen) else share


def left_s(job_id: str, cluster: str = "") -> float | None:
    """Seconds until the job's time limit; None: without limit, or nobody can tell."""
    command, env = ["squeue", *_at(cluster), "-h", "-j", job_id, "-o", "%L"], asking_environment(os.environ)
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = _LEFT.match(done.stdout.strip().rpartition("\n")[2])
    if match is None:
        return None
    days, hours, minutes, seconds = (int(match[name] or 0) for name in "dhms")
    return ((days * 24.0 + hours) * 60 + minutes) * 60 + seconds


def ask_requeue(job_id: str, cluster: str) -> str:
    """Have Slurm take the task back into its queue; why it did not. Slurm kills this process soon if it did."""
    command = ["scontrol", *_at(cluster), "requeue", job_id]
    try:
        env = asking_environment(os.environ)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"scontrol requeue: {exc}"
    if done.returncode in (0, -signal.SIGTERM):  # TERM is how a requeue begins: it may come before the answer
        return ""
    return " ".join(done.stderr.split()) or f"scontrol requeue: exit code {done.returncode}"


def _at(cluster: str) -> tuple[str, ...]:
    return ("-M", cluster) if cluster else ()


def oom_kills() -> int:
    """How many processes of our control group the kernel has killed because its memory was used up."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            events = Path(f"/sys/fs/cgroup{path}/memory.events")
        elif "memory" in controllers.split(","):
            events = Path(f"/sys/fs/cgroup/memory{path}/memory.oom_control")
        else:
            continue
        try:
            if match := re.search(r"^oom_kill (\d+)", events.read_text(), re.MULTILINE):
                return int(match[1])
        except OSError:
            continue
    return 0


def start_canary() -> int:
    """Pid of a process that waits for TERM. It ends with the wrapper: it reads a pipe that only the wrapper holds."""
    end, _held = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, end, 0), (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    pid = os.posix_spawn("/bin/cat", ["cat"], {}, file_actions=actions, setsid=True)
    os.close(end)
    return pid


def own_array() -> str:
    """Job id of the array."""
    return os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID", "")


def own_id() -> str:
    """Job id of this task alone. SLURM_JOB_ID of an array's last task is the id of the whole array."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")


def why_foreign(batch: BatchPaths) -> str:
    """Why this job is not one that the runner submitted; empty: it is, and no other will be."""
    expected, own = batch.array_id(), os.environ.get("SLURM_ARRAY_JOB_ID", "")
    if batch.is_abandoned():
        return "it was given up before it was known to be submitted"
    if expected and own and expected != own:
        return f"its experiments belong to job {expected}, not to job {own}"
    if not own:
        return ""
    try:
        owner = batch.own(own)
    except OSError as exc:
        return f"whether job {own} is to run it cannot be written there: {exc.strerror}"
    return "" if owner == own else f"its experiments belong to job {owner}, not to job {own}"
