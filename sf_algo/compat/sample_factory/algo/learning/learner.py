"""Left out, and said so: subclasses of the learner and reading of old checkpoints."""

from __future__ import annotations

from typing import Any

from sf_algo.errors import SfAlgoError


class Learner:
    """Importable, so that modules which only mention it load. Using it raises SfAlgoError."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise SfAlgoError(_WHY)

    @staticmethod
    def checkpoint_dir(*args: Any) -> str:
        raise SfAlgoError(_WHY)

    @staticmethod
    def get_checkpoints(*args: Any) -> list[str]:
        raise SfAlgoError(_WHY)

    @staticmethod
    def load_checkpoint(*args: Any) -> Any:
        raise SfAlgoError(_WHY)


_WHY = (
    "the learner of Sample Factory is not in the compatibility module: losses of your own are App(losses=...), and "
    "trained policies are loaded with sf_algo.load_policy (docs/own_environments.md)"
)
