"""Variables that change what Slurm's commands do or answer: what of them each command gets to see.

Standard library only: the wrapper imports it on the node.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_TIME_FORMAT")
_DROPPED = ("SBATCH_", "SLURM_", "SF_RUNNER_JOB", "SF_RUNNER_ATTEMPT", "SF_RUNNER_TAG", "SF_RUNNER_PROGRESS")
_FILTERS = ("SQUEUE_", "SACCT_", "SCONTROL_", "SCANCEL_", "SINFO_", "SBATCH_", "SLURM_TIME_FORMAT", "SLURM_CLUSTERS")
"""Users set them to shape what they read at a prompt; a program that reads it would miss jobs."""
_OVERRIDES = (
    "ARRAY_INX", "CLUSTERS", "COMMENT", "DEBUG", "ERROR", "GRES", "INPUT", "JOB_NAME", "NO_REQUEUE", "OPEN_MODE",
    "OUTPUT", "REQUEUE", "SIGNAL", "WAIT",
)  # fmt: skip
_SAME_AS = {
    "time": ("TIMELIMIT",),
    "mem": ("MEM_PER_NODE", "MEM_PER_CPU", "MEM_PER_GPU"),
    "array": ("ARRAY_INX",),
}
"""Options whose variable has another name, and variables that contradict them."""
_OPTION = re.compile(r"^#SBATCH --([\w-]+)", re.MULTILINE)
_CLUSTER_OPTION = re.compile(r"^#SBATCH\s+(?:--clusters?[=\s]|-M\s*)\s*(\S+)", re.MULTILINE)


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Without what a surrounding job or run left in it; the user's own SBATCH_ defaults stay, where they do not
    contradict the runner."""
    env = {
        name: value
        for name, value in environ.items()
        if name in _KEPT or not name.startswith(_DROPPED) or _is_own_default(name)
    }
    env.pop("CUDA_VISIBLE_DEVICES", None)  # those of this machine
    return env


def _is_own_default(name: str) -> bool:
    return name.startswith("SBATCH_") and name[len("SBATCH_") :] not in _OVERRIDES


def asking_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """For commands whose answers are read."""
    env = {name: value for name, value in environ.items() if not name.startswith(_FILTERS)}
    env["SLURM_BITSTR_LEN"] = "0"  # squeue shortens lists of indices otherwise
    return env


def submitting_environment(environ: Mapping[str, str], script: str) -> dict[str, str]:
    """For sbatch: a variable wins over an option in the script, but what is in the script was asked for."""
    named: set[str] = set()
    for option in _OPTION.findall(script):
        named.update(_SAME_AS.get(option, (option.replace("-", "_").upper(),)))
    hidden = {f"SBATCH_{name}" for name in named}
    return {name: value for name, value in environ.items() if name not in hidden}


def cluster_in_environment(environ: Mapping[str, str]) -> tuple[str, str]:
    """(cluster that sbatch would submit to, name of the variable that says so); empty: this machine's own."""
    for name in ("SBATCH_CLUSTERS", "SLURM_CLUSTERS"):
        if value := environ.get(name, "").strip():
            return value, name
    return "", ""


def cluster_in_script(text: str) -> str:
    """Cluster named by the last `#SBATCH` line that names one; empty: none does."""
    found = _CLUSTER_OPTION.findall(text)
    return str(found[-1]).strip("\"'") if found else ""
