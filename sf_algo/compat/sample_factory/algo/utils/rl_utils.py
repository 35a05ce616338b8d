"""Left out, and said so: what reaches into the other program's sampler."""

from __future__ import annotations

from typing import Any

from sf_algo.errors import SfAlgoError


def prepare_and_normalize_obs(model: Any, obs: Any) -> Any:
    """Raises SfAlgoError: a policy of ours normalizes for itself."""
    raise SfAlgoError(
        "prepare_and_normalize_obs is not in the compatibility module: our networks normalize observations themselves"
    )
