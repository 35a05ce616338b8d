"""One split: E environments of A agents each that step together and write one slot after the other.

Shape letters: E environments, A agents in each, N = E * A columns of a slot (environment e owns columns
e*A .. (e+1)*A), T rollout length. The rows of a slot and what its flags mean: `sf_algo.buffers.layout`.

Agents end one by one. Where the environment is reset by the split, who has ended waits for the others; where it resets
itself (`EnvSpec.autoreset`), every agent has episodes of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sf_algo.buffers.layout import OBS_PREFIX, TrajectoryArrays
from sf_algo.envs.spec import EpisodeStats, ObsTarget, StepResult
from sf_algo.rollout.action_log import ActionLog
from sf_algo.rollout.env_set import EnvSet
from sf_algo.rollout.episodes import EpisodeReport, EpisodeTotals, PolicyDraw


@dataclass(frozen=True, kw_only=True)
class SplitState:
    """What a split must remember to go on exactly where it is; environments are replayed. Those that reset themselves
    begin anew: what they did since their only reset may be a whole training."""

    row: int
    slot: TrajectoryArrays
    """The unfinished slot; row 0 of the recurrent states alone when nothing has been done in it yet."""

    episodes: list[int]
    """Number of the episode under way in each environment."""
    actions: list[NDArray[np.float32]]
    """Of each environment since its reset: [steps, A, width]."""
    awaiting_reset: list[bool]
    counted: list[bool]
    """Of each agent: none of its episode was played at random. One per environment in older checkpoints."""
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


class _Ended(NamedTuple):
    """Episodes of agents of one environment that ended in this step."""

    columns: NDArray[np.int64]
    to_report: list[tuple[int, int]]
    """Column and policy of those that were not played at random in part."""
    first: int
    """The environment's first column."""
    stats: EpisodeStats | None


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
        self._autoreset = envs.spec.autoreset
        self._awaiting_reset = [False] * len(envs)
        self._counted = np.ones(self.num_columns, np.bool_)
        self._out = np.zeros(self.num_columns, np.bool_)
        """Agents that ended before the others of their environment."""
        self._agent_episodes = np.zeros(self.num_columns, np.int64)
        self._policy_ids = np.zeros(self.num_columns, np.int32)
        self._totals = EpisodeTotals(self.num_columns)
        self._log = ActionLog(self._columns) if remember_actions and not self._autoreset else None
        self._remembers = remember_actions
        self._ended: list[_Ended] = []
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

    def _warm_up(self, e: int, steps: int, rows: ObsTarget, warm_up: WarmUp) -> None:
        columns = self._columns[e]
        for _ in range(steps):
            if warm_up.expired():
                return
            actions = self._envs.spec.sample_actions(warm_up.rng, rows)
            result = self._envs.try_step(e, actions, rows)
            if self._log:
                self._log.append_one(e, actions)
            self._counted[columns] = False
            if result is not None and self._autoreset:
                self._counted[columns] = False if result.restarted is None else result.restarted
                continue
            if result is not None:
                self._out[columns] |= result.terminated | result.truncated
            if result is None or self._out[columns].all():
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
            step_rewards, terminated, truncated, active, *_ = result
            if not several:
                rewards[e] = step_rewards[0]
                valid[e] = active[0]
                if not active[0]:
                    self._credit_late(t, e)
                if terminated[0] or truncated[0]:
                    self._end_episode(e, t, result, env_rows)
                continue
            columns = self._columns[e]
            out = self._out[columns]
            rewards[columns] = step_rewards * ~out
            valid[columns] = active & ~out
            if not active.all():
                for column in np.flatnonzero(~active & ~out).tolist():
                    self._credit_late(t, columns.start + column)
            if self._autoreset:
                self._note_restarts(e, t, result)
                continue
            ended = terminated | truncated
            if ended.any():
                self._end_agents(e, t, result, ended, env_rows)
        self._totals.rewards += rewards
        self._totals.steps += valid
        if self._ended:
            self._report_ended()
        self.row = t + 1
        if self.row < self.rollout:
            slot["policy_id"][self.row] = self._policy_ids
        return self.row == self.rollout

    def _rows(self, t: int) -> Sequence[ObsTarget]:
        """Of each environment: what it writes the observations of row t into."""
        arrays = [(name, self.slot[key][t]) for name, key in self._obs_fields]
        if len(arrays) == 1 and arrays[0][1].ndim > 1 and self.num_agents == 1:
            name, array = arrays[0]
            return [[{name: view}] for view in array]
        spec = self._envs.spec
        return [spec.targets({name: array[columns] for name, array in arrays}) for columns in self._columns]

    def _begin_episode(self, e: int, rows: ObsTarget) -> None:
        columns = self._columns[e]
        self._out[columns] = False
        if self._envs.try_go_on(e, rows):
            return  # same game, same policy; the actions since the game began bring it back
        self._envs.begin_episode(e, rows)
        self._policy_ids[columns] = self._policies.draw(
            env_index=self._envs.env_indices[e], episode=self._envs.episodes[e], num_agents=self.num_agents
        )
        self._awaiting_reset[e] = False
        self._counted[columns] = True
        if self._log:
            self._log.restart(e)

    def _skip_row(self, e: int, t: int, rows: ObsTarget) -> None:
        """Row t is a filler row, or one that the environment did not survive: a new episode begins in t+1."""
        columns = self._columns[e]
        self.slot["rewards"][t, columns] = 0.0
        self.slot["valid"][t, columns] = False
        self._new_episode_after(e, t, rows)
        self._totals.clear(columns)

    def _new_episode_after(self, e: int, t: int, rows: ObsTarget) -> None:
        columns = self._columns[e]
        self.slot["reset_after"][t, columns] = True
        self.slot["rnn_states"][t + 1, columns] = 0.0
        self._begin_episode(e, rows)

    def _end_episode(self, e: int, t: int, result: StepResult, rows: ObsTarget) -> None:
        """The last agent of environment e, or its only one, ended."""
        columns = self._columns[e]
        news = ~self._out[columns]
        truncated = self.slot["truncated"][t, columns]
        self.slot["terminated"][t, columns] = result.terminated & news
        truncated[:] = result.truncated & ~result.terminated & news
        self._envs.finished_episode(e)
        self._note_end(np.arange(columns.start, columns.stop), columns.start, result.episode)
        if truncated.any():
            self._awaiting_reset[e] = True
        else:
            self._new_episode_after(e, t, rows)

    def _end_agents(self, e: int, t: int, result: StepResult, ended: NDArray[np.bool_], rows: ObsTarget) -> None:
        """Some agents of environment e ended. Unless they were the last, they wait for the others."""
        columns = self._columns[e]
        out = self._out[columns]
        if (out | ended).all():
            self._end_episode(e, t, result, rows)
            return
        news = ended & ~out
        self.slot["terminated"][t, columns] = result.terminated & news
        self.slot["truncated"][t, columns] = result.truncated & ~result.terminated & news
        out |= ended

    def _credit_late(self, t: int, column: int) -> None:
        """A reward that comes while an agent is out of the game is for what it did last, where that is in this slot:
        nothing is learned from row t."""
        slot = self.slot
        reward = slot["rewards"][t, column]
        if reward == 0.0:
            return
        for row in range(t - 1, -1, -1):
            if slot["reset_after"][row, column]:
                return
            if slot["valid"][row, column]:
                slot["rewards"][row, column] += reward
                slot["rewards"][t, column] = 0.0
                self._totals.rewards[column] += reward
                return

    def _note_restarts(self, e: int, t: int, result: StepResult) -> None:
        """What became of the agents of environment e, which resets itself."""
        slot, columns = self.slot, self._columns[e]
        terminated, truncated, restarted = result.terminated, result.truncated, result.restarted
        ended = terminated | truncated
        if ended.any():
            slot["terminated"][t, columns] = terminated
            slot["truncated"][t, columns] = truncated & ~terminated
            self._envs.finished_episode(e)
            self._note_end(columns.start + np.flatnonzero(ended), columns.start, result.episode)
        if restarted is None or not restarted.any():
            return
        slot["truncated"][t, columns] &= ~restarted  # without its final observation there is nothing to bootstrap from
        slot["reset_after"][t, columns] = restarted
        which = columns.start + np.flatnonzero(restarted)
        slot["rnn_states"][t + 1, which] = 0.0
        self._counted[which] = True
        self._agent_episodes[which] += 1
        if self._policies.num_policies > 1:
            for column in which.tolist():
                self._policy_ids[column] = self._policies.draw_one(
                    env_index=self._envs.env_indices[e],
                    agent=column - columns.start,
                    episode=int(self._agent_episodes[column]),
                )

    def _note_end(self, columns: NDArray[np.int64], first: int, stats: EpisodeStats | None) -> None:
        counted = columns[self._counted[columns]]
        policy_ids = self._policy_ids[counted].tolist()
        self._ended.append(_Ended(columns, list(zip(counted.tolist(), policy_ids, strict=True)), first, stats))

    def _report_ended(self) -> None:
        for ended in self._ended:
            for column, policy_id in ended.to_report:
                self.finished.append(self._totals.report(column, policy_id, ended.stats, column - ended.first))
            self._totals.clear(ended.columns)
        self._ended.clear()

    def close(self) -> None:
        self._envs.close()

    def state(self) -> SplitState:
        """Where the split stands, before the actions of the current row; needs `remember_actions`."""
        assert self._remembers, "the split was not told to remember its actions"
        slot = self.slot if self.row else {"rnn_states": self.slot["rnn_states"][:1]}
        return SplitState(
            row=self.row,
            slot={name: array.copy() for name, array in slot.items()},
            episodes=list(self._envs.episodes),
            actions=[self._log.episode(e) for e in range(len(self._envs))] if self._log else [],
            awaiting_reset=list(self._awaiting_reset),
            counted=self._counted.tolist(),
            policy_ids=self._policy_ids.copy(),
            total_rewards=self._totals.rewards.copy(),
            total_steps=self._totals.steps.copy(),
        )

    def restore(self, state: SplitState, position: int) -> None:
        """Instead of `open`: replay the episodes under way and go on in that slot."""
        self._envs.open_all()
        if self._autoreset:
            self._begin_anew(state, position)
            return
        self.slot, self.row = self._slots[position], state.row
        for e, env_rows in enumerate(self._rows(self.row)):
            self._envs.reset_to(e, state.episodes[e], env_rows)
            if self._log:
                self._log.restart(e)
            self._out[self._columns[e]] = False
            for actions in state.actions[e]:
                if self._envs.goes_on(e):
                    self._envs.go_on(e, env_rows)
                result = self._envs.step(e, actions, env_rows)
                self._out[self._columns[e]] |= result.terminated | result.truncated
                if self._log:
                    self._log.append_one(e, actions)
            if self._envs.goes_on(e):
                self._envs.go_on(e, env_rows)
        self._awaiting_reset = list(state.awaiting_reset)
        counted = np.asarray(state.counted, np.bool_)
        self._counted = np.repeat(counted, self.num_columns // len(counted))
        self._policy_ids[:] = state.policy_ids
        self._totals.rewards[:] = state.total_rewards
        self._totals.steps[:] = state.total_steps
        for name, array in state.slot.items():
            self.slot[name][: len(array)] = array
        self.slot["policy_id"][self.row] = self._policy_ids

    def _begin_anew(self, state: SplitState, position: int) -> None:
        """In new episodes, the unfinished slot left behind."""
        self._envs.episodes[:] = state.episodes
        self.slot, self.row = self._slots[position], 0
        self.slot["rnn_states"][0] = 0.0
        for e, rows in enumerate(self._rows(0)):
            self._begin_episode(e, rows)
        self.slot["policy_id"][0] = self._policy_ids
