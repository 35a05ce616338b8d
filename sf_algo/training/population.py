"""Population-based training of a running training: when policies have their turns, and what is told of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from sf_algo.config import Config, PbtConfig
from sf_algo.config.learner import LearnerConfig
from sf_algo.config.per_policy import SHAPING_PREFIX, policy_rl, policy_shaping, values_of
from sf_algo.own.shaping import nest
from sf_algo.population import mutation
from sf_algo.population.exchange import Exchange, Member, PopulationRules, is_due, update
from sf_algo.population.mutation import MutationRules, Tunable
from sf_algo.rollout.episodes import MatchReport
from sf_algo.training.observing import TrainingHandle
from sf_algo.training.policies import Exchanged, PolicyControl, PolicyRules
from sf_algo.training.population_log import PopulationLog
from sf_algo.training.rules import RATING_TAG

log = logging.getLogger(__name__)

RATING = "rating"
"""The objective that is the rating of matches."""
_LAST_UPDATE, _EXCHANGES, _TAKEN_OVER, _SHAPING_BEGUN = "last_update", "exchanges", "taken_over", "shaping_begun_with"


class PopulationBasedTraining:
    """`PolicyRules` that exchange policies. Nothing waits for a policy that learns slowly or ends no episode: it has
    its turn when it can be ranked."""

    def __init__(
        self,
        config: Config,
        shaping: Mapping[str, float],
        *,
        seed: int,
        path: Path | None,
        matches: PolicyRules | None = None,
    ) -> None:
        """`shaping`: the environment's reward shaping at the start, by full names. `path`: of `pbt.jsonl`; None:
        nothing is written. `matches`: who rates policies, where they meet."""
        self._matches = matches
        num_policies = config.sampling.num_policies
        self._pbt = config.pbt
        self._rules = rules_of(config.pbt)
        self._seed = seed
        self._tunables = tunables_of(config, shaping)
        tuned = [tunable.name for tunable in self._tunables]
        self._names = list(dict.fromkeys([*tuned, *values_of(config, 0)]))
        """What a policy takes over beside weights: all that mutates, and all in which policies differ at the start."""
        self._begun_with = [
            values_in(policy_rl(config, p), {**shaping, **policy_shaping(config, p)}, self._names)
            for p in range(num_policies)
        ]
        self._log = PopulationLog(path, config.pbt.pbt_target_objective)
        self._last_update: list[int | None] = [None] * num_policies
        self._exchanges, self._taken_over = [0] * num_policies, [0] * num_policies
        self._last_donor: list[int | None] = [None] * num_policies
        self._values: list[dict[str, float]] = [dict(values) for values in self._begun_with]
        self._told_unknown_objective = False
        self._has_begun = False

    def step(self, control: PolicyControl) -> None:
        if not self._has_begun:
            self._begin(control)
        if not any(is_due(self._sketch(control, policy), self._rules) for policy in control.trained):
            return
        members = [self._member(control, policy) for policy in control.trained]
        self._tell_unknown_objective(control, members)
        for exchange in update(members, self._rules, self._tunables, seed=self._seed):
            self._last_update[exchange.policy] = members[exchange.policy].clock
            if not exchange.is_nothing:
                self._ask(control, exchange)

    def on_matches(self, matches: Sequence[MatchReport]) -> None:
        """Their results are statistics of episodes."""

    def summaries(self, policy: int) -> dict[str, float]:
        values = {f"zz_pbt/{name}": value for name, value in self._values[policy].items()}
        counts = {"zz_pbt/exchanges": self._exchanges[policy], "zz_pbt/taken_over": self._taken_over[policy]}
        return {**values, **{name: float(count) for name, count in counts.items()}}

    def results(self, policy: int) -> dict[str, Any]:
        """For `results.json`."""
        return {
            "hyperparameters": dict(self._values[policy]),
            "begun_with": dict(self._begun_with[policy]),
            "exchanges": self._exchanges[policy],
            "taken_over": self._taken_over[policy],
            "last_donor": self._last_donor[policy],
        }

    def state(self, policy: int) -> dict[str, Any]:
        return {
            _LAST_UPDATE: self._last_update[policy],
            _EXCHANGES: self._exchanges[policy],
            _TAKEN_OVER: self._taken_over[policy],
            "last_donor": self._last_donor[policy],
        }

    def restore(self, policy: int, state: Mapping[str, Any]) -> None:
        self._last_update[policy] = state[_LAST_UPDATE]
        self._exchanges[policy] = int(state[_EXCHANGES])
        self._taken_over[policy] = int(state[_TAKEN_OVER])
        self._last_donor[policy] = state["last_donor"]

    def _begin(self, control: PolicyControl) -> None:
        """Every start tells what each policy is, so that the log is right whatever a crash has undone."""
        self._has_begun = True
        for policy in control.trained:
            self._values[policy] = self._values_of(control, policy)
            self._log.start(
                policy,
                frames=control.frames(policy),
                total_frames=control.ledger.trained_frames,
                policy_version=control.version(policy),
                exchanges=self._exchanges[policy],
                values=self._values[policy],
            )
            moved = _moves(self._begun_with[policy], self._values[policy])
            if moved:
                log.info("population: policy %d goes on with %s", policy, moved)

    def _sketch(self, control: PolicyControl, policy: int) -> Member:
        """As much of a member as says whether it is due."""
        return Member(policy=policy, clock=_clock(control), last_update=self._last_update[policy])

    def _member(self, control: PolicyControl, policy: int) -> Member:
        return Member(
            policy=policy,
            role=control.role(policy),
            clock=_clock(control),
            last_update=self._last_update[policy],
            objective=self._averages(control, policy).get(self._pbt.pbt_target_objective),
            # Who is just becoming another one can neither be ranked nor give.
            has_learned=control.frames(policy) > 0 and not control.busy(policy),
            values=self._values_of(control, policy),
            begun_with=self._begun_with[policy],
        )

    def _averages(self, control: PolicyControl, policy: int) -> dict[str, float]:
        """What policies can be ranked by; nothing before an episode of the policy has ended."""
        averages = control.averages(policy)
        rating = None if self._matches is None else self._matches.summaries(policy).get(RATING_TAG)
        return averages if not averages or rating is None else {**averages, RATING: rating}

    def _values_of(self, control: PolicyControl, policy: int) -> dict[str, float]:
        return values_in(control.hyperparameters(policy), control.shaping(policy), self._names)

    def _ask(self, control: PolicyControl, exchange: Exchange) -> None:
        policy, values = exchange.policy, exchange.overrides
        rl = control.hyperparameters(policy)
        learning = {name: value for name, value in values.items() if not name.startswith(SHAPING_PREFIX)}
        shaping = {n.removeprefix(SHAPING_PREFIX): v for n, v in values.items() if n not in learning}
        control.exchange(
            policy,
            donor=exchange.donor,
            overrides={n: round(v) if isinstance(getattr(rl, n), int) else v for n, v in learning.items()},
            shaping=shaping or None,
            on_done=lambda done: self._done(control, exchange, done),
        )

    def _done(self, control: PolicyControl, exchange: Exchange, done: Exchanged) -> None:
        policy = exchange.policy
        if done.error:
            log.warning("population: the exchange of policy %d is given up: %s", policy, done.error)
            return
        self._exchanges[policy] += 1
        self._taken_over[policy] += exchange.donor is not None
        self._last_donor[policy] = exchange.donor if exchange.donor is not None else self._last_donor[policy]
        self._values[policy] = self._values_of(control, policy)
        log.info("%s", _told(exchange, self._pbt.pbt_target_objective))
        self._log.exchange(
            policy,
            frames=done.frames,
            total_frames=control.ledger.trained_frames,
            policy_version=done.policy_version,
            number=self._exchanges[policy],
            donor=exchange.donor,
            objective=exchange.objective,
            donor_objective=exchange.donor_objective,
            values=self._values[policy],
            changed={name: list(pair) for name, pair in exchange.changed.items()},
        )

    def _tell_unknown_objective(self, control: PolicyControl, members: Sequence[Member]) -> None:
        known = [self._averages(control, member.policy) for member in members]
        if self._told_unknown_objective or any(member.objective is not None for member in members) or not any(known):
            return
        self._told_unknown_objective = True
        names = dict.fromkeys(name for averages in known for name in averages)
        log.warning(
            "--pbt_target_objective=%s: no episode has it, so the population does not change; they have %s",
            self._pbt.pbt_target_objective,
            ", ".join(names),
        )


def _clock(control: PolicyControl) -> int:
    """Frames that a policy has been trained on, on average."""
    return control.ledger.trained_frames // len(control.trained)


def begin_with_shaping(handle: TrainingHandle, config: Config) -> None:
    """What `--per_policy` says of reward shaping."""
    for policy in range(config.sampling.num_policies):
        if own := policy_shaping(config, policy):
            handle.set_shaping(policy, nest(own))


def rules_of(pbt: PbtConfig) -> PopulationRules:
    """What the flags say of turns and mutations."""
    return PopulationRules(
        period_frames=pbt.pbt_period_env_steps,
        start_frames=pbt.pbt_start_mutation,
        replace_fraction=pbt.pbt_replace_fraction,
        gap=pbt.pbt_replace_reward_gap,
        gap_absolute=pbt.pbt_replace_reward_gap_absolute,
        mutation=MutationRules(
            rate=pbt.pbt_mutation_rate, factor_min=pbt.pbt_perturb_min, factor_max=pbt.pbt_perturb_max
        ),
    )


def tunables_of(config: Config, shaping: Mapping[str, float]) -> list[Tunable]:
    """What mutates in this training."""
    rl = config.rl
    found = [*mutation.LEARNING, *mutation.shaping(shaping)]
    if rl.lr_schedule.startswith("kl_adaptive"):  # the schedule moves it
        found = [tunable for tunable in found if tunable.name != "learning_rate"]
    if config.pbt.pbt_optimize_gamma:
        found.append(mutation.GAMMA)
    if config.pbt.pbt_optimize_batch_size:
        found.append(mutation.batch_size(rollout=rl.rollout, largest=rl.batch_size * rl.num_batches_per_iteration))
    return found


def values_in(rl: LearnerConfig, shaping: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """The numbers of a policy by name, those of `names` that there are."""
    numbers = {one.name: getattr(rl, one.name) for one in fields(rl)}
    numbers |= {SHAPING_PREFIX + name: value for name, value in shaping.items()}
    return {name: float(numbers[name]) for name in names if name in numbers}


def _told(exchange: Exchange, objective: str) -> str:
    """The log's line."""
    moved = ", ".join(f"{name} {before:.4g} -> {after:.4g}" for name, (before, after) in exchange.changed.items())
    who = f"population: policy {exchange.policy} ({objective} {exchange.objective:.4g})"
    if exchange.donor is None:
        return f"{who} mutates: {moved}"
    taken = f"{who} takes over from policy {exchange.donor} ({exchange.donor_objective:.4g})"
    return f"{taken}: {moved}" if moved else taken


def _moves(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {after[name]:.4g}" for name in after if after[name] != before.get(name))
