"""Names of types in projects' annotations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from gymnasium import spaces

Config: TypeAlias = Any
ObsSpace: TypeAlias = spaces.Dict
ActionSpace: TypeAlias = "spaces.Space[Any]"
PolicyID: TypeAlias = int
Env: TypeAlias = Any
CreateEnvFunc: TypeAlias = Callable[..., Any]
