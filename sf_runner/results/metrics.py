"""Names of metrics: what is meant by `reward`, which metric is the result, and whether less is better."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sf_runner.basics.errors import UsageError, did_you_mean

Source = Literal["tensorboard", "progress", "results"]
SOURCES: tuple[Source, ...] = ("tensorboard", "progress", "results")
"""Best first: summaries have every value, the progress history fewer, `results.json` only the last one."""

_MAIN = (
    "true_reward", "true_objective", "reward", "episode_reward", "episodic_reward", "ep_rew", "return",
    "episode_return", "episodic_return", "ep_ret", "score", "accuracy", "success_rate", "loss",
)  # fmt: skip
_LOWER = re.compile(r"(\A|_)(loss|error|err|regret|mse|rmse|mae|perplexity|cost|wer|cer|fid)(_|\Z)")
_FPS = ("fps", "sps", "steps_per_second", "frames_per_second")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """`name`: as shown; `names`: what it is called in each source that has it."""

    name: str
    names: Mapping[Source, str]
    lower_is_better: bool = False


def core(name: str) -> str:
    """`policy_stats/avg_true_reward` -> `true_reward`: without its group and the word for the average."""
    last = name.rsplit("/", 1)[-1].lower()
    for prefix in ("avg_", "mean_", "average_"):
        last = last.removeprefix(prefix)
    for suffix in ("_mean", "_avg"):
        last = last.removesuffix(suffix)
    return last


def resolve(wanted: str, names: Iterable[str]) -> str | None:
    """The one name that is meant by `wanted`: itself, else one that ends in `/wanted`, else one of the same core.

    Raises UsageError when several are equally good.
    """
    known = list(dict.fromkeys(names))
    if wanted in known:
        return wanted
    for same in (
        [name for name in known if name.rsplit("/", 1)[-1] == wanted],
        [name for name in known if core(name) == core(wanted) and "/" not in wanted],
    ):
        if len(same) > 1:
            raise UsageError(f"--metric={wanted} may be {', '.join(sorted(same))}; give one of these")
        if same:
            return same[0]
    return None


def choose(wanted: Sequence[str], available: Mapping[Source, Sequence[str]], *, minimize: bool | None) -> list[Metric]:
    """The metrics asked for, or the main one.

    minimize: whether less is better; None: as their names suggest.
    Raises UsageError for a name that no source has, or when there are no metrics at all.
    """
    chosen: dict[str, Metric] = {}
    for name in wanted or [_main(available)]:
        names: dict[Source, str] = {}
        for source in SOURCES:
            found = resolve(name, available.get(source, ()))
            if found is not None:
                names[source] = found
        if not names:
            known = sorted({known for listed in available.values() for known in listed})
            raise UsageError(f"--metric={name}: no experiment has it.{did_you_mean(name, known, max_listed=20)}")
        shown = next(iter(names.values()))
        lower = lower_is_better(shown) if minimize is None else minimize
        chosen.setdefault(shown, Metric(name=shown, names=names, lower_is_better=lower))
    return list(chosen.values())


def choose_with(
    wanted: Sequence[str],
    named: Sequence[str],
    available: Mapping[Source, Sequence[str]],
    *,
    minimize: bool | None = None,
) -> list[Metric]:
    """`choose`, and then the metrics `named` by others than who asks for the report: one of these that no experiment
    has written so far is left out."""
    chosen = {metric.name: metric for metric in choose(wanted, available, minimize=minimize)}
    for name in named:
        if any(resolve(name, names) is not None for names in available.values()):
            chosen |= {m.name: m for m in choose([name], available, minimize=minimize) if m.name not in chosen}
    return list(chosen.values())


def _main(available: Mapping[Source, Sequence[str]]) -> str:
    """The metric people most likely mean by "the result"."""
    for source in SOURCES:
        names = [name for name in available.get(source, ()) if not name.startswith("train/")]
        for wanted in _MAIN:
            same = [name for name in names if core(name) == wanted]
            if same:
                return min(same, key=len)
    for source in ("progress", "tensorboard", "results"):
        if available.get(source):
            return available[source][0]
    raise UsageError(
        "no experiment has written summaries, progress or results.json yet; "
        "docs/progress.md tells how a program reports its metrics"
    )


def lower_is_better(name: str) -> bool:
    """Whether a metric of this name is something to make small."""
    return bool(_LOWER.search(core(name)))


def fps_name(names: Iterable[str]) -> str | None:
    """The metric that is the speed, None when there is none."""
    by_core = {core(name): name for name in sorted(names, key=len, reverse=True)}
    return next((by_core[name] for name in _FPS if name in by_core), None)
