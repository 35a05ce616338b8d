"""How long succeeded attempts took, as a mean that is kept while they end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True)
class Durations:
    """Running mean and variance (Welford) of the wall times of succeeded attempts, in seconds."""

    count: int = 0
    mean_s: float = 0.0
    m2: float = 0.0

    def add(self, duration_s: float) -> None:
        self.count += 1
        delta = duration_s - self.mean_s
        self.mean_s += delta / self.count
        self.m2 += delta * (duration_s - self.mean_s)

    @property
    def stddev_s(self) -> float:
        return (self.m2 / (self.count - 1)) ** 0.5 if self.count > 1 else 0.0
