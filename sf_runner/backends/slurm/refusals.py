"""What Slurm's commands say when they refuse, sorted by what follows from it. The only place that reads their words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["down", "later", "limit", "policy", "size", "gone", "permanent", "unknown"]
"""What a refusal means:

- `down`: nobody answered, or not as it should be (controller, munge, network, database). Whether a submission was taken
  is not known.
- `later`: it was answered; the same question may be answered otherwise in a while.
- `limit`: a limit on submitted jobs. Fewer may be taken, or more once others have ended.
- `policy`: a limit, but Slurm does not say which: on submitted jobs, or on what one job asks for.
- `size`: the array has too many tasks.
- `gone`: Slurm does not know the job any more, or it is over.
- `permanent`: it will be refused for as long as nobody changes the flags or the cluster.
- `unknown`: words that are not in the table, as those of a site's own plugins.
"""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """text: Slurm's own words on one line. remedy: what to look at; empty where there is nothing to say."""

    kind: Kind
    text: str
    remedy: str = ""

    @property
    def line(self) -> str:
        """For people."""
        return f"{self.text} ({self.remedy})" if self.remedy else self.text

    @property
    def untaken(self) -> bool:
        """Whether it is certain that what was to be submitted was not taken."""
        return self.kind != "down"


_ASKS_TOO_MUCH = (
    "a job asks for more than its account or QOS allows: --slurm_gpus_per_job, --slurm_cpus_per_gpu, --slurm_mem, "
    "--slurm_qos"
)
_NO_SUCH_NODE = (
    "nodes are drained or down, or none has what a job asks for: --slurm_gpus_per_job, --slurm_cpus_per_gpu, "
    "--slurm_mem, --slurm_constraint"
)

_TABLE: tuple[tuple[str, Kind, str], ...] = (
    # Limits of accounting. The reason's name comes before the sentence that names all of them.
    (r"\b(Assoc|QOS)\w*Submit\w*", "limit", "your limit on submitted jobs; --slurm_experiments_per_job makes fewer"),
    (r"\b(Assoc|QOS)\w*MaxWall\w*", "permanent", "--slurm_time is more than the account or the QOS allows"),
    (r"\b(Assoc|QOS)(Grp|Max|Min)\w+", "permanent", _ASKS_TOO_MUCH),
    (r"accounting/QOS policy", "policy", "a limit on submitted jobs, or on what one job asks for"),
    # Nobody answers.
    (r"Unable to (contact|resolve|establish)|configuration source|name resolution|not known", "down", ""),
    (r"timed out|Zero Bytes|(send|receive|shutdown|connect(ion)?) failure|communication", "down", ""),
    (r"Connection (refused|reset|aborted)|Broken pipe|No route to host|is unreachable", "down", ""),
    (r"Transport endpoint|persist|talking to the database|database connection", "down", ""),
    (r"standby mode|Unexpected message|Header lengths are longer|Insane message", "down", ""),
    (r"munge|authentication|(Expired|Rewound|Replayed) credential|credential (expired|replayed|rewound)", "down", ""),
    (r"Cannot allocate memory|Too many open files|Cannot fork", "down", "this machine is short of something"),
    (r"Incompatible versions|Protocol version", "down", "Slurm is being upgraded, or its commands here are too old"),
    # The cluster as it is just now.
    (r"Required partition not available", "later", "the partition is closed at present; --slurm_partition"),
    (r"Required node not available|Requested nodes are busy", "later", "its nodes are down, drained or busy"),
    (r"partition configuration not available now", "later", ""),
    (r"Resource temporarily unavailable|temporarily unable to accept", "limit", "the cluster's limit on jobs in all"),
    (r"Too many|too many|maximum number of", "limit", ""),
    (r"Invalid job array specification", "size", "the cluster's MaxArraySize or max_array_tasks"),
    (r"Requested node configuration is not available", "unknown", _NO_SUCH_NODE),
    # Jobs that are over.
    (r"Invalid job id|already (completing|completed|finished)|already done|Job is (no longer|not) ", "gone", ""),
    # What is wrong with the flags.
    (r"invalid partition|Invalid partition", "permanent", "--slurm_partition"),
    (r"not permitted to use this partition", "permanent", "--slurm_partition"),
    (r"Invalid account", "permanent", "--slurm_account, --slurm_partition"),
    (r"Invalid qos", "permanent", "--slurm_qos"),
    (r"\(gres\)|\(TRES\)|Invalid (gres|tres)", "permanent", "--slurm_gpus_per_job, --slurm_args"),
    (r"Invalid feature", "permanent", "--slurm_constraint"),
    (r"reservation", "permanent", "--slurm_args"),
    (r"time limit is invalid|Invalid --?time|Requested time limit", "permanent", "--slurm_time"),
    (r"Memory (required|specification)|Invalid --?mem", "permanent", "--slurm_mem"),
    (r"More processors requested|CPU count|Node count|Invalid --?(cpus|ntasks|nodes)", "permanent", _NO_SUCH_NODE),
    (r"unrecognized option|invalid option|Invalid [-\w]+ specification|requires an argument|ambiguous", "permanent",
     "--slurm_args, --slurm_sbatch_template"),
    (r"does not look like a batch script|DOS line breaks|This does not look", "permanent", "--slurm_sbatch_template"),
    (r"No cluster '|invalid entry for --cluster", "permanent", "--slurm_args"),
    (r"accounting storage is disabled", "permanent", "this cluster keeps no accounting"),
    (r"permission denied|not permitted|Invalid user|not allowed|denied", "permanent", "the cluster does not permit it"),
)  # fmt: skip
_WHO = re.compile(r"(\w+: (error: |fatal: )?)?(allocation failure: |Batch job submission failed: |slurm_\w+ error: )?")
_REASON = re.compile(r"(Assoc|QOS)\w+")
_POLICY = "Job violates accounting/QOS policy"
"""Names every kind of limit; said after the one that it is."""
_COMPILED = tuple((re.compile(pattern, re.IGNORECASE if kind == "down" else 0), kind, remedy)
                  for pattern, kind, remedy in _TABLE)  # fmt: skip


def sort_refusal(stderr: str, otherwise: str = "") -> Refusal:
    """What a command's standard error means. `otherwise`: its words where it said nothing."""
    text = complaint(stderr) or otherwise
    for pattern, kind, remedy in _COMPILED:
        if pattern.search(text):
            return Refusal(kind=kind, text=text, remedy=remedy)
    return Refusal(kind="unknown", text=text)


def complaint(stderr: str) -> str:
    """What a command said, on one line, without the names of the program."""
    lines = [_WHO.sub("", line, count=1).strip() for line in stderr.splitlines()]
    if any(_REASON.fullmatch(line) for line in lines):
        lines = [line for line in lines if not line.startswith(_POLICY)]
    return "; ".join(dict.fromkeys(line for line in lines if line))
