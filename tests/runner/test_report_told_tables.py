"""Tables that programs put into their results are in the report, whatever else stands there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sf_runner.report import main, make_report
from sf_runner.results.analysis import AnalysisOptions
from sf_runner.results.formatting import MISSING
from tests.runner.result_runs import SyntheticRun, write_results

LEVELS = {
    "title": "Levels",
    "columns": ["level", "episodes", "raw", "human"],
    "rows": [["rooms", 3, 4.5, 50.123], ["maze|2", 1, 0.0, None], ["broken row"]],
}


def policy(number: int, reward: float, tables: Any = None) -> dict[str, Any]:
    return {"policy": number, "metrics": {"reward": reward}, **({} if tables is None else {"tables": tables})}


def run_with(tmp_path: Path, *policies: Any) -> Path:
    run = SyntheticRun(tmp_path, "study", [("seed", [0])])
    (job,) = run.plan.jobs
    run.attempt(job, "succeeded")
    write_results(job, metrics={"reward": 2.0}, policies=list(policies))
    run.close()
    return tmp_path


def test_the_best_policy_s_table_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = {**LEVELS, "title": "Others"}
    train_dir = run_with(tmp_path, policy(0, 1.0, [other]), policy(1, 2.0, [LEVELS]))
    assert main(["study", f"--train_dir={train_dir}", "--format=md,html"]) == 0
    said = capsys.readouterr().out
    (title,) = [line for line in said.splitlines() if line.startswith("## Levels: study/")]
    lines = said.split(title)[1].split("\n\n")[1].replace("\\|", "/").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["level", "episodes", "raw", "human"]
    assert cells[2:] == [["rooms", "3", "4.50", "50.12"], ["maze/2", "1", "0.00", MISSING]]
    assert "Others" not in said
    html = next(train_dir.rglob("*.html")).read_text()
    assert "<td>50.12</td>" in html
    assert "maze|2" in html


def test_a_chosen_policy_s_table(tmp_path: Path) -> None:
    train_dir = run_with(tmp_path, policy(0, 1.0, [{**LEVELS, "title": "Others"}]), policy(1, 2.0, [LEVELS]))
    (table,) = make_report(["study"], train_dir, options=AnalysisOptions(policy=0)).tables
    assert table.title.startswith("Others: ")


@pytest.mark.parametrize("tables", [None, 3, [], ["x"], [{"title": "t"}], [{"columns": ["a"], "rows": [5]}]])
def test_what_is_no_table_is_left_out(tables: Any, tmp_path: Path) -> None:
    assert make_report(["study"], run_with(tmp_path, policy(0, 2.0, tables))).tables == ()
