"""Earlier selves of policies: which are kept, and which is the next opponent. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

EVEN = 0.5
_MEMORY = 0.95
"""How much of what is known of a member's games is kept with every further one."""
_LEAST_WEIGHT = 0.01
"""Of a member that always loses, when hard ones are preferred: it is played now and then, to be seen losing."""

Choice = Literal["uniform", "hard"]


@dataclass(kw_only=True)
class Member:
    """One earlier self."""

    number: int
    """Unique in the training."""
    policy: int
    version: int
    frames: int
    """Environment frames that it had been trained on."""
    file: str
    """Where its weights are."""
    rating: float
    beaten: float = EVEN
    """How often policies in training beat it lately, from 0 to 1; draws are half."""

    @property
    def weight_when_hard(self) -> float:
        """Those that win are drawn more often (Vinyals et al. 2019, prioritized fictitious self-play)."""
        return max(_LEAST_WEIGHT, (1.0 - self.beaten) ** 2)


@dataclass(kw_only=True)
class Pool:
    """The members, oldest first."""

    size: int
    members: list[Member] = field(default_factory=list)
    next_number: int = 0

    def add(self, *, policy: int, version: int, frames: int, file: str, rating: float) -> list[Member]:
        """A policy as it is now becomes a member. Returns those that are none any more."""
        member = Member(
            number=self.next_number, policy=policy, version=version, frames=frames, file=file, rating=rating
        )
        self.next_number += 1
        self.members.append(member)
        gone = []
        while len(self.members) > self.size:
            gone.append(self.members.pop(self._most_dispensable()))
        return gone

    def _most_dispensable(self) -> int:
        """Position of the member, neither the oldest nor the newest where there are others, without which the largest
        gap in the numbers of frames becomes least: what stays is spread over the whole training."""
        if len(self.members) < 3:
            return 0
        gaps = [
            (self.members[at + 1].frames - self.members[at - 1].frames, at) for at in range(1, len(self.members) - 1)
        ]
        return min(gaps)[1]

    def find(self, number: int) -> Member | None:
        return next((member for member in self.members if member.number == number), None)

    def of_policies(self, policies: Callable[[int], bool]) -> list[Member]:
        return [member for member in self.members if policies(member.policy)]

    def note(self, number: int, won: float) -> None:
        """A policy in training won that share of a game against a member."""
        member = self.find(number)
        if member is not None:
            member.beaten = _MEMORY * member.beaten + (1.0 - _MEMORY) * won

    def state(self) -> dict[str, Any]:
        """Plain values."""
        return {"next_number": self.next_number, "members": [asdict(member) for member in self.members]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """What `state` returned. What is too much for another size stays until one is added."""
        self.next_number = int(state["next_number"])
        self.members = [Member(**values) for values in state["members"]]


def draw(members: Sequence[Member], choice: Choice, rng: random.Random) -> Member:
    """The next opponent."""
    weights = [1.0 if choice == "uniform" else member.weight_when_hard for member in members]
    return rng.choices(members, weights)[0]
