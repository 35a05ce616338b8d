"""One experiment's values of one metric over its training: from what was written to one clean curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ValueRule = Literal["last", "tail", "best", "mean"]
"""How a curve becomes one number: its last value, the mean over the last tenth of its steps, its best value, or the
mean over all steps (the normalised area under the curve)."""

TAIL_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Values written by one process in one go, all arrays [N].

    start_step: the step at which the process says it began; what earlier ones wrote from there on no longer counts.
        None: it says nothing.
    begin_unix_s: when it began, before its first value; None: nobody says.
    """

    steps: Floats
    values: Floats
    times_unix_s: Floats
    start_step: float | None = None
    begin_unix_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Finite values, steps strictly ascending. Arrays are [N], N >= 0.

    elapsed_s: time since the beginning (the first value, where nobody says when that was), the pauses between attempts
        left out.
    superseded: values that a resumed attempt wrote anew.
    not_finite: values that were NaN or infinite and are left out.
    ends_not_finite: the last value was one of them, so that there is no result.
    """

    steps: Floats
    values: Floats
    elapsed_s: Floats
    superseded: int = 0
    not_finite: int = 0
    ends_not_finite: bool = False

    def __len__(self) -> int:
        return len(self.steps)

    def best(self, *, lower_is_better: bool) -> float | None:
        """The best value; None for a curve without values."""
        if not len(self):
            return None
        return float(self.values.min() if lower_is_better else self.values.max())

    def value(self, rule: ValueRule, *, lower_is_better: bool = False) -> float | None:
        """The curve as one number. None when it has no values or ends in one that is not finite."""
        if not len(self) or self.ends_not_finite:
            return None
        if rule == "last":
            return float(self.values[-1])
        if rule == "best":
            return self.best(lower_is_better=lower_is_better)
        first, last = self.steps[0], self.steps[-1]
        if rule == "tail":
            return float(self.values[self.steps >= last - TAIL_SHARE * (last - min(first, 0.0))].mean())
        if last == first:
            return float(self.values[-1])
        widths = np.diff(self.steps)
        return float((0.5 * (self.values[1:] + self.values[:-1]) * widths).sum() / (last - first))


EMPTY = Curve(steps=np.zeros(0), values=np.zeros(0), elapsed_s=np.zeros(0))


def join(segments: Sequence[Segment]) -> Curve:
    """One curve from the segments of all attempts, in the order they were written.

    A segment that begins at or before a step that is already there replaces everything from that step on: the training
    went back to a checkpoint, or started over. Of several values at one step the last one counts.
    """
    steps, values, elapsed = np.zeros(0), np.zeros(0), np.zeros(0)
    superseded = 0
    for segment in _split(segments):
        start = segment.start_step
        if start is None and len(segment.steps):
            start = float(segment.steps[0])
        if start is not None:
            kept = int(np.searchsorted(steps, start))
            superseded += len(steps) - kept
            steps, values, elapsed = steps[:kept], values[:kept], elapsed[:kept]
        if len(segment.steps):
            begin = elapsed[-1] if len(elapsed) else 0.0
            first = segment.times_unix_s[0] if segment.begin_unix_s is None else segment.begin_unix_s
            since = np.maximum(segment.times_unix_s - first, 0.0)
            steps = np.concatenate([steps, segment.steps])
            values = np.concatenate([values, segment.values])
            elapsed = np.concatenate([elapsed, begin + since])
    last_of_step = np.append(steps[1:] != steps[:-1], True) if len(steps) else np.zeros(0, dtype=bool)
    steps, values, elapsed = steps[last_of_step], values[last_of_step], elapsed[last_of_step]
    finite = np.isfinite(values)
    return Curve(
        steps=steps[finite],
        values=values[finite],
        elapsed_s=elapsed[finite],
        superseded=superseded,
        not_finite=int((~finite).sum()),
        ends_not_finite=bool(len(finite) and not finite[-1]),
    )


def _split(segments: Sequence[Segment]) -> list[Segment]:
    """A segment in which the step falls back holds more than one attempt."""
    parts: list[Segment] = []
    for segment in segments:
        falls = np.flatnonzero(np.diff(segment.steps) < 0) + 1
        bounds = [0, *falls.tolist(), len(segment.steps)]
        for number, (begin, end) in enumerate(pairwise(bounds)):
            parts.append(
                Segment(
                    steps=segment.steps[begin:end],
                    values=segment.values[begin:end],
                    times_unix_s=segment.times_unix_s[begin:end],
                    start_step=segment.start_step if number == 0 else None,
                    begin_unix_s=segment.begin_unix_s if number == 0 else None,
                )
            )
    return parts
