"""What goes into an exported policy and what comes out: names, shapes, and the description that the file carries.

No torch: programs that play with such a file may import this.

Shape letters: N agents acting now, S numbers of recurrent state, K numbers of noise, W = `ActionSpec.width`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.spec import ActionSpec, Box, Discrete, EnvSpec

STATE, NOISE = "state", "noise"
ACTIONS, VALUES, NEW_STATE = "actions", "values", "new_state"
METADATA = "sf_algo"
"""Name of the description among the properties of the model."""
_FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class PolicyForm:
    """The interface of an exported policy.

    Inputs: every observation as `obs/<name>` [N, ...] in the environment's dtype, `noise` [N, K], and, where the policy
    remembers, `state` [N, S], zeros at the start of an episode. Outputs: `actions` [N, W], `values` [N] in units of
    reward, and `new_state` [N, S].
    """

    spec: EnvSpec
    state_size: int

    @property
    def obs_names(self) -> tuple[str, ...]:
        """Of the observations, in the order of the inputs."""
        return tuple(self.spec.obs)

    @property
    def inputs(self) -> tuple[str, ...]:
        own = (STATE,) if self.state_size else ()
        return (*(f"obs/{name}" for name in self.obs_names), NOISE, *own)

    @property
    def outputs(self) -> tuple[str, ...]:
        return (ACTIONS, VALUES, *((NEW_STATE,) if self.state_size else ()))

    @property
    def noise_size(self) -> int:
        """K."""
        return sum(c.n if isinstance(c, Discrete) else c.width for c in self.spec.actions.components)

    def noise(self, rng: np.random.Generator, rows: int) -> NDArray[np.float32]:
        """Noise [rows, K] with which actions are drawn as in training; zeros instead give the most probable ones."""
        return draw_noise(self.spec.actions, rng, rows)

    def description(self, **more: object) -> str:
        """The form as JSON, for programs that know nothing of this package, with what else is worth knowing."""
        obs = [{"name": n, "shape": list(s.shape), "dtype": np.dtype(s.dtype).name} for n, s in self.spec.obs.items()]
        body = {"version": _FORMAT_VERSION, "observations": obs, "state_size": self.state_size, **more}
        body |= {"noise_size": self.noise_size, "actions": [_component(c) for c in self.spec.actions.components]}
        return json.dumps(body)


def _component(component: Discrete | Box) -> dict[str, Any]:
    """Infinite bounds are None: JSON has no number for them."""
    if isinstance(component, Discrete):
        return {"kind": "discrete", "n": component.n}
    bounds = {"low": component.low, "high": component.high}
    return {"kind": "box", **{name: [x if np.isfinite(x) else None for x in row] for name, row in bounds.items()}}


def draw_noise(actions: ActionSpec, rng: np.random.Generator, rows: int) -> NDArray[np.float32]:
    """Standard Gumbel numbers for every choice of a Discrete, standard normal ones for every number of a Box."""
    blocks = [
        rng.gumbel(size=(rows, c.n)) if isinstance(c, Discrete) else rng.standard_normal((rows, c.width))
        for c in actions.components
    ]
    return np.concatenate(blocks, axis=1).astype(np.float32)
