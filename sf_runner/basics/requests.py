"""Requests from other terminals to the live runner: one small file each, taken in the order in which they came.

<run>/.runner/requests/<time>_<pid>_<n>.json        {"version": 1, "action": "cancel", "jobs": [...]}
<run>/.runner/requests/<time>_<pid>_<n>.reply       {"text": "..."}, written by the runner

A request says when it was made, in seconds since the boot of its machine. Where that is another machine, the time of
the file is compared with that of a file that is made now in the same folder: the clocks of this machine and of a file
server may be hours apart.
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
from typing import Literal, get_args

from sf_runner.basics.clock import boot_id, since_boot_s, steady_s
from sf_runner.basics.errors import BackendError, StorageError
from sf_runner.basics.files import replace_file

Action = Literal["cancel", "kill", "retry", "pause", "resume", "parallel", "drain", "stop", "detach"]
ACTIONS: tuple[Action, ...] = get_args(Action)
_STALE_S = 60.0
"""Nobody waits so long: what is older was left by somebody who was told that there is no answer, or gave up."""
_LOOK_EVERY_S = 0.25
_GONE_AFTER_S = 3.0
"""A runner that was killed is started again within a second or so by its guardian."""
_counter = itertools.count()
_IMPORTED_NS = time.time_ns() - time.monotonic_ns()
"""So that requests of one process stay in order when the clock is set."""


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
    name = f"{_IMPORTED_NS + time.monotonic_ns()}_{os.getpid()}_{next(_counter)}"
    path = directory / f"{name}.json"
    body = {
        "version": 1,
        "action": request.action,
        "jobs": list(request.jobs),
        "number": request.number,
        "boot": boot_id(),
        "up": since_boot_s(),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(body).encode())
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
    start = seen_at = looked_at = steady_s()
    while (now := steady_s()) < start + timeout_s:
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
    if not paths:
        return []
    now = _time_of_folder(directory)
    requests = []
    for path in paths:
        if path.suffix == ".json":
            requests.extend(_take_one(path, now))
        elif _age_s(path, now) > _STALE_S:
            _take_back(path)
    return requests


def answer(request: Request, text: str) -> None:
    """Tell the sender what was done; harmless when it no longer waits."""
    if request.path is None:
        return
    with contextlib.suppress(OSError):
        replace_file(request.path.with_suffix(".reply"), json.dumps({"text": text}).encode())


def _take_one(path: Path, now: float | None) -> list[Request]:
    try:
        body = json.loads(path.read_text())
        here = bool(body.get("boot")) and body["boot"] == boot_id()
        age_s = since_boot_s() - float(body["up"]) if here else _age_s(path, now)
        path.unlink()
        if age_s > _STALE_S or body.get("action") not in ACTIONS:
            return []
        return [
            Request(
                action=body["action"],
                jobs=[str(job) for job in body.get("jobs", ())],
                number=int(body.get("number", 0)),
                path=path,
            )
        ]
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        _take_back(path)
        return []


def _age_s(path: Path, now: float | None) -> float:
    """0 where it cannot be told: better to do what somebody asked for than to drop it unread."""
    try:
        return 0.0 if now is None else now - path.stat().st_mtime
    except OSError:
        return 0.0


def _time_of_folder(directory: Path) -> float | None:
    """The time by the clock that gives files their times there; None where no file can be made."""
    path = directory / f".now_{os.getpid()}"
    try:
        path.touch()
        return path.stat().st_mtime
    except OSError:
        return None
    finally:
        _take_back(path)
