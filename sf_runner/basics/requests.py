"""Requests from other terminals to the live runner: one small file each, taken in the order in which they came.

<run>/.runner/requests/<time>_<pid>_<n>.json        {"version": 1, "action": "cancel", "jobs": [...]}
<run>/.runner/requests/<time>_<pid>_<n>.reply       {"text": "..."}, written by the runner
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sf_runner.basics.errors import BackendError, StorageError

Action = Literal["cancel", "kill", "retry", "pause", "resume", "parallel", "drain", "stop", "detach"]
ACTIONS: tuple[Action, ...] = (
    "cancel",
    "kill",
    "retry",
    "pause",
    "resume",
    "parallel",
    "drain",
    "stop",
    "detach",
)
_STALE_S = 60.0
"""Nobody waits so long: what is older was left by somebody who was told that there is no answer, or gave up."""
_LOOK_EVERY_S = 0.25
_GONE_AFTER_S = 3.0
"""A runner that was killed is started again within a second or so by its guardian."""
_counter = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Request:
    """`jobs` are ids for cancel, kill and retry; empty: all. `number` is for parallel: jobs side by side."""

    action: Action
    jobs: Sequence[str] = ()
    number: int = 0
    path: Path | None = None


def send(directory: Path, request: Request) -> Path:
    """Leave a request for the runner; the path under which `wait_for_reply` finds the answer.

    Raises StorageError when the directory cannot be written.
    """
    name = f"{time.time_ns()}_{os.getpid()}_{next(_counter)}"
    path = directory / f"{name}.json"
    tmp = directory / f"{name}.tmp"
    body = {"version": 1, "action": request.action, "jobs": list(request.jobs), "number": request.number}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tmp.write_text(json.dumps(body))
        tmp.replace(path)
    except OSError as exc:
        raise StorageError(f"cannot leave a request in {directory}: {exc.strerror}") from exc
    return path


class NobodyAnswersError(BackendError):
    """The runner has ended, or is being started again for long, and the request is still there: it was taken back."""


def wait_for_reply(path: Path, timeout_s: float, is_there: Callable[[], bool] = lambda: True) -> str:
    """The runner's answer. `is_there`: whether there is a runner.

    Raises:
        NobodyAnswersError: there is none any more.
        BackendError: no answer came in time (the request is taken back if still possible).
    """
    start = seen_at = looked_at = time.monotonic()
    while (now := time.monotonic()) < start + timeout_s:
        text = read_reply(path)
        if text is not None:
            return text
        if now - looked_at > _LOOK_EVERY_S:
            looked_at = now
            seen_at = now if is_there() else seen_at
            if now - seen_at > _GONE_AFTER_S and _take_back(path):
                raise NobodyAnswersError("no runner is there to answer")
        time.sleep(0.02)
    _take_back(path)
    raise BackendError(f"the runner did not answer within {timeout_s:.0f} s; is it stopped (state T in ps)?")


def _take_back(path: Path) -> bool:
    """Whether nobody had taken the request."""
    try:
        path.unlink()
    except OSError:
        return False
    return True


def answer_all(directory: Path, text: str) -> None:
    """Tell everybody who still asks for something."""
    for request in take(directory):
        answer(request, text)


def read_reply(path: Path) -> str | None:
    """The runner's answer to the request sent as `path`, once; None while there is none."""
    reply = path.with_suffix(".reply")
    try:
        text = str(json.loads(reply.read_text())["text"])
        reply.unlink()
    except (OSError, ValueError, KeyError):
        return None
    return text


def take(directory: Path) -> list[Request]:
    """Requests that wait, oldest first; each file is removed. Unreadable and stale ones are removed and ignored."""
    try:
        paths = sorted(Path(entry) for entry in os.scandir(directory))
    except OSError:
        return []
    requests = []
    for path in paths:
        if _is_stale(path):
            with contextlib.suppress(OSError):
                path.unlink()
        elif path.suffix == ".json":
            requests.extend(_take_one(path))
    return requests


def answer(request: Request, text: str) -> None:
    """Tell the sender what was done; harmless when it no longer waits."""
    if request.path is None:
        return
    reply = request.path.with_suffix(".reply")
    tmp = request.path.with_suffix(".reply_tmp")
    with contextlib.suppress(OSError):
        tmp.write_text(json.dumps({"text": text}))
        tmp.replace(reply)


def _take_one(path: Path) -> list[Request]:
    try:
        body = json.loads(path.read_text())
        path.unlink()
        if body.get("action") not in ACTIONS:
            return []
        return [
            Request(
                action=body["action"],
                jobs=[str(job) for job in body.get("jobs", ())],
                number=int(body.get("number", 0)),
                path=path,
            )
        ]
    except (OSError, ValueError, TypeError, AttributeError):
        with contextlib.suppress(OSError):
            path.unlink()
        return []


def _is_stale(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _STALE_S
    except OSError:
        return False
