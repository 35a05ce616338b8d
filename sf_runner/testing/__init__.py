"""Fakes for tests of code that uses the runner: no GPU, no clock and no process needed."""
