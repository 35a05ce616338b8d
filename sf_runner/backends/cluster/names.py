"""Names by which the jobs of a run are found again in a cluster's list."""

from __future__ import annotations

import re

from sf_runner.basics.digest import digest

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_UNSAFE_DNS = re.compile(r"[^a-z0-9]+")
MAX_NAME_CHARS = 63
"""What every cluster accepts (a DNS label)."""
_HASH_CHARS = 8


def run_prefix(run_id: str) -> str:
    """How the names of all jobs of a run begin; equal in `name` and `dns_name`."""
    return "sf" + "".join(char for char in run_id.lower() if char.isalnum())[:_HASH_CHARS]


def job_names(run_id: str, job: str, attempt: int) -> tuple[str, str]:
    """(name, dns_name) of an attempt: unique to it, at most 63 characters. The first is of letters, digits, `_.-`, the
    second a DNS label: small letters, digits and `-`."""
    prefix, own = run_prefix(run_id), digest((run_id, job, str(attempt)), size=_HASH_CHARS // 2)
    middle = job.rpartition("/")[2]
    room = MAX_NAME_CHARS - len(prefix) - len(own) - 2
    readable = _UNSAFE.sub("-", middle)[:room].strip("-.") or "job"
    dns = _UNSAFE_DNS.sub("-", middle.lower())[:room].strip("-") or "job"
    return f"{prefix}-{readable}-{own}", f"{prefix}-{dns}-{own}"
