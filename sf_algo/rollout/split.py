"""One split: E environments of A agents each that step together and write one slot after the other.

Shape letters: E environments, A agents in each, N = E * A columns of a slot (environment e owns columns
e*A .. (e+1)*A), T rollout length. The rows of a slot and what its flags mean: `sf_algo.buffers.layout`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf_algo.buffers.layout import OBS_PREFIX, TrajectoryArrays
from sf_algo.envs.spec import EpisodeStats, ObsRow, StepResult
from sf_algo.rollout.action_log import ActionLog
from sf_algo.rollout.env_set import EnvSet
from sf_algo.rollout.episodes import EpisodeReport, EpisodeTotals, PolicyDraw


@dataclass(frozen=True, kw_only=True)
class SplitState:
    """What a split must remember to go on exactly where it is; environments are replayed."""

    row: int
    slot: TrajectoryArrays
    """The unfinished slot; row 0 of the recurrent states alone when nothing has been done in it yet."""

    episodes: list[int]
    """Number of the episode under way in each environment."""
    actions: list[NDArray[np.float32]]
    """Of each environment since its reset: [steps, A, width]."""
    awaiting_reset: list[bool]
    counted: list[bool]
    policy_ids: NDArray[np.int32]
    total_rewards: NDArray[np.float64]
    total_steps: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """Random steps before the first rollout, so that the episodes of a run do not all begin and end
    together."""

    rng: np.random.Generator
    max_steps: int
    """Every environment draws its number of steps from 0 to this."""
    each: bool
    """Every environment draws for itself; otherwise all take the same number."""
    expired: Callable[[], bool]
    """Ends the steps early."""

    def draw_steps(self, num_envs: int) -> list[int]:
        drawn: list[int] = self.rng.integers(self.max_steps + 1, size=num_envs).tolist()
        return drawn if self.each else [drawn[0]] * num_envs


class EnvSplit:
    """Steps the environments of one split. The caller sees to it that the actions of row t are in the slot
    before `step`, and that the slot given to `begin_slot` is free."""

    def __init__(
        self,
        envs: EnvSet,
        slots: Sequence[TrajectoryArrays],
        *,
        policies: PolicyDraw,
        remember_actions: bool = False,
    ) -> None:
        """`slots` are the split's own, each [T or T+1, N, ...]; `remember_actions` makes `state` possible."""
        self._envs = envs
        self._slots = slots
        self._policies = policies
        self.num_agents = envs.spec.num_agents
        self.num_columns = len(envs) * self.num_agents
        self.rollout = len(slots[0]["rewards"])
        self.row = 0
        self.slot = slots[0]
        self._obs_fields = [(name, OBS_PREFIX + name) for name in envs.spec.obs]
        self._columns = [slice(e * self.num_agents, (e + 1) * self.num_agents) for e in range(len(envs))]
        self._awaiting_reset = [False] * len(envs)
        self._counted = [True] * len(envs)
        self._policy_ids = np.zeros(self.num_columns, np.int32)
        self._totals = EpisodeTotals(self.num_columns)
        self._log = ActionLog(self._columns) if remember_actions else None
        self._ended: list[tuple[int, EpisodeStats | None, NDArray[np.int32] | None]] = []
        self.finished: list[EpisodeReport] = []
        """Episodes that ended since the caller last cleared this list."""

    def open(self, position: int, warm_up: WarmUp) -> None:
        """Make and reset every environment, warm it up and write row 0 of that slot."""
        self._envs.open_all()
        self.slot, self.row = self._slots[position], 0
        rows = self._rows(0)
        self.slot["rnn_states"][0] = 0.0
        steps = warm_up.draw_steps(len(self._envs))
        for e, env_rows in enumerate(rows):
            self._begin_episode(e, env_rows)
            self._warm_up(e, steps[e], env_rows, warm_up)
        self.slot["policy_id"][0] = self._policy_ids

    def _warm_up(self, e: int, steps: int, rows: Sequence[ObsRow], warm_up: WarmUp) -> None:
        for _ in range(steps):
            if warm_up.expired():
                return
            actions = self._envs.spec.sample_actions(warm_up.rng, rows)
            result = self._envs.try_step(e, actions, rows)
            if self._log:
                self._log.append_one(e, actions)
            self._counted[e] = False
            if result is None or result.terminated[0] or result.truncated[0]:
                self._begin_episode(e, rows)

    def begin_slot(self, position: int) -> None:
        """Go on in another slot: what stood in row T of the last one is row 0 of this one."""
        last, self.slot = self.slot, self._slots[position]
        for _, key in self._obs_fields:
            self.slot[key][0] = last[key][self.rollout]
        self.slot["rnn_states"][0] = last["rnn_states"][self.rollout]
        self.slot["policy_id"][0] = self._policy_ids
        self.row = 0

    def step(self) -> bool:
        """Carry out the actions of the current row and write the next one. True when the slot is full."""
        t, slot = self.row, self.slot
        actions, rewards, valid = slot["actions"][t], slot["rewards"][t], slot["valid"][t]
        slot["reset_after"][t] = slot["terminated"][t] = slot["truncated"][t] = False
        if self._log:
            self._log.append(actions)
        several, try_step, awaiting_reset = self.num_agents > 1, self._envs.try_step, self._awaiting_reset
        actions = actions.reshape(len(self._columns), self.num_agents, -1)
        for e, (env_actions, env_rows) in enumerate(zip(actions, self._rows(t + 1), strict=True)):
            result = None if awaiting_reset[e] else try_step(e, env_actions, env_rows)
            if result is None:
                self._skip_row(e, t, env_rows)
                continue
            step_rewards, terminated, truncated, active, _ = result
            if several:
                rewards[self._columns[e]] = step_rewards
                valid[self._columns[e]] = active
            else:
                rewards[e] = step_rewards[0]
                valid[e] = active[0]
            if terminated[0] or truncated[0]:
                self._end_episode(e, t, result, env_rows)
        self._totals.rewards += rewards
        self._totals.steps += valid
        if self._ended:
            self._report_ended()
        self.row = t + 1
        if self.row < self.rollout:
            slot["policy_id"][self.row] = self._policy_ids
        return self.row == self.rollout

    def _rows(self, t: int) -> list[list[ObsRow]]:
        """The observation views of all environments' agents at row t."""
        arrays = [(name, self.slot[key][t]) for name, key in self._obs_fields]
        if len(arrays) == 1 and arrays[0][1].ndim > 1 and self.num_agents == 1:
            name, array = arrays[0]
            return [[{name: view}] for view in array]
        return [
            [{name: array[n, ...] for name, array in arrays} for n in range(columns.start, columns.stop)]
            for columns in self._columns
        ]

    def _begin_episode(self, e: int, rows: Sequence[ObsRow]) -> None:
        if self._envs.try_go_on(e, rows):
            return  # same game, same policy; the actions since the game began bring it back
        self._envs.begin_episode(e, rows)
        columns = self._columns[e]
        self._policy_ids[columns] = self._policies.draw(
            env_index=self._envs.env_indices[e], episode=self._envs.episodes[e], num_agents=self.num_agents
        )
        self._awaiting_reset[e] = False
        self._counted[e] = True
        if self._log:
            self._log.restart(e)

    def _skip_row(self, e: int, t: int, rows: Sequence[ObsRow]) -> None:
        """Row t is a filler row, or one that the environment did not survive: a new episode begins in t+1."""
        columns = self._columns[e]
        self.slot["rewards"][t, columns] = 0.0
        self.slot["valid"][t, columns] = False
        self._new_episode_after(e, t, rows)
        self._totals.clear(columns)

    def _new_episode_after(self, e: int, t: int, rows: Sequence[ObsRow]) -> None:
        columns = self._columns[e]
        self.slot["reset_after"][t, columns] = True
        self.slot["rnn_states"][t + 1, columns] = 0.0
        self._begin_episode(e, rows)

    def _end_episode(self, e: int, t: int, result: StepResult, rows: Sequence[ObsRow]) -> None:
        columns = self._columns[e]
        truncated = self.slot["truncated"][t, columns]
        self.slot["terminated"][t, columns] = result.terminated
        truncated[:] = result.truncated & ~result.terminated
        self._envs.finished_episode(e)
        policy_ids = self._policy_ids[columns].copy() if self._counted[e] else None
        self._ended.append((e, result.episode, policy_ids))
        if truncated.any():
            self._awaiting_reset[e] = True
        else:
            self._new_episode_after(e, t, rows)

    def _report_ended(self) -> None:
        for e, stats, policy_ids in self._ended:
            columns = self._columns[e]
            if policy_ids is not None:  # None: part of it was played at random
                for agent, policy_id in enumerate(policy_ids.tolist()):
                    self.finished.append(self._totals.report(columns.start + agent, policy_id, stats, agent))
            self._totals.clear(columns)
        self._ended.clear()

    def close(self) -> None:
        self._envs.close()

    def state(self) -> SplitState:
        """Where the split stands, before the actions of the current row; needs `remember_actions`."""
        assert self._log is not None, "the split was not told to remember its actions"
        slot = self.slot if self.row else {"rnn_states": self.slot["rnn_states"][:1]}
        return SplitState(
            row=self.row,
            slot={name: array.copy() for name, array in slot.items()},
            episodes=list(self._envs.episodes),
            actions=[self._log.episode(e) for e in range(len(self._envs))],
            awaiting_reset=list(self._awaiting_reset),
            counted=list(self._counted),
            policy_ids=self._policy_ids.copy(),
            total_rewards=self._totals.rewards.copy(),
            total_steps=self._totals.steps.copy(),
        )

    def restore(self, state: SplitState, position: int) -> None:
        """Instead of `open`: replay the episodes under way and go on in that slot."""
        self._envs.open_all()
        self.slot, self.row = self._slots[position], state.row
        for e, env_rows in enumerate(self._rows(self.row)):
            self._envs.reset_to(e, state.episodes[e], env_rows)
            if self._log:
                self._log.restart(e)
            for actions in state.actions[e]:
                if self._envs.goes_on(e):
                    self._envs.go_on(e, env_rows)
                self._envs.step(e, actions, env_rows)
                if self._log:
                    self._log.append_one(e, actions)
            if self._envs.goes_on(e):
                self._envs.go_on(e, env_rows)
        self._awaiting_reset = list(state.awaiting_reset)
        self._counted = list(state.counted)
        self._policy_ids[:] = state.policy_ids
        self._totals.rewards[:] = state.total_rewards
        self._totals.steps[:] = state.total_steps
        for name, array in state.slot.items():
            self.slot[name][: len(array)] = array
        self.slot["policy_id"][self.row] = self._policy_ids
