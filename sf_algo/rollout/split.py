"""One split: E environments of A agents each that step together and write one slot after the other.

Shape letters: E environments, A agents in each, N = E * A columns of a slot (environment e owns columns
e*A .. (e+1)*A), T rollout length. The rows of a slot and what its flags mean: `sf_algo.buffers.layout`.

Agents end one by one. Where the environment is reset by the split, who has ended waits for the others; where it resets
itself (`EnvSpec.autoreset`), every agent has episodes of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sf_algo.buffers.layout import OBS_PREFIX, TrajectoryArrays
from sf_algo.envs.spec import ACTION_MASK, ObsTarget, StepResult
from sf_algo.rollout.action_log import ActionLog
from sf_algo.rollout.env_set import NO_CHOICE, EnvSet
from sf_algo.rollout.episodes import EpisodeEnds, EpisodeReport
from sf_algo.rollout.extras import ShapingOf, SplitExtras
from sf_algo.rollout.matches import Players
from sf_algo.rollout.policy_draw import PolicyDraw
from sf_algo.rollout.soundness import RowCheck, all_finite
from sf_algo.rollout.split_state import SplitState, WarmUp


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
        shaping: ShapingOf | None = None,
    ) -> None:
        """`slots` are the split's own, each [T or T+1, N, ...]; `remember_actions` makes `state` possible. `shaping`:
        the reward shaping of a policy, None for that which the environment begins with."""
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
        self._extras = SplitExtras(envs, self._columns, shaping)
        self._autoreset = envs.spec.autoreset
        self._several = self.num_agents > 1 or self._autoreset
        self._awaiting_reset = [False] * len(envs)
        self._out = np.zeros(self.num_columns, np.bool_)
        """Agents that ended before others of their environment, or whose episode was given up where it resets them."""
        self._agent_episodes = np.zeros(self.num_columns, np.int64)
        self._policy_ids = np.zeros(self.num_columns, np.int32)
        self._players = Players(policies, self._policy_ids, meet=self.num_agents > 1 and not self._autoreset)
        self._ends = EpisodeEnds(self.num_columns)
        self._log = ActionLog(self._columns) if remember_actions and not self._autoreset else None
        self._remembers = remember_actions
        self._check = RowCheck(envs.spec)
        self._has_mask = ACTION_MASK in envs.spec.obs
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
        self._extras.forget()
        self._look_at_row()
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
            self._ends.counted[columns] = False
            if result is not None and self._autoreset:
                self._ends.counted[columns] = False if result.restarted is None else result.restarted
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
        several, try_step, awaiting_reset = self._several, self._envs.try_step, self._awaiting_reset
        actions = actions.reshape(len(self._columns), self.num_agents, -1)
        ends: list[tuple[int, StepResult, ObsTarget]] = []
        self._envs.begin_steps(actions, awaiting_reset)
        for e, (env_actions, env_rows) in enumerate(zip(actions, self._rows(t + 1), strict=True)):
            result = None if awaiting_reset[e] else try_step(e, env_actions, env_rows)
            if result is None:
                self._skip_row(e, t, env_rows)
                continue
            if several:
                if self._take_several(e, t, result):
                    ends.append((e, result, env_rows))
                continue
            step_rewards, terminated, truncated, active, *_ = result
            rewards[e] = step_rewards[0]
            valid[e] = active[0]
            if not active[0]:
                self._ends.credit_late(slot, t, e)
            if terminated[0] or truncated[0]:
                ends.append((e, result, env_rows))
        self._extras.write_fields(slot, t)
        if not all_finite(rewards):
            ends = self._without_unsound_rewards(t, ends)
        for e, result, final_rows in ends:
            self._note_ends(e, t, result, final_rows)
        self._ends.totals.rewards += rewards
        self._ends.totals.steps += valid
        if self._ends.pending:
            self.finished += self._ends.take()
        self.row = t + 1
        if self._has_mask or not self._check.is_sound(slot, t + 1):
            self._look_at_row()
        if self.row < self.rollout:
            slot["policy_id"][self.row] = self._policy_ids
        return self.row == self.rollout

    def _take_several(self, e: int, t: int, result: StepResult) -> bool:
        """Write what several agents got. True where some of them ended or began anew."""
        columns = self._columns[e]
        out = self._out[columns]
        self.slot["rewards"][t, columns] = np.where(out, 0.0, result.rewards)
        self.slot["valid"][t, columns] = result.active & ~out
        if not result.active.all():
            for column in np.flatnonzero(~result.active & ~out).tolist():
                self._ends.credit_late(self.slot, t, columns.start + column)
        return result.restarted is not None or bool((result.terminated | result.truncated).any())

    def _rows(self, t: int) -> Sequence[ObsTarget]:
        """Of each environment: what it writes the observations of row t into."""
        arrays = [(name, self.slot[key][t]) for name, key in self._obs_fields]
        if len(arrays) == 1 and arrays[0][1].ndim > 1 and self.num_agents == 1 and not self._autoreset:
            name, array = arrays[0]
            return [[{name: view}] for view in array]
        spec = self._envs.spec
        return [spec.targets({name: array[columns] for name, array in arrays}) for columns in self._columns]

    def _without_unsound_rewards(
        self, t: int, ends: list[tuple[int, StepResult, ObsTarget]]
    ) -> list[tuple[int, StepResult, ObsTarget]]:
        """Gives up the episodes whose reward of row t is not finite; the others of `ends` have ended in earnest."""
        rewards, valid = self.slot["rewards"][t], self.slot["valid"][t]
        wrong = ~np.isfinite(rewards)
        rewards[wrong & ~valid] = 0.0  # of agents who are out of the game
        given_up = set()
        for column in np.flatnonzero(wrong & valid).tolist():
            e = column // self.num_agents
            if e not in given_up:
                self._give_up_episode(column, t, f"its reward is {rewards[column]}")
                given_up |= set() if self._autoreset else {e}
        return [end for end in ends if end[0] not in given_up]

    def _look_at_row(self) -> None:
        """Sees to it that the observations of the current row are finite, and tells of masks that forbid everything."""
        slot, row = self.slot, self.row
        t = row - 1
        while not self._check.is_sound(slot, row):
            column = self._check.unsound_columns(slot, row)[0]
            e = column // self.num_agents
            what = self._check.what_is_wrong(slot, row, column)
            if self._out[column] or (t >= 0 and not slot["valid"][t, column] and not self._begins(t, column)):
                self._check.make_finite(slot, row, column)
            elif self._autoreset or not self._begins(t, column):
                self._give_up_episode(column, t, what)
            else:
                self._envs.give_up_episode(e, what)
                self._envs.discard(e)
                self._begin_new_episode(e, self._rows(row)[e])
        for column in self._check.columns_without_choice(slot, row) if self._has_mask else ():
            e = column // self.num_agents
            playing = t < 0 or slot["valid"][t, column] or self._begins(t, column)
            if playing and not self._awaiting_reset[e] and not self._out[column]:
                self._envs.notice(e, NO_CHOICE, "its action_mask forbids every choice")

    def _begins(self, t: int, column: int) -> bool:
        """Whether the observation behind row t is the first of an episode."""
        return t < 0 or bool(self.slot["reset_after"][t, column])

    def _give_up_episode(self, column: int, t: int, what: str) -> None:
        """Nothing that the episode under way has put into this slot is trained on. A new one of all agents begins in
        row t+1; where the environment resets itself, the agent is left out until that has happened."""
        slot, e = self.slot, column // self.num_agents
        columns = slice(column, column + 1) if self._autoreset else self._columns[e]
        ended = np.flatnonzero(slot["reset_after"][: t + 1, column])
        begin = int(ended[-1]) + 1 if len(ended) else 0
        slot["valid"][begin : t + 1, columns] = False
        self._envs.give_up_episode(e, what)
        if begin <= t:
            slot["rewards"][t, columns] = 0.0
            slot["terminated"][t, columns] = slot["truncated"][t, columns] = False
        if self._autoreset:
            self._out[column], self._ends.counted[column] = True, False
            return
        slot["reset_after"][t, columns] = True
        slot["rnn_states"][t + 1, columns] = 0.0
        self._begin_new_episode(e, self._rows(t + 1)[e])
        self._ends.totals.clear(columns)

    def _begin_episode(self, e: int, rows: ObsTarget) -> None:
        if self._envs.try_go_on(e, rows):
            self._awaiting_reset[e] = False
            self._out[self._columns[e]] = False
            return  # same game, same policy; the actions since the game began bring it back
        self._begin_new_episode(e, rows)

    def _begin_new_episode(self, e: int, rows: ObsTarget) -> None:
        columns = self._columns[e]
        self._out[columns] = False
        self._envs.begin_episode(e, rows)
        self._policy_ids[columns] = self._policies.draw(
            env_index=self._envs.env_indices[e], episode=self._envs.episodes[e], num_agents=self.num_agents
        )
        self._players.begin(columns)
        self._awaiting_reset[e] = False
        self._ends.counted[columns] = True
        self._extras.shape(e, range(columns.start, columns.stop), self._policy_ids)
        if self._log:
            self._log.restart(e)

    def _skip_row(self, e: int, t: int, rows: ObsTarget) -> None:
        """Row t is a filler row, or one that the environment did not survive: a new episode begins in t+1."""
        columns = self._columns[e]
        self.slot["rewards"][t, columns] = 0.0
        self.slot["valid"][t, columns] = False
        if self._log:
            self._log.ignore_last(e)
        self._new_episode_after(e, t, rows)
        self._ends.totals.clear(columns)

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
        self._note(e, np.arange(columns.start, columns.stop), result)
        if truncated.any():
            self._awaiting_reset[e] = True
        else:
            self._new_episode_after(e, t, rows)

    def _note(self, e: int, columns: NDArray[np.int64], result: StepResult) -> None:
        own, extras = self._columns[e], self._extras.of_episode(e)
        self._ends.note(columns, own.start, result.episode, self._policy_ids, extras, self._players.of_match(own))

    def _note_ends(self, e: int, t: int, result: StepResult, rows: ObsTarget) -> None:
        """Some agents of environment e ended. Unless they were the last, they wait for the others."""
        if self._autoreset:
            self._note_restarts(e, t, result)
            return
        columns = self._columns[e]
        out = self._out[columns]
        ended = result.terminated | result.truncated
        if (out | ended).all():
            self._end_episode(e, t, result, rows)
            return
        news = ended & ~out
        self.slot["terminated"][t, columns] = result.terminated & news
        self.slot["truncated"][t, columns] = result.truncated & ~result.terminated & news
        out |= ended

    def _note_restarts(self, e: int, t: int, result: StepResult) -> None:
        """What became of the agents of environment e, which resets itself."""
        slot, columns = self.slot, self._columns[e]
        terminated, truncated, restarted = result.terminated, result.truncated, result.restarted
        ended = terminated | truncated
        if ended.any():
            slot["terminated"][t, columns] = terminated
            slot["truncated"][t, columns] = truncated & ~terminated
            self._envs.finished_episode(e, int(ended.sum()))
            self._note(e, columns.start + np.flatnonzero(ended), result)
        if restarted is None or not restarted.any():
            return
        slot["truncated"][t, columns] &= ~restarted  # without its final observation there is nothing to bootstrap from
        slot["reset_after"][t, columns] = restarted
        which = columns.start + np.flatnonzero(restarted)
        slot["rnn_states"][t + 1, which] = 0.0
        self._ends.counted[which] = True
        self._out[which] = False
        self._agent_episodes[which] += 1
        if self._policies.num_policies > 1:
            for column in which.tolist():
                self._policy_ids[column] = self._policies.draw_one(
                    env_index=self._envs.env_indices[e],
                    agent=column - columns.start,
                    episode=int(self._agent_episodes[column]),
                )
        self._extras.shape(e, which.tolist(), self._policy_ids)

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
            counted=self._ends.counted.tolist(),
            policy_ids=self._policy_ids.copy(),
            members=self._players.members.copy(),
            total_rewards=self._ends.totals.rewards.copy(),
            total_steps=self._ends.totals.steps.copy(),
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
            out = self._out[self._columns[e]]
            out[:] = False
            for actions in state.actions[e]:
                if self._envs.goes_on(e):
                    self._envs.go_on(e, env_rows)
                    out[:] = False
                result = self._envs.step(e, actions, env_rows)
                out |= result.terminated | result.truncated
                if self._log:
                    self._log.append_one(e, actions)
            if self._envs.goes_on(e) and not state.awaiting_reset[e]:  # else the next row is a filler
                self._envs.go_on(e, env_rows)
                out[:] = False
        self._awaiting_reset = list(state.awaiting_reset)
        counted = np.asarray(state.counted, np.bool_)
        self._ends.counted[:] = np.repeat(counted, self.num_columns // len(counted))
        self._policy_ids[:] = state.policy_ids
        self._players.restore(state.members)
        self._extras.shape_all(self._policy_ids)
        self._extras.forget()
        self._ends.totals.rewards[:] = state.total_rewards
        self._ends.totals.steps[:] = state.total_steps
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
        self._look_at_row()
        self.slot["policy_id"][0] = self._policy_ids
