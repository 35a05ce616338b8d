"""Reads what the commands of a cluster print. Pure."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sf_runner.basics.errors import one_line

_SHOWN_CHARS = 160
_FIELDS = ("id", "name", "state", "details", "exit_code", "started", "ended")


class AnswerError(ValueError):
    """An answer that cannot be read; the text is for people."""


@dataclass(frozen=True, kw_only=True)
class ClusterJob:
    """One job as its cluster tells of it. `started` and `ended`: unix seconds; None where it does not say."""

    id: str
    name: str
    state: str
    details: str = ""
    exit_code: int | None = None
    started: float | None = None
    ended: float | None = None


def json_id(text: str, path: str) -> str:
    """The id at `path` (`a.b.0`) of the JSON that a submission printed. AnswerError when there is none."""
    found = look_up(_json(text), path)
    if found is None or isinstance(found, dict | list | bool) or not str(found).strip():
        raise AnswerError(f"it holds no job id: {shorten(text) or 'nothing was printed'}")
    return str(found).strip()


def json_jobs(text: str, *, jobs: str = "", **paths: str) -> list[ClusterJob]:
    """The jobs in printed JSON. AnswerError when it is no list of jobs.

    jobs: path (`a.b.0`) of the list; empty: the whole answer, which may also be a single job.
    paths: where each job has the fields of `ClusterJob`; times in ISO 8601, or seconds or milliseconds since 1970.
    """
    body = _json(text) if text.strip() else []
    found = look_up(body, jobs) if jobs else body
    if isinstance(found, dict):
        found = [found]
    elif found is None and jobs:
        found = []
    if not isinstance(found, list):
        raise AnswerError(f"it is no list of jobs: {shorten(text)}")
    read = (_job({name: look_up(entry, path) for name, path in paths.items()}) for entry in found)
    return [job for job in read if job is not None]


def look_up(value: Any, path: str) -> Any:
    """`a.b.0` in parsed JSON; None where there is no such thing."""
    for key in path.split("."):
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def shorten(text: str) -> str:
    """The telling part of what a command printed, on one line: its last words."""
    flat = one_line(text)
    return flat if len(flat) <= _SHOWN_CHARS else "…" + flat[1 - _SHOWN_CHARS :]


def _json(text: str) -> Any:
    """The JSON in what a command printed; lines around it (warnings, progress) are passed over."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    decoder = json.JSONDecoder()
    for start in _line_starts(text):
        try:
            return decoder.raw_decode(text, start)[0]
        except ValueError:
            continue
    raise AnswerError(f"it is no JSON: {shorten(text) or 'nothing was printed'}")


def _line_starts(text: str) -> Iterator[int]:
    at = 0
    for line in text.splitlines(keepends=True):
        if line.startswith(("{", "[")):
            yield at
        at += len(line)


def _job(fields: Mapping[str, Any]) -> ClusterJob | None:
    """None for an entry without an id or a state: it is no job."""
    texts = {name: "" if fields.get(name) is None else str(fields[name]).strip() for name in _FIELDS}
    if not texts["id"] or not texts["state"]:
        return None
    return ClusterJob(
        id=texts["id"],
        name=texts["name"],
        state=texts["state"],
        details=one_line(texts["details"]),
        exit_code=_whole(texts["exit_code"]),
        started=_time(fields.get("started")),
        ended=_time(fields.get("ended")),
    )


def _whole(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _time(value: Any) -> float | None:
    """ISO 8601, or seconds or milliseconds since 1970."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value / 1000 if value > 1e11 else float(value)
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
    except ValueError:
        return None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.timezone.utc)).timestamp()
