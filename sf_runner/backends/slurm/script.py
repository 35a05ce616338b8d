"""From options to the text of a job script, and what a script itself printed. Nothing is submitted here.

simple-slurm renders and validates the options; it is not used to submit, because it passes the script through a shell
and loses what sbatch complains about.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sf_runner.backends.slurm.batches import BatchPaths
from sf_runner.backends.slurm.time_limit import USUAL_AHEAD_S, TimeLimit, ahead_s
from sf_runner.basics.errors import UsageError, did_you_mean
from sf_runner.basics.tail import last_line

OURS = {
    "array": "the runner makes the arrays",
    "chdir": "experiments run where the runner was started",
    "comment": "the runner finds its jobs by it",
    "error": "use --slurm_workdir",
    "job_name": "it is the run's name",
    "no_requeue": "use --slurm_max_requeues=0",
    "nodes": "a job is one node",
    "ntasks": "a job is one task",
    "open_mode": "logs of several attempts must not replace each other",
    "output": "use --slurm_workdir",
    "parsable": "the runner reads the job's id",
    "requeue": "it is always on; use --slurm_max_requeues",
    "signal": "use --slurm_signal_ahead",
    "test_only": "use --slurm_print_only",
    "wrap": "use --slurm_sbatch_template",
}
"""Options of sbatch that cannot be passed through, and why."""
COMMENT = "sf_runner"
_OWN_FLAGS = ("account", "constraint", "mem", "partition", "qos", "time")
_PLAIN = re.compile(r"[\w@%+=:,./*\[\]&|()-]*\Z")
_OPTION_LINE = re.compile(r"#SBATCH (--\S+)\s*(.*)")
_HEADER_LINE = re.compile(r"\s*(#|$)")
_WRITTEN_OPTION = re.compile(r"^#SBATCH --(output|job-name)[= ](.*)$", re.MULTILINE)
_SLURMS_OWN = re.compile(r"slurmstepd: .*\*\*\* (JOB|STEP) ")
"""`*** JOB 7 ON n1 CANCELLED AT ... DUE TO JOB REQUEUE ***`: what Slurm did to an earlier start of the task."""


@dataclass(frozen=True, kw_only=True)
class JobShape:
    """What a job of one array asks for, and how its experiments share it."""

    gpus: int = 0
    cpus: int | None = None
    experiments: int = 1
    side_by_side: int = 1


@dataclass(frozen=True, kw_only=True)
class ScriptSettings:
    """What holds for all scripts of a run."""

    job_name: str
    folder: str
    """Where experiments run."""
    command: Sequence[str]
    """Starts the wrapper; the batch's folder is appended."""
    options: Mapping[str, str] = field(default_factory=dict)
    """partition, account, qos, constraint, time, mem as sbatch takes them."""
    passed_on: Sequence[str] = ()
    signal_ahead_s: float | None = None
    """None: as is usual, and less before a short limit."""
    limit: TimeLimit | None = None
    """Of a job; None: nobody knows it now."""
    timeout_s: float | None = None
    template: str | None = None
    cluster: str = ""
    """Where it is submitted; empty: this machine's own."""
    output_folder: str | None = None

    @property
    def ahead_s(self) -> float:
        """How long before its end a job is told to save, as far as is known when it is submitted."""
        fits = self.signal_ahead_s is None
        wanted_s = self.signal_ahead_s if self.signal_ahead_s is not None else USUAL_AHEAD_S
        return ahead_s(wanted_s, self.limit.seconds if self.limit is not None else None, fits=fits)


def check_settings(settings: ScriptSettings, shapes: Iterable[JobShape]) -> None:
    """UsageError naming the first option that cannot be passed on beside what jobs of these shapes ask for."""
    for shape in shapes:
        render_script(settings, shape, batch="/nowhere", num_tasks=1, throttle=0)


def render_script(settings: ScriptSettings, shape: JobShape, *, batch: str, num_tasks: int, throttle: int) -> str:
    """The script of one array of `num_tasks` tasks, of which at most `throttle` run side by side (0: no limit)."""
    options: dict[str, Any] = {
        **settings.options,
        "job_name": settings.job_name,
        "comment": comment_of(batch),
        "array": f"0-{num_tasks - 1}" + (f"%{throttle}" if throttle else ""),
        "nodes": 1,
        "ntasks": 1,
        "chdir": settings.folder,
        "output": output_pattern(settings, batch),
        "open_mode": "append",
        "requeue": True,
        "signal": f"B:USR1@{int(settings.ahead_s)}",
    }
    cluster = {"clusters": settings.cluster} if settings.cluster else {}
    if shape.gpus:
        options["gres"] = f"gpu:{shape.gpus}"
    if shape.cpus:
        options["cpus_per_task"] = shape.cpus
    header = _header(options, {**passed_on(settings.passed_on, options), **cluster})
    command = shlex.join([*settings.command, batch])
    if settings.template is None:
        # Until the wrapper listens, a signal that is meant for it must not end the job.
        return f"#!/bin/bash\n{header}\ntrap '' USR1 USR2\nexec {command}\n"
    return _fill_template(settings, shape, header, command, f"{batch}/script.sh")


def output_pattern(settings: ScriptSettings, batch: str) -> str:
    """Where the script's own output goes, for sbatch."""
    folder, name = (settings.output_folder, "%x-%A_%a.out") if settings.output_folder else (batch, "%a.out")
    return f"{folder.replace('%', '%%')}/{name}"


def comment_of(batch: str) -> str:
    """By this an array is found again whose submission nobody lived to write down."""
    return f"{COMMENT} {batch}"


def dependency(settings: ScriptSettings) -> str:
    """What the user wants jobs to wait for; empty: nothing."""
    return str(passed_on(settings.passed_on, {}).get("dependency", ""))


def passed_on(words: Sequence[str], ours: Mapping[str, object]) -> dict[str, Any]:
    """`--key=value`, `--key value`, `-k value`, `--flag` as options. UsageError for what is not sbatch's, or ours."""
    parser = _slurm().parser
    known: dict[str, str] = {name: a.dest for a in parser._actions for name in a.option_strings if a.dest != "help"}
    found: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, has_value, value = word.partition("=")
        dashed = name.replace("_", "-") if name.startswith("--") else name
        dest = known.get(dashed) or known.get(name.replace("-", "_").replace("__", "--", 1))
        if not word.startswith("-") or dest is None:
            names = [option.replace("_", "-") for option in known if option.startswith("--")]
            raise UsageError(f"--slurm_args: sbatch has no option '{name}'.{did_you_mean(dashed, names)}")
        if dest in OURS:
            raise UsageError(f"--slurm_args: '{name}' is set by the runner ({OURS[dest]})")
        if dest in ours:
            own = dest if dest in _OWN_FLAGS else {"gres": "gpus_per_job=0", "cpus_per_task": "cpus_per_job"}[dest]
            raise UsageError(f"--slurm_args: '{name}' is set by the runner; use --slurm_{own}")
        if not has_value and rest and not rest[0].startswith("-"):
            value = rest.pop(0)
        found[dest] = value or True
    return found


def _header(options: Mapping[str, Any], further: Mapping[str, Any]) -> str:
    """`#SBATCH` lines, through simple-slurm, which knows what sbatch takes."""
    slurm = _slurm()
    for name, value in {**options, **further}.items():
        complaint = io.StringIO()
        try:
            with contextlib.redirect_stderr(complaint):
                slurm.add_arguments(name, True if value is True else _quoted(str(value)))
        except (SystemExit, ValueError):
            why = complaint.getvalue().strip().rpartition("error: ")[2]
            raise UsageError(f"sbatch option '{name.replace('_', '-')}={value}' is not valid: {why}") from None
    lines = [_OPTION_LINE.match(line) for line in slurm.script(convert=False).splitlines()]
    # sbatch reads `--nice 5` and other options with an optional value only with `=`.
    return "\n".join(f"#SBATCH {line[1]}" + (f"={line[2]}" if line[2] else "") for line in lines if line)


def _slurm() -> Any:
    """It reads the variables of squeue too, and fails for many a user's."""
    hidden = {name: os.environ.pop(name) for name in ("SQUEUE_FORMAT", "SQUEUE_FORMAT2") if name in os.environ}
    try:
        from simple_slurm import Slurm

        return Slurm()
    finally:
        os.environ.update(hidden)


def _quoted(value: str) -> str:
    """As sbatch reads a value in a script."""
    if "\n" in value:
        raise UsageError(f"a line break cannot be passed to sbatch: {value!r}")
    if _PLAIN.match(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _fill_template(settings: ScriptSettings, shape: JobShape, header: str, command: str, script: str) -> str:
    """The user's script with the placeholders filled in and our options after its own.

    Its shell must not be ended by signals that are meant for the wrapper.
    """
    assert settings.template is not None
    partition = settings.options.get("partition")
    values = {
        "CMD": command,
        "FILENAME": shlex.quote(script),
        "PARTITION": f"-p {partition} " if partition else "",
        "GPU": str(shape.gpus),
        "CPU": str(shape.cpus or 1),
        "TIMEOUT": str(int(settings.timeout_s)) if settings.timeout_s else "0",
    }
    text = _substitute(settings.template, values)
    if command not in text:
        text = f"{text.rstrip()}\n\n{command}\n"
    lines = text.splitlines()
    first = next((number for number, line in enumerate(lines) if not _HEADER_LINE.match(line)), len(lines))
    shebang = [] if lines and lines[0].startswith("#!") else ["#!/bin/bash"]
    return "\n".join([*shebang, *lines[:first], header, "trap : TERM USR1 USR2", *lines[first:]]) + "\n"


def _substitute(template: str, values: Mapping[str, str]) -> str:
    """As the predecessor did, where its rules fit the template; else only our names are replaced, and the shell's own
    variables are left alone."""
    try:
        return string.Template(template).substitute(values)
    except (KeyError, ValueError):
        names = "|".join(values)
        return re.sub(rf"\$(?:({names})\b|\{{({names})\}})", lambda m: values[m[1] or m[2]], template)


def read_template(path: str) -> str:
    """UsageError when it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        why = getattr(exc, "strerror", None) or "it is no text"
        raise UsageError(f"--slurm_sbatch_template={path}: {why}") from None


def output_path(batch: BatchPaths, array_id: str, task: int) -> Path:
    """Where Slurm writes what a script itself prints: the only witness when it fails before the wrapper is started."""
    try:
        text = batch.script.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    options = {match[1]: _unquoted(match[2].strip()) for match in _WRITTEN_OPTION.finditer(text)}  # the last one counts
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
