"""A split with its slots and environments, without any process."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sf_algo.buffers.layout import TrajectoryArrays, TrajectoryLayout, make_layout
from sf_algo.envs.spec import Env
from sf_algo.rollout.env_set import EnvFault, EnvSet
from sf_algo.rollout.extras import ShapingOf
from sf_algo.rollout.policy_draw import PolicyDraw
from sf_algo.rollout.split import EnvSplit
from sf_algo.rollout.split_state import WarmUp

T = 4
S = 2


class NoWatch:
    def resetting(self, env_index: int) -> None: ...

    def stepping(self, env_index: int) -> None: ...


class FixedWarmUp(WarmUp):
    def draw_steps(self, num_envs: int) -> list[int]:
        return [self.max_steps] * num_envs


class Harness:
    """A split with its slots; acts with actions that can be told apart."""

    def __init__(
        self,
        make_env: Callable[[int], Env],
        *,
        num_envs: int = 2,
        num_slots: int = 2,
        num_policies: int = 1,
        rollout: int = T,
        remember_actions: bool = False,
        seed_every_episode: bool = False,
        warm_up_steps: int = 0,
        shaping: ShapingOf | None = None,
    ) -> None:
        spec = make_env(0).spec
        self.layout: TrajectoryLayout = make_layout(
            obs=spec.obs, actions=spec.actions, rollout=rollout, rnn_state_width=S, step_fields=spec.step_fields
        )
        self.faults: list[EnvFault] = []
        self.envs = EnvSet(
            make_env=make_env,
            env_indices=range(num_envs),
            spec=spec,
            seed=3,
            seed_every_episode=seed_every_episode,
            watch=NoWatch(),
            on_fault=self.faults.append,
        )
        self.slots = [self.layout.allocate(num_envs * spec.num_agents) for _ in range(num_slots)]
        self.split = EnvSplit(
            self.envs,
            self.slots,
            policies=PolicyDraw(num_policies=num_policies, mix=True, seed=3, roles=spec.roles),
            remember_actions=remember_actions,
            shaping=shaping,
        )
        self.warm_up_steps = warm_up_steps
        self.position = 0

    def open(self) -> None:
        rng = np.random.default_rng(0)
        self.split.open(0, FixedWarmUp(rng=rng, max_steps=self.warm_up_steps, each=True, expired=lambda: False))

    def act(self) -> bool:
        """What inference does, with action = row and recurrent state = row + 1."""
        slot, row = self.split.slot, self.split.row
        slot["actions"][row] = row
        slot["rnn_states"][row + 1] = row + 1
        return self.split.step()

    def fill_slot(self) -> TrajectoryArrays:
        while not self.act():
            pass
        return self.split.slot

    def next_slot(self) -> None:
        self.position = (self.position + 1) % len(self.slots)
        self.split.begin_slot(self.position)


def obs_column(slot: TrajectoryArrays, column: int) -> list[list[float]]:
    rows: list[list[float]] = slot["obs/obs"][:, column].tolist()
    return rows
