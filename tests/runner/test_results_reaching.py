"""How often and after how long a threshold is reached, against published figures and figures made by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from sf_runner.basics.errors import DescriptionError, UsageError
from sf_runner.describe.description import Experiment, RunDescription
from sf_runner.describe.thresholds import Threshold, checked_thresholds, thresholds_of
from sf_runner.report import main, make_report
from sf_runner.results.analysis import AnalysisOptions
from sf_runner.results.curves import Curve
from sf_runner.results.plot_data import arrival_plots_of, plots_of
from sf_runner.results.reach_table import reach_cells
from sf_runner.results.reaching import Reached, arrival, first_reached, reach, wilson
from sf_runner.results.thresholds import parse_threshold
from sf_runner.state import events as ev
from tests.runner.result_runs import BEGIN, DescribedRun, write_curve

TAG = "policy_stats/avg_true_reward"
OTHER = "policy_stats/avg_kills"


def test_wilson_as_published() -> None:
    """Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20 and 1 of 29."""
    for successes, trials, low, high in (
        (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
    ):  # fmt: skip
        found = wilson(successes, trials)
        assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert wilson(20, 20).high == 1.0


def test_kaplan_and_meier_as_published() -> None:
    """The 21 patients that were given 6-MP in Freireich et al. 1963: weeks in remission, + where still in it."""
    weeks = "6 6 6 6+ 7 9+ 10 10+ 11+ 13 16 17+ 19+ 20+ 22 23 25+ 32+ 32+ 34+ 35+".split()  # noqa: SIM905
    ends = [float(week.rstrip("+")) for week in weeks]
    found = arrival([None if week.endswith("+") else float(week) for week in weeks], ends)
    assert found is not None
    assert found.at.tolist() == [6, 7, 10, 13, 16, 22, 23]
    assert (1 - found.share).round(3).tolist() == [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448]
    assert (found.quantile(0.5), found.quantile(0.25), found.quantile(0.75)) == (23, 13, None)
    assert len(found.censored) == 12
    assert found.last == 35


def test_without_censoring_the_interval_is_that_of_a_plain_share() -> None:
    found = arrival([3.0, 1.0, 2.0, 2.0], [9.0] * 4)
    assert found is not None
    assert found.share.tolist() == [0.25, 0.75, 1.0]
    for count, low, high in zip((1, 3, 4), found.low, found.high, strict=True):
        assert (low, high) == (pytest.approx(wilson(count, 4).low), pytest.approx(wilson(count, 4).high))


def test_censoring_widens_the_interval() -> None:
    """Of ten, five are gone before the first arrival: it says no more than one among five."""
    found = arrival([2.0, *[None] * 9], [2.0, *[1.0] * 5, *[5.0] * 4])
    assert found is not None
    assert found.share.tolist() == [pytest.approx(0.2)]
    assert found.high[0] == pytest.approx(wilson(1, 5).high)


def test_the_last_one_present_says_no_more_than_one() -> None:
    found = arrival([None, None, None, None, 9.0], [1.0, 2.0, 3.0, 4.0, 9.0])
    assert found is not None
    assert found.share.tolist() == [1.0]
    assert found.low[0] == pytest.approx(wilson(1, 1).low)


def curve(values: list[float], step: float = 10.0) -> Curve:
    steps = step * np.arange(1.0, len(values) + 1)
    return Curve(steps=steps, values=np.array(values), elapsed_s=steps / 2)


def test_the_first_value_that_is_good_enough() -> None:
    risen = curve([1.0, 5.0, 4.0, 6.0])
    assert first_reached(risen, 5.0, lower_is_better=False) == Reached(step=20.0, elapsed_s=10.0)
    assert first_reached(risen, 7.0, lower_is_better=False) == Reached()
    assert first_reached(risen, 4.0, lower_is_better=True) == Reached(step=10.0, elapsed_s=5.0)


def test_a_training_that_has_not_begun_says_nothing_of_the_time() -> None:
    curves = [curve([1.0, 5.0]), curve([1.0] * 9), curve([])]
    reached = [first_reached(one, 5.0, lower_is_better=False) for one in curves]
    found = reach(5.0, curves, reached, [True, False, False])
    assert (found.ended, found.reached, found.share) == (1, 1, 1.0)
    assert found.steps is not None
    assert found.steps.quantile(0.5) == 20.0
    assert found.steps.censored.tolist() == [90.0]
    assert reach(5.0, [], [], []).interval is None


# ---- thresholds ---------------------------------------------------------------------------------------------------


def test_thresholds_of_a_description() -> None:
    given = checked_thresholds("study", {"Cart*": 475, "battle@kills": 10.5})
    assert thresholds_of(given) == [
        Threshold(pattern="Cart*", metric=None, value=475.0),
        Threshold(pattern="battle", metric="kills", value=10.5),
    ]
    assert thresholds_of(given)[0].is_for("other", "cartpole")
    assert not thresholds_of(given)[1].is_for("battle2")


@pytest.mark.parametrize(
    "bad", [475, {"": 1}, {"@kills": 1}, {"a@": 1}, {"a": "475"}, {"a": True}, {"a": float("nan")}]
)
def test_a_bad_one_is_refused_with_the_name_of_the_run(bad: object) -> None:
    with pytest.raises(DescriptionError, match="RunDescription 'study': thresholds"):
        RunDescription("study", [Experiment("a", "true")], thresholds=bad)  # type: ignore[arg-type]


def test_thresholds_of_the_command_line() -> None:
    assert parse_threshold("475") == Threshold(pattern="*", metric=None, value=475.0)
    assert parse_threshold("cart*=-4.5") == Threshold(pattern="cart*", metric=None, value=-4.5)
    assert parse_threshold("a=b@kills=1") == Threshold(pattern="a=b", metric="kills", value=1.0)
    for bad in ("", "cart", "=3", "cart=", "cart@=3", "a=nan"):
        with pytest.raises(UsageError, match="cannot be read"):
            parse_threshold(bad)


# ---- a run --------------------------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two tasks with four seeds each. `cart` learns at 30, 50 and 50 and once never; of `acro` one is running, one has
    failed, one has not started and one has learned at 20."""
    seeds = [{"seed": seed} for seed in range(4)]
    experiments = [Experiment(name, f"train --env={name}", seeds) for name in ("cart", "acro")]
    run = DescribedRun(tmp_path, RunDescription("study", experiments))
    run.journal.append(
        [ev.RunOpened(t=BEGIN, pid=1, host="h", backend="processes", thresholds=(("cart", 5.0), ("ac*@kills", 2.0)))]
    )
    learned = {"cart": (3, 5, 5, 99), "acro": (2, 99, 99, None)}
    for job in run.plan.jobs:
        name, number = job.job_id.split("_/")[0], int(str(job.seed))
        at = learned[name][number]
        if at is None:
            continue
        points = [(10 * k, 6.0 if k >= at else 1.0) for k in range(10)]
        write_curve(job.paths.experiment_dir / ".summary/0", TAG if name == "cart" else OTHER, points)
        verdict = "succeeded" if name == "cart" or number == 0 else ("failed" if number == 1 else None)
        run.attempt(job, verdict)  # type: ignore[arg-type]
    run.close()
    return tmp_path


def test_a_run_knows_its_thresholds(study: Path) -> None:
    first, second = make_report(["study"], study).metrics
    cart, acro = (row.reach for row in first.rows)
    assert acro is None, "its threshold is one of another metric"
    assert cart is not None
    assert (cart.reached, cart.ended) == (3, 4)
    assert cart.steps is not None
    assert (cart.steps.quantile(0.25), cart.steps.quantile(0.5), cart.steps.quantile(0.75)) == (30, 50, 50)
    assert cart.seconds is not None
    assert cart.seconds.quantile(0.25) == 30.0, "a value every ten seconds, from the beginning"
    assert second.metric.name == OTHER
    kills = second.rows[1].reach
    assert kills is not None
    assert (kills.reached, kills.ended) == (1, 2), "what failed has not reached it; what runs may yet"
    assert kills.steps is not None
    assert kills.steps.censored.tolist() == [90, 90]


def test_the_command_line_goes_first(study: Path) -> None:
    options = AnalysisOptions(thresholds=(parse_threshold("cart=7"),))
    (metric,) = make_report(["study"], study, metrics=["true_reward"], options=options).metrics
    found = metric.rows[0].reach
    assert found is not None
    assert (found.threshold, found.reached, found.ended) == (7.0, 0, 4)
    analysis = make_report(["study"], study, metrics=["true_reward"], options=options)
    cells = reach_cells(analysis.metrics[0].rows[0], analysis)
    assert cells == ["cart", "7", "0/4", "[0 %, 49 %]", "> 90", "> 90", "> 1 min 30 s", "> 1 min 30 s"]


def test_one_for_nobody_is_refused(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", f"--train_dir={study}", "--threshold=crat=7"]) == 2
    assert "--threshold=crat=7: no experiment or task is called so. Did you mean 'cart'?" in capsys.readouterr().err


def test_what_is_written(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["study", f"--train_dir={study}", f"--out={out}", "--metric=true_reward"]) == 0
    text = (out / "report.md").read_text(encoding="utf-8")
    assert "### policy_stats/avg_true_reward: threshold reached" in text
    assert "3/4" in text
    assert "[30 %, 95 %]" in text
    with (out / "configurations.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert (row["threshold"], row["reached"], row["ended"], row["steps_to_it_q50"]) == ("5.0", "3", "4", "50.0")
    assert float(row["reached_low"]) == pytest.approx(wilson(3, 4).low)
    with (out / "experiments.csv").open(newline="") as file:
        steps = [row["reached_step"] for row in csv.DictReader(file)]
    assert steps == ["30.0", "50.0", "50.0", "", "", "", "", ""]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count('class="seed"') == 4, "every seed behind the mean"
    assert page.count('class="level"') == 1
    assert page.count('class="mark"') == 1, "the one that has not reached it"
    assert (out / f"reached_{TAG.replace('/', '.')}.png").stat().st_size > 10_000


def test_the_picture_has_the_threshold_and_the_censored(study: Path) -> None:
    analysis = make_report(["study"], study, metrics=["true_reward"])
    (plot,), (stairs,) = plots_of(analysis.metrics[0], analysis), arrival_plots_of(analysis.metrics[0], analysis)
    assert plot.lines[0].level == 5.0
    assert len(plot.lines[0].seeds) == 4
    assert stairs.lines[0].band.x.tolist() == [0, 30, 30, 50, 50, 90]
    assert stairs.lines[0].band.mean.tolist() == [0, 0, 0.25, 0.25, 0.75, 0.75]
    marks = stairs.lines[0].marks
    assert marks is not None
    assert (marks[0].tolist(), marks[1].tolist()) == ([90], [0.75])
