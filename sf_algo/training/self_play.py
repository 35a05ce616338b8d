"""Ratings of policies from their matches, and earlier selves as opponents.

An opponent is a policy that acts with frozen weights: those of a member of the pool. It stays for a number of matches,
then another member takes its place. A match in whose middle that happens rates nobody.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from sf_algo.acting.policies import ActingPolicy
from sf_algo.checkpoints import Checkpoint, CheckpointStore, load_checkpoint
from sf_algo.config.sampling import SamplingConfig
from sf_algo.errors import CheckpointError, StorageError
from sf_algo.ipc.roster import NOBODY
from sf_algo.learning.learners import Learners
from sf_algo.paths import ExperimentPaths
from sf_algo.population.elo import BEGINNER, Player, changes
from sf_algo.population.pool import Member, Pool, draw
from sf_algo.rollout.episodes import MatchReport, mix_seed
from sf_algo.training.policies import Exchanged, PolicyControl
from sf_algo.training.rules import RATING_TAG

log = logging.getLogger(__name__)

_SEED = 5
KEEP_ALL = 10**9
"""Checkpoints of the pool are removed by the pool only."""
LEAST_STAY_MATCHES = 64
"""An opponent stays for so many rated matches, or twice as many as are played at a time where that is more."""


class SelfPlay:
    """The `PolicyRules` for environments of several agents."""

    def __init__(
        self,
        control: PolicyControl,
        learners: Learners,
        paths: ExperimentPaths,
        sampling: SamplingConfig,
        opponents: Sequence[ActingPolicy],
        *,
        num_roles: int,
        num_matches: int,
        seed: int,
    ) -> None:
        """`opponents` act with the weights of members of the pool; none where no earlier selves play. `num_matches`:
        environments that are stepped at a time."""
        self._control = control
        self._learners = learners
        self._paths = paths
        self._sampling = sampling
        self._opponents = opponents
        self._num_roles = num_roles
        self._stay = max(LEAST_STAY_MATCHES, 2 * num_matches)
        self._seed = seed
        self._ratings = dict.fromkeys(control.trained, BEGINNER)
        self._pool = Pool(size=sampling.self_play_pool)
        self._added_at: dict[int, int] = {}
        self._asked: dict[int, Future[Mapping[str, Any]]] = {}
        self._members: list[int] = [NOBODY] * len(opponents)
        self._matches_left = [0] * len(opponents)
        self._leaves_at = [0] * len(opponents)
        self._num_draws = 0
        control.on_exchanged.append(self._exchanged)

    def step(self, control: PolicyControl) -> None:
        if not self._opponents:
            return
        for policy in control.trained:
            self._add_when_due(policy)
        if any(self._replace_when_due(index) for index in range(len(self._opponents))):
            self._write_roster()

    def _add_when_due(self, policy: int) -> None:
        """A policy joins the pool as it is at the end of the iteration under way."""
        asked = self._asked.get(policy)
        if asked is None:
            added_at = self._added_at.get(policy)
            frames = self._control.frames(policy)
            if added_at is None or frames >= added_at + self._sampling.self_play_period_env_steps:
                asked = self._asked[policy] = self._learners.ask_state(policy)
        if asked is None or not asked.done():
            return
        state = self._asked.pop(policy).result()
        version = int(state["policy_version"])
        frames = self._control.ledger.frames_at(policy, version)
        checkpoint = Checkpoint(
            policy_id=policy,
            policy_version=version,
            env_steps=frames,
            learner={"model": dict(state["model"]), "policy_version": version},
        )
        try:
            path = CheckpointStore(self._paths.pool(policy), keep=KEEP_ALL).save(checkpoint)
        except StorageError as error:
            log.warning("%s; the pool of earlier selves stays as it is", error)
            # Again after a tenth of a period.
            self._added_at[policy] = frames - self._sampling.self_play_period_env_steps * 9 // 10
            return
        self._added_at[policy] = frames
        gone = self._pool.add(
            policy=policy, version=version, frames=frames, file=path.name, rating=self._ratings[policy]
        )
        for member in gone:
            with suppress(OSError):
                self._path(member).unlink()

    def _path(self, member: Member) -> Path:
        return self._paths.pool(member.policy) / member.file

    def _remove_strangers(self) -> None:
        """Files of earlier selves that joined after the checkpoint from which the training goes on."""
        known = {self._path(member) for member in self._pool.members}
        for policy in self._control.trained:
            for path in self._paths.pool(policy).glob("*.pth"):
                if path not in known:
                    with suppress(OSError):
                        path.unlink()

    def _replace_when_due(self, index: int) -> bool:
        """True when another member has taken the place of that opponent."""
        frames = sum(self._control.frames(policy) for policy in self._control.trained)
        stays = self._pool.find(self._members[index]) is not None
        if stays and self._matches_left[index] > 0 and frames < self._leaves_at[index]:
            return False
        while self._pool.members:
            self._num_draws += 1
            rng = random.Random(mix_seed(self._seed, _SEED, self._num_draws))
            member = draw(self._pool.members, self._sampling.self_play_choice, rng)
            if self._load(index, member):
                self._matches_left[index] = self._stay
                self._leaves_at[index] = frames + self._sampling.self_play_period_env_steps
                return True
            self._pool.members.remove(member)
        return False

    def _load(self, index: int, member: Member) -> bool:
        """An opponent acts as that member from now on. False where its file is of no use."""
        try:
            checkpoint = load_checkpoint(self._path(member))
            self._opponents[index].inference.take_state(checkpoint.learner["model"], checkpoint.policy_version)
        except (CheckpointError, RuntimeError) as error:
            log.warning("an earlier self is left out: %s", str(error).split("\n", 1)[0])
            return False
        self._members[index] = member.number
        return True

    def _write_roster(self) -> None:
        control = self._control
        separate = 1 < self._num_roles <= len(control.trained)
        roles = [control.role(policy) for policy in control.trained]
        members = [self._pool.find(number) for number in self._members]
        roles += [NOBODY if member is None else control.role(member.policy) for member in members]
        weights = [
            [float(role != NOBODY and (not separate or role == at)) for at in range(self._num_roles)] for role in roles
        ]
        share = 1.0 if self._sampling.self_play == "past" else self._sampling.self_play_fraction
        control.roster.write(
            weights=weights, members=[NOBODY] * len(control.trained) + self._members, opponent_share=share
        )

    def on_matches(self, matches: Sequence[MatchReport]) -> None:
        for match in matches:
            self._rate(match)
            for index, opponent in enumerate(self._opponents):
                if any(policy == opponent.policy_id for policy, _ in match.players):
                    self._matches_left[index] -= 1

    def _rate(self, match: MatchReport) -> None:
        players = match.players
        found = [self._rating(player) for player in players]
        ratings = [BEGINNER if rating is None else rating for rating in found]
        if None in found:
            return  # a member has left the pool meanwhile
        for player, change in zip(players, changes(ratings, players, match.scores), strict=True):
            self._change_rating(player, change)
        trained = [score for (_, member), score in zip(players, match.scores, strict=True) if member == NOBODY]
        for (_, number), score in zip(players, match.scores, strict=True):
            if number != NOBODY and trained:
                best = max(trained)
                self._pool.note(number, 0.5 * ((best > score) + (best >= score)))

    def _rating(self, player: Player) -> float | None:
        policy, number = player
        if number == NOBODY:
            return self._ratings.get(policy)
        member = self._pool.find(number)
        return None if member is None else member.rating

    def _change_rating(self, player: Player, change: float) -> None:
        policy, number = player
        if number == NOBODY:
            self._ratings[policy] += change
            return
        member = self._pool.find(number)
        assert member is not None, "a member without a rating was rated"
        member.rating += change

    def _exchanged(self, exchanged: Exchanged) -> None:
        """A policy that goes on as another one is as good as that."""
        if exchanged.donor is not None and not exchanged.error:
            self._ratings[exchanged.policy] = self._ratings[exchanged.donor]

    def summaries(self, policy: int) -> dict[str, float]:
        found = {RATING_TAG: self._ratings[policy]}
        if self._opponents:
            found["stats/pool_members"] = float(len(self._pool.members))
        return found

    def results(self, policy: int) -> dict[str, Any]:
        return {"rating": self._ratings[policy]}

    def state(self, policy: int) -> dict[str, Any]:
        if policy != 0:
            return {}
        return {
            "ratings": dict(self._ratings),
            "pool": self._pool.state(),
            "added_at": dict(self._added_at),
            "members": list(self._members),
            "matches_left": list(self._matches_left),
            "leaves_at": list(self._leaves_at),
            "num_draws": self._num_draws,
            "generators": [opponent.inference.actor.generator_state() for opponent in self._opponents],
        }

    def restore(self, policy: int, state: Mapping[str, Any]) -> None:
        if not state:
            return
        trained = self._control.trained
        self._ratings |= {p: float(rating) for p, rating in state["ratings"].items() if p in trained}
        if not self._opponents:
            return
        self._pool.restore(state["pool"])
        self._pool.members = [member for member in self._pool.members if member.policy in trained]
        self._remove_strangers()
        self._added_at = {p: frames for p, frames in state["added_at"].items() if p in trained}
        self._num_draws = int(state["num_draws"])
        if len(state["members"]) != len(self._opponents):
            return
        for index, number in enumerate(state["members"]):
            member = self._pool.find(number)
            if member is None or not self._load(index, member):
                continue
            self._matches_left[index] = int(state["matches_left"][index])
            self._leaves_at[index] = int(state["leaves_at"][index])
            self._opponents[index].inference.actor.set_generator_state(state["generators"][index])
        if any(number != NOBODY for number in self._members):
            self._write_roster()
