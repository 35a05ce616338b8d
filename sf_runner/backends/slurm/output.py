"""What a job script itself printed: the only witness when it failed before the wrapper was started."""

from __future__ import annotations

import re
from pathlib import Path

from sf_runner.backends.slurm.batches import BatchPaths
from sf_runner.basics.tail import last_line

_SLURMS_OWN = re.compile(r"slurmstepd: .*\*\*\* (JOB|STEP) ")
"""`*** JOB 7 ON n1 CANCELLED AT ... DUE TO JOB REQUEUE ***`: what Slurm did to an earlier start of the task."""
_OPTION = re.compile(r"^#SBATCH --(output|job-name)[= ](.*)$", re.MULTILINE)


def output_path(batch: BatchPaths, array_id: str, task: int) -> Path:
    """The file that Slurm was told to write it to."""
    try:
        text = batch.script.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    options = {match[1]: _unquoted(match[2].strip()) for match in _OPTION.finditer(text)}  # the last one counts
    values = {"%%": "%", "%A": array_id, "%a": str(task), "%x": options.get("job-name", "")}
    pattern = options.get("output") or f"{str(batch.root).replace('%', '%%')}/%a.out"
    return Path(re.sub("%[%Aax]", lambda match: values[match[0]], pattern))


def last_words(output: Path) -> str:
    """The last line with anything on it; empty when there is none."""
    return last_line(output, ignore=_SLURMS_OWN.match)


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value
