"""What returns on the levels of DMLab-30 amount to, compared with people.

As in Espeholt et al. 2018: the mean return of each level is placed between that of a random policy (0) and that of a
person (100), capped at 100, and averaged over the levels. Normalizing and capping come after the mean of a level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sf_algo.envs.dmlab.levels import BY_NAME, Task

CAP = 100.0
RAW = "dmlab_raw/"
"""Prefix of the statistic of an episode: the level's raw return."""
HUMAN = "dmlab_human_normalized/"
"""Prefix of the derived means."""
MEAN = "dmlab_human_normalized_mean"
OBJECTIVE = "dmlab_target_objective"
"""The capped mean over the levels: what a population is ranked by."""


def human_normalized(level: str, raw: float) -> float | None:
    """A mean return of `level` in percent of what a person is better than chance; None for levels without scores."""
    known = BY_NAME.get(level)
    return None if known is None else 100.0 * (raw - known.random) / (known.human - known.random)


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One level in a table."""

    level: str
    episodes: int
    raw: float
    human_normalized: float | None
    interval: tuple[float, float] | None = None
    """Of the human-normalized score, or of the raw one where there is no other."""


COLUMNS = ("level", "episodes", "raw", "human-normalized")


def score_rows(levels: Sequence[str], means: Mapping[str, float], counts: Mapping[str, int]) -> list[ScoreRow]:
    """Of the levels that were played, in their order: from means and numbers of episodes by statistic."""
    return [
        ScoreRow(
            level=level,
            episodes=counts.get(RAW + level, 0),
            raw=means[RAW + level],
            human_normalized=human_normalized(level, means[RAW + level]),
        )
        for level in levels
        if RAW + level in means
    ]


@dataclass(frozen=True, kw_only=True)
class LevelScores:
    """Derives a run's scores from the means of its levels' returns; called with the means of an episode window."""

    levels: tuple[str, ...]

    def __call__(self, means: Mapping[str, float]) -> dict[str, float]:
        """The scores of every level that was played and, once all were, their means over the levels."""
        scores: dict[str, float] = {}
        for level in self.levels:
            score = human_normalized(level, means[RAW + level]) if RAW + level in means else None
            if score is not None:
                scores[level] = score
        derived = {HUMAN + level: score for level, score in scores.items()}
        if self.levels and len(scores) == len(self.levels):
            derived[MEAN] = sum(scores.values()) / len(scores)
            derived[OBJECTIVE] = sum(min(score, CAP) for score in scores.values()) / len(scores)
        return derived

    def table(self, means: Mapping[str, float], counts: Mapping[str, int]) -> dict[str, Any] | None:
        """The levels that were played, as a table for reports: None before the first."""
        rows = score_rows(self.levels, means, counts)
        if not rows:
            return None
        cells = [[row.level, row.episodes, row.raw, row.human_normalized] for row in rows]
        return {"title": "DMLab-30 levels", "columns": list(COLUMNS), "rows": cells}


def scores_of(tasks: Sequence[Task]) -> LevelScores:
    """For a run of these levels."""
    return LevelScores(levels=tuple(dict.fromkeys(task.name for task in tasks if task.name in BY_NAME)))


def score_table(rows: Sequence[ScoreRow], num_levels: int) -> str:
    """As aligned text, with the means over the levels behind it."""
    width = max([len(row.level) for row in rows] + [len("capped mean of 30 levels")])
    with_intervals = any(row.interval is not None for row in rows)
    lines = [f"{'level':<{width}}{'episodes':>10}{'raw':>12}{'human %':>10}" + "   95 % interval" * with_intervals]
    for row in rows:
        score = "-" if row.human_normalized is None else f"{row.human_normalized:.1f}"
        interval = f"   {row.interval[0]:.1f} to {row.interval[1]:.1f}" if row.interval else ""
        lines.append(f"{row.level:<{width}}{row.episodes:>10}{row.raw:>12.3f}{score:>10}{interval}")
    scores = [row.human_normalized for row in rows if row.human_normalized is not None]
    if scores and len(rows) > 1:
        of = f"of {len(scores)} levels" if len(scores) == num_levels else f"of {len(scores)} of {num_levels} levels"
        capped = sum(min(score, CAP) for score in scores) / len(scores)
        lines.append(f"{'mean ' + of:<{width}}{'':>22}{sum(scores) / len(scores):>10.1f}")
        lines.append(f"{'capped mean ' + of:<{width}}{'':>22}{capped:>10.1f}")
    return "\n".join(lines)
