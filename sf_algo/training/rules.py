"""Those who decide how policies change while they train, asked together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sf_algo.rollout.episodes import MatchReport
from sf_algo.training.policies import PolicyControl, PolicyRules

RATING_TAG = "policy_stats/rating"


class Rules:
    """All `PolicyRules` of a training, and the control that they act through. Belongs to the main thread."""

    def __init__(self, control: PolicyControl, rules: Mapping[str, PolicyRules]) -> None:
        """`rules`: by the name under which their state is in checkpoints."""
        self.control = control
        self._rules = rules
        self._matches: list[MatchReport] = []

    def note_match(self, match: MatchReport) -> None:
        """To be told with the next step."""
        if self._rules:
            self._matches.append(match)

    def step(self) -> None:
        """Between two rounds, or a few times a second: see `PolicyRules.step`."""
        self.control.advance()
        self._tell_matches()
        for rules in self._rules.values():
            rules.step(self.control)

    def _tell_matches(self) -> None:
        matches, self._matches = self._matches, []
        for rules in self._rules.values() if matches else ():
            rules.on_matches(matches)

    def summaries(self, policy: int) -> dict[str, float]:
        """What all of them add to the summaries of a policy: tag -> number."""
        found: dict[str, float] = {}
        for rules in self._rules.values():
            found |= rules.summaries(policy)
        return found

    def rating(self, policy: int) -> float | None:
        """Of a policy, where matches are rated."""
        return self.summaries(policy).get(RATING_TAG)

    def results(self, policy: int) -> dict[str, Any]:
        """What all of them have for a policy in ``results.json``: name -> its part."""
        return {name: own for name, rules in self._rules.items() if (own := rules.results(policy))}

    def state(self, policy: int) -> dict[str, Any]:
        """For a policy's checkpoint; empty where there is nothing. The matches so far are in it."""
        self._tell_matches()
        return {name: own for name, rules in self._rules.items() if (own := rules.state(policy))}

    def restore(self, policy: int, state: Mapping[str, Any]) -> None:
        """What `state` returned."""
        for name, rules in self._rules.items():
            if name in state:
                rules.restore(policy, state[name])
