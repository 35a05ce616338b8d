"""What people type for a job: its id, its name, its number, or a wildcard pattern."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from sf_runner.basics.errors import UsageError, did_you_mean


def resolve(wanted: Iterable[str], job_ids: Sequence[str]) -> list[str]:
    """Job ids, in the order asked for, each once.

    Raises UsageError for something that matches no job, or (without a wildcard) more than one.
    """
    found: dict[str, None] = {}
    for text in wanted:
        found.update(dict.fromkeys(_matches(text, job_ids)))
    return list(found)


def _matches(text: str, job_ids: Sequence[str]) -> list[str]:
    if text in job_ids:
        return [text]
    names = [job.rsplit("/", 1)[-1] for job in job_ids]
    if any(c in text for c in "*?["):
        pairs = zip(job_ids, names, strict=True)
        matched = [job for job, name in pairs if fnmatch.fnmatchcase(job, text) or fnmatch.fnmatchcase(name, text)]
        if not matched:
            raise UsageError(f"no job matches '{text}'")
        return matched
    same_name = [job for job, name in zip(job_ids, names, strict=True) if name == text]
    if not same_name and text.isdecimal():
        # 7 means 07_..., the index every name starts with.
        numbered = [(job, name.split("_", 1)[0]) for job, name in zip(job_ids, names, strict=True)]
        same_name = [job for job, number in numbered if number.isdecimal() and int(number) == int(text)]
    if len(same_name) == 1:
        return same_name
    if len(same_name) > 1:
        raise UsageError(
            f"'{text}' is the name of {len(same_name)} jobs: {', '.join(same_name[:4])}; give one of these"
        )
    raise UsageError(f"no job '{text}'.{did_you_mean(text, names)}")
