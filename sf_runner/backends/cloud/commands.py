"""Which commands a cloud is driven by and how their answers are read, as data: NGC's, or those of an INI file.

The file (`--ngc_commands`) is described in docs/ngc.md; what it leaves out is NGC's if it says `base = ngc`.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sf_runner.backends.cloud.template import Template, parse_template
from sf_runner.basics.errors import UsageError, did_you_mean

CloudState = Literal["queued", "running", "succeeded", "failed", "timeout", "cancelled", "preempted", "lost"]
CLOUD_STATES: tuple[CloudState, ...] = (
    "queued",
    "running",
    "succeeded",
    "failed",
    "timeout",
    "cancelled",
    "preempted",
    "lost",
)

NGC = r"""
[cloud]
name = NGC
poll_s = 15
settle_s = 20
call_timeout_s = 120
retry_s = 5
parallel_calls = 4
transient = timed?.?out|connection|temporar|unavailable|too many requests|rate.?limit|try again|name resolution
    |network|internal server error|bad gateway|(error|http|status|code|response)\W{0,3}(429|500|502|503|504)\b

[submit]
id = id

[list]
command = ngc batch list --format_type json --duration {{ days }}D
jobs =
id = id
name = jobDefinition.name
state = jobStatus.status
details = jobStatus.statusDetails
exit_code = jobStatus.exitCode
started = jobStatus.startedAt
ended = jobStatus.endedAt

[info]
command = ngc batch info {{ id }} --format_type json

[kill]
command = ngc batch kill {{ ids }}
ids_joined_by = ,

[states]
queued = CREATED QUEUED STARTING REQUESTING_RESOURCE RESOURCE_CONSUMPTION_REQUEST_IN_PROGRESS RESOURCE_GRANTED
    PENDING_STORAGE_CREATION
running = RUNNING PENDING_TERMINATION
succeeded = FINISHED_SUCCESS
failed = FAILED RESOURCE_LIMIT_EXCEEDED RESOURCE_GRANT_DENIED INFINITY_POOL_MISSING
timeout = FAILED_RUN_LIMIT_EXCEEDED
cancelled = KILLED_BY_USER KILLED_BY_ADMIN CANCELED
preempted = PREEMPTED PREEMPTED_BY_ADMIN
lost = TASK_LOST KILLED_BY_SYSTEM IM_INTERNAL_ERROR RESOURCE_RELEASED UNKNOWN
"""

_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "cloud": ("name", "base", "poll_s", "settle_s", "call_timeout_s", "retry_s", "parallel_calls", "transient"),
    "submit": ("id", "regex"),
    "list": ("command", "jobs", "id", "name", "state", "details", "exit_code", "started", "ended", "regex"),
    "info": ("command",),
    "kill": ("command", "ids_joined_by"),
    "states": CLOUD_STATES,
}
_GENERAL = ("poll_s", "settle_s", "call_timeout_s", "retry_s", "parallel_calls", "transient")
"""Keys that are NGC's where a file does not say otherwise, whatever the cloud."""
FIELDS = ("id", "name", "state", "details", "exit_code", "started", "ended")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Where things are in an answer: `paths` into its JSON, or the named groups of `regex`, one match per job.

    `jobs`: path of the list; the answer may also be a single job.
    """

    paths: Mapping[str, str]
    jobs: str = ""
    regex: re.Pattern[str] | None = None


@dataclass(frozen=True, kw_only=True)
class CommandSet:
    """Everything that tells one cloud from another. Times in seconds.

    settle_s: after so long the list shows a job that was submitted.
    transient: matches messages of errors that pass by themselves.
    info: asks for one job that the list does not show; None: there is no such command.
    ids_joined_by: between the ids of one kill command; empty: one job a command.
    states: the cloud's words for the states of a job -> ours.
    """

    name: str
    poll_s: float
    settle_s: float
    call_timeout_s: float
    retry_s: float
    parallel_calls: int
    transient: re.Pattern[str]
    submitted: Answer
    list: Template
    listed: Answer
    info: Template | None
    kill: Template
    ids_joined_by: str
    states: Mapping[str, CloudState]


def read_commands(path: str | None) -> tuple[str, str]:
    """(text, what to call it) of the INI file at `path`; NGC's for None. UsageError when it cannot be read."""
    if path is None:
        return NGC, "the commands for NGC"
    try:
        return Path(path).read_text(encoding="utf-8"), f"--ngc_commands={path}"
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise UsageError(f"--ngc_commands={path}: {why}") from None


def parse_commands(text: str, source: str, environ: Mapping[str, str]) -> CommandSet:
    """The commands that the text of an INI file says. UsageError in one line that names what is wrong in it."""
    values, ngc = _parse(text, source), _parse(NGC, "NGC")
    base = values.get("cloud", {}).get("base", "")
    if base not in ("", "ngc"):
        raise UsageError(f"{source}: [cloud] base = {base}; the only one there is to build on is ngc")
    if base:
        values = {section: {**ngc.get(section, {}), **values.get(section, {})} for section in _SECTIONS}
    else:
        general = {key: ngc["cloud"][key] for key in _GENERAL}
        values["cloud"] = {**general, **values.get("cloud", {})}
    return _Reader(source, values, environ).commands()


def _parse(text: str, source: str) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#", ";"), strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    try:
        parser.read_string(text, source)
    except configparser.Error as exc:
        raise UsageError(f"{source}: {' '.join(str(exc).split())}") from None
    found = {section: dict(parser[section]) for section in parser.sections()}
    for section, keys in found.items():
        if section not in _SECTIONS:
            raise UsageError(f"{source}: unknown section [{section}].{did_you_mean(section, _SECTIONS)}".rstrip("."))
        for key in keys:
            if key not in _SECTIONS[section]:
                hint = did_you_mean(key, _SECTIONS[section])
                raise UsageError(f"{source}: unknown key '{key}' in [{section}].{hint}".rstrip("."))
    return found


class _Reader:
    def __init__(self, source: str, values: Mapping[str, Mapping[str, str]], environ: Mapping[str, str]) -> None:
        self._source = source
        self._values = values
        self._environ = environ

    def commands(self) -> CommandSet:
        return CommandSet(
            name=self._need("cloud", "name"),
            poll_s=self._number("poll_s"),
            settle_s=self._number("settle_s"),
            call_timeout_s=self._number("call_timeout_s"),
            retry_s=self._number("retry_s"),
            parallel_calls=max(1, int(self._number("parallel_calls"))),
            transient=self._regex("cloud", "transient", ()),
            submitted=self._submitted(),
            list=self._command("list", ("run_prefix", "days"), ()),
            listed=self._listed(),
            info=self._command("info", ("id",), ("id",)) if self._get("info", "command") else None,
            kill=self._command("kill", ("id", "ids"), ("id", "ids")),
            ids_joined_by=self._ids_joined_by(),
            states=self._states(),
        )

    def _get(self, section: str, key: str) -> str:
        return self._values.get(section, {}).get(key, "").strip()

    def _need(self, section: str, key: str) -> str:
        value = self._get(section, key)
        if not value:
            raise UsageError(f"{self._source}: [{section}] {key} is missing; docs/ngc.md says what it means")
        return value

    def _number(self, key: str) -> float:
        text = self._need("cloud", key)
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0 <= number < float("inf"):
            raise UsageError(f"{self._source}: [cloud] {key} = {text} is no number of seconds or calls")
        return number

    def _regex(self, section: str, key: str, groups: tuple[str, ...]) -> re.Pattern[str]:
        text = self._need(section, key).replace("\n", "")
        flags = re.MULTILINE if groups else re.IGNORECASE
        try:
            pattern = re.compile(text, flags)
        except re.error as exc:
            raise UsageError(f"{self._source}: [{section}] {key} is no regular expression: {exc}") from None
        missing = [group for group in groups if group not in pattern.groupindex]
        if missing:
            raise UsageError(f"{self._source}: [{section}] {key} lacks a group (?P<{missing[0]}>...)")
        return pattern

    def _command(self, section: str, known: tuple[str, ...], one_of: tuple[str, ...]) -> Template:
        source = f"{self._source}: [{section}] command"
        template = parse_template(self._need(section, "command"), source, known, self._environ)
        if one_of and not template.holes.intersection(one_of):
            raise UsageError(f"{source} lacks {{{{ {one_of[-1]} }}}}: it has to say which job is meant")
        return template

    def _submitted(self) -> Answer:
        if self._get("submit", "regex"):
            return Answer(paths={}, regex=self._regex("submit", "regex", ("id",)))
        return Answer(paths={"id": self._need("submit", "id")})

    def _listed(self) -> Answer:
        if self._get("list", "regex"):
            return Answer(paths={}, regex=self._regex("list", "regex", ("id", "name", "state")))
        for key in ("id", "name", "state"):
            self._need("list", key)
        paths = {key: self._get("list", key) for key in FIELDS if self._get("list", key)}
        return Answer(paths=paths, jobs=self._get("list", "jobs"))

    def _ids_joined_by(self) -> str:
        joined_by = self._get("kill", "ids_joined_by")
        several = "ids" in self._need("kill", "command")
        if several and not joined_by:
            raise UsageError(
                f"{self._source}: [kill] {{{{ ids }}}} needs ids_joined_by; for one job a time use {{{{ id }}}}"
            )
        return {"space": " "}.get(joined_by, joined_by) if several else ""

    def _states(self) -> dict[str, CloudState]:
        table: dict[str, CloudState] = {}
        for ours in CLOUD_STATES:
            for theirs in self._get("states", ours).split():
                if theirs in table:
                    raise UsageError(f"{self._source}: [states] {theirs} is both {table[theirs]} and {ours}")
                table[theirs] = ours
        for ours in ("running", "succeeded", "failed"):
            if ours not in table.values():
                raise UsageError(f"{self._source}: [states] {ours} is missing: which of the cloud's states mean it?")
        return table
