"""The table that says how many experiments reached their threshold, and when: texts for Markdown and page."""

from __future__ import annotations

from sf_runner.results.analysis import Analysis, Row
from sf_runner.results.formatting import MISSING, short_number
from sf_runner.results.reaching import Arrival
from sf_runner.results.statistics import CONFIDENCE
from sf_runner.state.estimate import format_duration


def reach_header(analysis: Analysis) -> list[str]:
    """Names of the table's columns."""
    interval = f"{CONFIDENCE * 100:g} % interval"
    times = ["steps", "middle half", "time", "middle half"]
    return [*analysis.grouping.columns, "threshold", "reached", interval, *times]


def reach_cells(row: Row, analysis: Analysis) -> list[str]:
    """In the order of `reach_header`. The row has a threshold."""
    found = row.reach
    assert found is not None
    interval = MISSING
    if found.interval is not None:
        interval = f"[{100 * found.interval.low:.0f} %, {100 * found.interval.high:.0f} %]"
    return [
        *(row.group.shown[name] or MISSING for name in analysis.grouping.columns),
        f"{found.threshold:g}",
        f"{found.reached}/{found.ended}",
        interval,
        *(_quantiles(found.steps, is_time=False)),
        *(_quantiles(found.seconds, is_time=True)),
    ]


def _quantiles(arrival: Arrival | None, *, is_time: bool) -> tuple[str, str]:
    """Median, and first to third quartile; `> 600k` where that many have not reached it until then."""
    if arrival is None:
        return MISSING, MISSING

    def text(share: float) -> str:
        value = arrival.quantile(share)
        shown = arrival.last if value is None else value
        words = format_duration(shown) if is_time else short_number(shown, 3)
        return f"> {words}" if value is None else words

    if arrival.quantile(0.25) is None:
        return text(0.5), text(0.25)
    return text(0.5), f"{text(0.25)} to {text(0.75)}"


def reach_explanation() -> str:
    """How the table's numbers were made."""
    return (
        "Reached: experiments with any value at least as good as the threshold, of all that have ended (what failed "
        f"before has not reached it); {CONFIDENCE * 100:g} % interval of their share by Wilson. Steps and time to the "
        "first such value: median and middle half by Kaplan and Meier, who count what has not reached it yet as longer "
        "than it has run; '>': more than half, or a quarter, has not. Time is that of training, from its beginning."
    )
