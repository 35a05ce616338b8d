"""Where projects find observers."""

from __future__ import annotations

from sf_algo.compat.sample_factory.runner import AlgoObserver, Runner

__all__ = ["AlgoObserver", "Runner"]
