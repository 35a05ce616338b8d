"""The card of a trained policy: what it is, how it was made, how well it plays."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sf_algo.errors import CheckpointError
from sf_algo.population.ratings import Z_95

CARD, PICTURE = "card.json", "episode.gif"
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Score:
    """Mean over episodes that were played for it, with its 95 % interval (normal approximation)."""

    metric: str
    mean: float
    low: float
    high: float
    episodes: int
    seed: int
    """Of the episodes: the same seed plays the same ones again."""
    deterministic: bool
    """Whether the most probable actions were taken instead of drawn ones."""

    @staticmethod
    def of(values: Sequence[float], *, metric: str, seed: int, deterministic: bool) -> Score:
        """Of at least two values."""
        mean = math.fsum(values) / len(values)
        variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
        half = Z_95 * math.sqrt(variance / len(values))
        return Score(
            metric=metric,
            mean=mean,
            low=mean - half,
            high=mean + half,
            episodes=len(values),
            seed=seed,
            deterministic=deterministic,
        )

    def __str__(self) -> str:
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True, kw_only=True)
class Card:
    """`command` trains the same policy again; `sha256` is that of the checkpoint's file."""

    name: str
    env: str
    about: str
    command: str
    env_steps: int
    train_seconds: float
    score: Score
    date: str
    machine: str
    software: dict[str, str]
    parameters: int
    file: str
    sha256: str

    def save(self, folder: Path) -> None:
        body = {"version": FORMAT_VERSION, **dataclasses.asdict(self)}
        (folder / CARD).write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Card:
        """Raises CheckpointError where there is no card, or none that this version can read."""
        path = folder / CARD
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            if body.pop("version") > FORMAT_VERSION:
                raise CheckpointError(f"{path} was written by a newer sf_algo: upgrade to read it")
            return Card(**{**body, "score": Score(**body["score"])})
        except OSError as error:
            raise CheckpointError(f"{folder} holds no trained policy: {CARD}: {error.strerror}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{path} is not the card of a trained policy") from error

    def text(self) -> str:
        """For people, several lines."""
        how = "most probable actions" if self.score.deterministic else "drawn actions"
        software = ", ".join(f"{name} {version}" for name, version in self.software.items())
        rows = {
            "environment": self.env,
            "about": self.about,
            "score": f"{self.score.metric} {self.score}, 95 % interval, {self.score.episodes} episodes, {how}, "
            f"seed {self.score.seed}",
            "trained for": f"{self.env_steps:,} frames, {self.train_seconds:,.0f} s",
            "with": self.command,
            "on": f"{self.date}, {self.machine}",
            "software": software,
            "parameters": f"{self.parameters:,}",
            "sha256": self.sha256,
        }
        width = max(map(len, rows))
        return "\n".join([self.name, *(f"  {name:<{width}}  {value}" for name, value in rows.items())])

    def check(self, folder: Path) -> Path:
        """The checkpoint's file, which must be the one the card is about. Raises CheckpointError."""
        path = folder / "checkpoint_p0" / Path(self.file).name
        try:
            digest = file_digest(path)
        except OSError as error:
            raise CheckpointError(f"the weights of {self.name} are missing: {path}: {error.strerror}") from error
        if digest != self.sha256:
            raise CheckpointError(
                f"{path} is not what its card says (sha256 {digest[:12]}...): fetch or install it anew"
            )
        others = sorted(found.name for found in path.parent.glob("checkpoint_*.pth") if found != path)
        if others:
            raise CheckpointError(
                f"{path.parent} holds {others[0]}, which the card does not know: fetch or install it anew"
            )
        return path


def file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def summary_rows(cards: Sequence[Card]) -> list[list[Any]]:
    """For the list: name, environment, frames, score, what it is of."""
    return [[c.name, c.env, f"{c.env_steps:,}", str(c.score), c.score.metric, f"{c.parameters:,}"] for c in cards]
