"""What the commands of DeepMind Lab share in reading their arguments."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """A whole number of at least 1. Raises ArgumentTypeError or ValueError, which argparse tells."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number
