"""What a project has registered. It is filled before processes are forked, so all of them know it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sf_algo.errors import SfAlgoError


class ModelFactory:
    """Makers of parts of the network: `encoder(cfg, obs_space)`, `core(cfg, core_input_size)` and
    `decoder(cfg, decoder_input_size)`, each with `get_out_size()`."""

    def __init__(self) -> None:
        self.makers: dict[str, Callable[..., Any]] = {}

    def register_encoder_factory(self, make: Callable[..., Any]) -> None:
        self.makers["encoder"] = make

    def register_model_core_factory(self, make: Callable[..., Any]) -> None:
        self.makers["core"] = make

    def register_decoder_factory(self, make: Callable[..., Any]) -> None:
        self.makers["decoder"] = make

    def register_actor_critic_factory(self, make: Callable[..., Any]) -> None:
        """Raises SfAlgoError: whole networks are called in another way here."""
        raise SfAlgoError(
            "register_actor_critic_factory is not in the compatibility module; give the network's import path with "
            "--actor_critic_custom (docs/own_environments.md)"
        )


@dataclass
class Context:
    """All registrations of this process."""

    envs: dict[str, Callable[..., Any]] = field(default_factory=dict)
    models: ModelFactory = field(default_factory=ModelFactory)
    cfg: Any = None
    """The configuration that was parsed last: makers of environments and networks get it."""


CONTEXT = Context()
