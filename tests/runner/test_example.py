"""The example program and the snippets of the documentation do what they say."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from run_descriptions import example_job
from sf_runner.describe.plan import make_plan
from sf_runner.progress import ENVIRONMENT_VARIABLE, parse_progress, read_progress

DOCS = Path(__file__).parents[2] / "docs"


def snippet(page: str, language: str) -> str:
    """The first code block of a language."""
    found = re.search(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_learns_the_shortest_safe_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "progress.json"))
    example_job.main([f"--train_dir={tmp_path}", "--experiment=one", "--steps=60000", "--learning_rate=0.5"])
    results = json.loads((tmp_path / "one/results.json").read_text())
    assert (results["greedy_return"], results["steps"]) == (-13, 60000)
    progress = read_progress(tmp_path / "progress.json")
    assert progress is not None
    assert (progress.phase, progress.fraction, progress.metrics["greedy_return"]) == ("done", 1.0, -13)
    assert -200 < progress.metrics["reward"] < -13


def test_the_cliff_costs_a_hundred_and_starts_over() -> None:
    assert example_job.move(example_job.START, 1) == (example_job.START, -100, False)
    assert example_job.move(example_job.START, 3) == (example_job.START, -1, False)
    assert example_job.move(example_job.START, 0) == (example_job.START - example_job.COLUMNS, -1, False)
    assert example_job.move(example_job.GOAL - example_job.COLUMNS, 2) == (example_job.GOAL, -1, True)


def test_the_description_in_the_documentation_makes_its_jobs() -> None:
    names: dict[str, object] = {}
    exec(snippet("run_descriptions.md", "python"), names)
    plan = make_plan(names["RUN_DESCRIPTION"], "train_dir")  # type: ignore[arg-type]
    assert len(plan.jobs) == 6
    assert plan.jobs[1].name == "01_basic_see_0_u.rnn_True_rec_32"


def test_the_record_in_the_documentation_can_be_read() -> None:
    found = parse_progress(snippet("progress.md", "json"))
    assert found is not None
    assert (found.phase, found.step, found.total, found.fps, found.eta_s) == ("train", 20000, 1000000, 8200.0, 119.5)
    assert found.metrics == {"reward": 3.5, "loss": 0.02}


def test_the_shell_line_in_the_documentation_writes_progress(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    script = "i=3 n=12\n" + snippet("progress.md", "sh")
    subprocess.run(["sh", "-c", script], check=True, env={ENVIRONMENT_VARIABLE: str(path), "PATH": "/usr/bin:/bin"})
    assert read_progress(path).fraction == 0.25  # type: ignore[union-attr]
