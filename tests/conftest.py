"""Settings of the whole test suite."""

from __future__ import annotations

from hypothesis import settings

# No deadline: how long an example takes says something about the machine, not about the code. The same examples at
# every run, so that a failure is about the change that was tested.
settings.register_profile("project", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("project")
