"""Left out, and said so: networks made outside of a training."""

from __future__ import annotations

from typing import Any

from sf_algo.errors import SfAlgoError


def create_actor_critic(cfg: Any, obs_space: Any, action_space: Any) -> Any:
    """Raises SfAlgoError."""
    raise SfAlgoError(
        "create_actor_critic is not in the compatibility module: load a trained policy with sf_algo.load_policy "
        "(docs/own_environments.md)"
    )
