"""Helpers that descriptions for Sample Factory 2.x import."""

from sf_runner.describe.params import seeds

__all__ = ["seeds"]
