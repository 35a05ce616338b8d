"""Who changes the policies of a training while they train, from its flags."""

from __future__ import annotations

from collections.abc import Sequence

from sf_algo.config.per_policy import policy_rl
from sf_algo.ipc.roster import Roster
from sf_algo.learning.open_learners import OpenLearners, RunBasis
from sf_algo.paths import ExperimentPaths
from sf_algo.summaries.episodes import EpisodeWindow
from sf_algo.training.ledger import Ledger
from sf_algo.training.observing import TrainingHandle
from sf_algo.training.policies import PolicyControl, PolicyRules
from sf_algo.training.population import PopulationBasedTraining
from sf_algo.training.rules import Rules
from sf_algo.training.self_play import SelfPlay


def make_control(
    basis: RunBasis,
    learning: OpenLearners,
    ledger: Ledger,
    windows: Sequence[EpisodeWindow],
    *,
    handle: TrainingHandle,
    roster: Roster,
) -> PolicyControl:
    """How policies are changed; each begins with what the flags say of it."""
    num_roles = basis.spec.num_roles
    separate = 1 < num_roles <= basis.plan.num_policies
    return PolicyControl(
        [policy_rl(basis.config, policy.policy_id) for policy in learning.trained],
        [policy.policy_id % num_roles if separate else 0 for policy in learning.trained],
        learning.learners,
        ledger,
        windows,
        handle,
        roster,
    )


def make_rules(
    basis: RunBasis, learning: OpenLearners, control: PolicyControl, *, paths: ExperimentPaths, pool: ExperimentPaths
) -> Rules:
    """Self-play where policies meet, population-based training where it is asked for. `pool`: below which earlier
    selves are kept."""
    config, spec = basis.config, basis.spec
    rules: dict[str, PolicyRules] = {}
    if basis.has_matches:
        rules["self_play"] = SelfPlay(
            control,
            learning.learners,
            pool,
            config.sampling,
            learning.acting[len(learning.trained) :],
            num_roles=spec.num_roles,
            num_matches=basis.plan.total_trajectories // spec.num_agents,
            seed=basis.seed,
        )
    if config.pbt.with_pbt:
        rules["population"] = PopulationBasedTraining(
            config,
            spec.shaping,
            seed=basis.seed,
            path=None if config.run.benchmark else paths.population,
            matches=rules.get("self_play"),
        )
    return Rules(control, rules)
