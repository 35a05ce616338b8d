"""While a cluster does not answer: wait ever longer, and mention it once."""

from __future__ import annotations

from sf_runner.backends.base import Remark
from sf_runner.basics.backoff import doubled

_LONGEST_S = 300.0


class Retry:
    """Of one kind of command. `until`: time of the steady clock before which none should be started.

    failing, again: what is said when it begins to fail and when it succeeds again.
    """

    def __init__(self, failing: str, again: str, first_s: float) -> None:
        self._failing = failing
        self._again = again
        self._first_s = first_s
        self._failures = 0
        self._mentioned = False
        self._remarks: list[Remark] = []
        self.until = 0.0

    @property
    def has_remarks(self) -> bool:
        return bool(self._remarks)

    def waits(self, now: float) -> bool:
        return now < self.until

    def failed(self, now: float, said: str) -> None:
        """A command failed in a way that should pass. Those that ran side by side count as one."""
        if now < self.until:
            return
        self.until = now + doubled(self._first_s, self._failures, _LONGEST_S)
        self._failures += 1
        if not self._mentioned:
            self._mentioned = True
            text = f"{self._failing}: {said}; submitted jobs go on, trying again ever later"
            self._remarks.append(Remark(text=text))

    def answered(self) -> None:
        self._failures, self.until = 0, 0.0
        if self._mentioned:
            self._mentioned = False
            self._remarks.append(Remark(text=self._again))

    def remarks(self) -> list[Remark]:
        """What has not been said yet."""
        remarks, self._remarks = self._remarks, []
        return remarks
