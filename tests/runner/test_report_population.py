"""The report's part about populations: read from the trainer's `pbt.jsonl` alone."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from sf_runner.report import main, make_report
from sf_runner.results.population import Population, descent_lines
from sf_runner.results.population_plot import decades, picture_of
from tests.runner.result_runs import SyntheticRun, write_results

START = [1e-6, 1e-4, 1e-2]


def line(event: str, policy: int, total: int, rate: float, **more: Any) -> str:
    values = {"learning_rate": rate, "gamma": 0.99}
    return json.dumps(
        {
            "version": 1,
            "event": event,
            "time": 1.0,
            "policy": policy,
            "frames": total // 3,
            "total_frames": total,
            "objective_name": "true_reward",
            "values": values,
            **more,
        }
    )


LINES = [
    *(line("start", policy, 0, rate) for policy, rate in enumerate(START)),
    line("exchange", 0, 3000, 2e-4, donor=1, objective=1.0, donor_objective=50.0),
    line("exchange", 1, 4000, 8e-5, donor=None, objective=50.0),
    line("exchange", 2, 6000, 3e-4, donor=0, objective=9.0, donor_objective=70.0),
    "{torn",
    '{"event": "exchange", "policy": "x"}',
    *(line("start", policy, 6500, rate) for policy, rate in enumerate((2e-4, 8e-5, 3e-4))),
]


@pytest.fixture
def train_dir(tmp_path: Path) -> Path:
    run = SyntheticRun(tmp_path, "study", [("seed", [0])])
    (job,) = run.plan.jobs
    run.attempt(job, "succeeded")
    write_results(job, metrics={"true_reward": 3.0})
    Path(job.paths.experiment_dir, "pbt.jsonl").write_text("\n".join(LINES) + "\n")
    run.close()
    return tmp_path


def population(train_dir: Path) -> Population:
    (found,) = make_report(["study"], train_dir).populations
    return found


def test_descent_is_followed_over_several_steps(train_dir: Path) -> None:
    found = population(train_dir)
    assert found.policies == [0, 1, 2]
    assert found.founders() == {0: 1, 1: 1, 2: 1}
    assert found.lineage(2) == [1, 0, 2]
    assert found.names == ["learning_rate"]
    assert descent_lines(found)[2] == "policy 2 <- 0 <- 1: learning_rate 0.0001 -> 0.0003"


def test_a_donor_s_later_history_is_not_inherited(train_dir: Path) -> None:
    later = line("exchange", 0, 9000, 1e-3, donor=2, objective=1.0, donor_objective=2.0)
    path = next(train_dir.rglob("pbt.jsonl"))
    path.write_text("\n".join([*LINES, later]) + "\n")
    found = population(train_dir)
    assert found.lineage(2) == [1, 0, 2]  # it took over from 0 before 0 took over from 2
    assert found.lineage(0) == [1, 0, 2, 0]


def test_the_picture_shows_copies_and_moves(train_dir: Path) -> None:
    picture = picture_of(population(train_dir))
    descent, rates = picture.panels
    assert [(arrow.x, arrow.y_from, arrow.y_to) for arrow in descent.arrows] == [(3000, 1, 0), (6000, 0, 2)]
    at_the_end = {stroke.color for stroke in descent.strokes if stroke.xs[1] == picture.x_range[1]}
    assert len(at_the_end) == 1  # all carry policy 1's
    assert rates.title == "learning_rate"
    assert rates.logarithmic
    assert sorted({y for stroke in rates.strokes for y in stroke.ys}) == sorted({*START, 2e-4, 8e-5, 3e-4})
    assert decades(*rates.y_range) == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2])


def test_all_files_are_written(train_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = train_dir / "out"
    assert main(["study", f"--train_dir={train_dir}", f"--out={out}", "--format=md,csv,png,html"]) == 0
    text = capsys.readouterr().out
    assert "## Populations" in text
    assert re.search(r"\| +3 \| +3 \| +2 \| +1 \| +learning_rate \|", text)
    assert "- policy 2 <- 0 <- 1: learning_rate 0.0001 -> 0.0003" in text
    (image,) = out.glob("population_*.png")
    assert image.stat().st_size > 10_000
    rows = list(csv.DictReader((out / "populations.csv").open()))
    assert [row["donor"] for row in rows if row["event"] == "exchange"] == ["1", "", "0"]
    page = (out / "report.html").read_text()
    assert "3 exchanges, 2 times taken over" in page
    assert page.count("<svg") == 1


def test_experiments_without_population_are_told_nothing_about_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = SyntheticRun(tmp_path, "study", [("seed", [0])])
    (job,) = run.plan.jobs
    run.attempt(job, "succeeded")
    write_results(job, metrics={"true_reward": 3.0})
    run.close()
    assert main(["study", f"--train_dir={tmp_path}", "--format=md,csv"]) == 0
    assert "opulation" not in capsys.readouterr().out
    assert not list(tmp_path.rglob("populations.csv"))
