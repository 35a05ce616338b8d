"""What people type for a job: its id, its name, its number, or a wildcard pattern."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from sf_runner.basics.errors import UsageError, did_you_mean


def resolve(wanted: Iterable[str], job_ids: Sequence[str]) -> list[str]:
    """Job ids, in the order asked for, each once. Thousands of names in a run of many thousands are no trouble.

    Raises UsageError for something that matches no job, or (without a wildcard) more than one.
    """
    names = _Names(job_ids)
    found: dict[str, None] = {}
    for text in wanted:
        found.update(dict.fromkeys(names.matches(text)))
    return list(found)


class _Names:
    """What each job may be called; made when first asked for."""

    def __init__(self, job_ids: Sequence[str]) -> None:
        self._pairs = [(job, job.rsplit("/", 1)[-1]) for job in job_ids]
        self._ids = set(job_ids)
        self._by_name: dict[str, list[str]] = {}
        self._by_number: dict[int, list[str]] = {}

    def matches(self, text: str) -> list[str]:
        if text in self._ids:
            return [text]
        if any(c in text for c in "*?["):
            return self._by_pattern(text)
        found = self._named(text)
        if not found and text.isdecimal():
            found = self._numbered(int(text))
        if len(found) == 1:
            return found
        if len(found) > 1:
            raise UsageError(f"'{text}' is the name of {len(found)} jobs: {', '.join(found[:4])}; give one of these")
        raise UsageError(f"no job '{text}'.{did_you_mean(text, (name for _, name in self._pairs))}")

    def _by_pattern(self, text: str) -> list[str]:
        found = [job for job, name in self._pairs if fnmatch.fnmatchcase(job, text) or fnmatch.fnmatchcase(name, text)]
        if not found:
            raise UsageError(f"no job matches '{text}'")
        return found

    def _named(self, text: str) -> list[str]:
        if not self._by_name:
            for job, name in self._pairs:
                self._by_name.setdefault(name, []).append(job)
        return self._by_name.get(text, [])

    def _numbered(self, number: int) -> list[str]:
        """7 means 07_..., the index every name starts with."""
        if not self._by_number:
            for job, name in self._pairs:
                start = name.split("_", 1)[0]
                if start.isdecimal():
                    self._by_number.setdefault(int(start), []).append(job)
        return self._by_number.get(number, [])
