"""Asynchronous PPO: the trainer that the runner's jobs usually start."""

__version__ = "0.1.0"
