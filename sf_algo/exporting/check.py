"""Is an exported policy the policy? Both are given the same observations of a game that the exported one plays.

Shape letters: A agents of the environment, S numbers of recurrent state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sf_algo.envs.spec import Discrete, Env, goes_on
from sf_algo.errors import MissingDependencyError
from sf_algo.exporting.form import ACTIONS, NEW_STATE, NOISE, STATE, VALUES, PolicyForm
from sf_algo.model.actor import Actor
from sf_algo.model.base import ActorCritic
from sf_algo.rollout.episodes import mix_seed

TOLERANCE = 1e-3
"""Of values, states and numbers of Boxes, relative to their size where that is above 1: float32, and errors of a
recurrent state add up over an episode."""
MAX_OTHER_CHOICES = 0.002
"""Share of choices that may differ: where two are equally probable to the last digits, rounding decides."""

Rows = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`other_choices` of `choices` discrete actions differed; the rest are greatest differences."""

    steps: int
    choices: int
    other_choices: int
    numbers: float
    values: float
    states: float

    @property
    def is_same(self) -> bool:
        close = max(self.numbers, self.values, self.states) <= TOLERANCE
        return close and self.other_choices <= MAX_OTHER_CHOICES * self.choices

    def __str__(self) -> str:
        parts = [f"{self.steps} steps"]
        if self.choices:
            parts.append(f"{self.other_choices} of {self.choices} choices differ")
        differences = (("numbers of actions", self.numbers), ("values", self.values), ("states", self.states))
        parts += [f"{name} differ by at most {value:.1e}" for name, value in differences]
        return ", ".join(parts)


class OnnxPolicy:
    """An exported policy in onnxruntime, on one thread."""

    def __init__(self, path: Path, form: PolicyForm) -> None:
        """Raises MissingDependencyError."""
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingDependencyError(
                "checking an exported policy needs the package onnxruntime: pip install 'sf-runner[onnx]', or "
                "--check_steps=0"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._form = form

    def step(self, obs: Mapping[str, Rows], noise: Rows, state: Rows) -> tuple[Rows, Rows, Rows]:
        """Actions [A, W], values [A], states [A, S]."""
        given = {f"obs/{name}": obs[name] for name in self._form.obs_names} | {NOISE: noise}
        if self._form.state_size:
            given[STATE] = state
        found = dict(zip(self._form.outputs, self._session.run(list(self._form.outputs), given), strict=True))
        return found[ACTIONS], found[VALUES], found.get(NEW_STATE, state)


def compare(path: Path, form: PolicyForm, model: ActorCritic, env: Env, *, steps: int, seed: int) -> Comparison:
    """Plays `steps` steps with drawn actions of the exported policy and compares the most probable ones, values and
    states with those of `model` on the CPU, each with the recurrent state that it has come to by itself."""
    agents, spec = form.spec.num_agents, form.spec
    exported, actor = OnnxPolicy(path, form), Actor(model, seed=seed, deterministic=True)
    obs = {name: one.zeros(agents) for name, one in spec.obs.items()}
    tensors = {name: torch.from_numpy(array) for name, array in obs.items()}
    target, rng = spec.targets(obs), np.random.default_rng(seed)
    silent = np.zeros((agents, form.noise_size), np.float32)
    mine, theirs = torch.zeros(agents, form.state_size), np.zeros((agents, form.state_size), np.float32)
    found = _Differences(form)
    playing = np.zeros(agents, np.bool_)
    for step in range(steps):
        if not playing.any():
            env.reset(target, seed=mix_seed(seed, 0, step))
            mine, theirs = torch.zeros_like(mine), np.zeros_like(theirs)
            playing[:] = True
        acted = actor.step(tensors, mine)
        actions, values, states = exported.step(obs, silent, theirs)
        found.add(acted.actions.numpy(), actions, acted.values.numpy(), values, acted.rnn_states.numpy(), states)
        drawn, _, _ = exported.step(obs, form.noise(rng, agents), theirs)
        mine, theirs = acted.rnn_states.clone(), states.copy()
        result = env.step(drawn, target)
        if (result.terminated[0] or result.truncated[0]) and goes_on(env):
            env.reset(target)
            mine, theirs = torch.zeros_like(mine), np.zeros_like(theirs)
        elif spec.autoreset:
            restarted = result.restarted if result.restarted is not None else np.zeros(agents, np.bool_)
            mine[torch.from_numpy(restarted)], theirs[restarted] = 0.0, 0.0
        else:
            playing &= ~(result.terminated | result.truncated)
    return found.comparison(steps)


class _Differences:
    def __init__(self, form: PolicyForm) -> None:
        components = zip(form.spec.actions.components, form.spec.actions.slices, strict=True)
        self._choices = np.zeros(form.spec.actions.width, np.bool_)
        for component, where in components:
            self._choices[where] = isinstance(component, Discrete)
        self._compared = self._other = 0
        self._numbers = self._values = self._states = 0.0

    def add(self, *pairs: Rows) -> None:
        """Actions, values and states of both sides."""
        mine, actions, my_values, values, my_states, states = pairs
        self._compared += int(self._choices.sum()) * len(mine)
        self._other += int((mine[:, self._choices] != actions[:, self._choices]).sum())
        self._numbers = max(self._numbers, _difference(mine[:, ~self._choices], actions[:, ~self._choices]))
        self._values = max(self._values, _difference(my_values, values))
        self._states = max(self._states, _difference(my_states, states))

    def comparison(self, steps: int) -> Comparison:
        return Comparison(
            steps=steps,
            choices=self._compared,
            other_choices=self._other,
            numbers=self._numbers,
            values=self._values,
            states=self._states,
        )


def _difference(mine: Rows, theirs: Rows) -> float:
    if not mine.size:
        return 0.0
    difference = np.abs(mine - theirs) / np.maximum(np.abs(mine), 1.0)
    return float("inf") if np.isnan(difference).any() else float(difference.max())
