"""The report of a run with known results: every number computed again from what was written."""

from __future__ import annotations

import csv
import json
import math
import random
import re
import statistics
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sf_runner.report import main, make_report
from sf_runner.results.markdown import markdown
from tests.runner.result_runs import EventFile, SyntheticRun, write_curve, write_results

GOLDEN = Path(__file__).parents[1] / "golden" / "report.md"
TAG = "policy_stats/avg_true_reward"
SEEDS, RATES = (0, 1111, 2222), (0.001, 0.01)
STEPS = [1000 * i for i in range(21)]

Truth = dict[tuple[float, int], list[float]]


def write_study(train_dir: Path) -> Truth:
    """2 configurations x 3 seeds that all succeed, one of them in two attempts; the values by (lr, seed)."""
    run = SyntheticRun(train_dir, "study", [("seed", SEEDS), ("lr", RATES), ("env", ["doom_basic"])])
    rng = random.Random(0)
    truth: Truth = {}
    for job in run.plan.jobs:
        lr, seed = float(str(job.params["lr"])), int(str(job.params["seed"]))
        values = [round(1000 * lr * (1 - math.exp(-step / 5000)) + rng.gauss(0, 0.2), 3) for step in STEPS]
        truth[lr, seed] = values
        folder = job.paths.experiment_dir / ".summary/0"
        if (lr, seed) == (0.01, 1111):
            run.attempt(job, "retry", duration_s=50.0)
            killed = EventFile(folder, begin=1000.0)
            for step, value in zip(STEPS[:15], values, strict=False):
                killed.scalars(step, {TAG: value if step < 10_000 else -99.0})
            killed.close()
            resumed = EventFile(folder, begin=2000.0)
            for step, value in list(zip(STEPS, values, strict=True))[10:]:
                resumed.scalars(step, {TAG: value})
            resumed.close()
        else:
            write_curve(folder, TAG, list(zip(STEPS, values, strict=True)))
        run.attempt(job, "succeeded", duration_s=100.0 + seed)
        write_results(job, fps=1000.0 + seed, env_steps=STEPS[-1], metrics={"true_reward": values[-1], "len": 7.0})
    run.close()
    return truth


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    train_dir = tmp_path_factory.mktemp("train_dir")
    return train_dir, write_study(train_dir)


@pytest.fixture(scope="module")
def written(study: tuple[Path, Truth], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert main(["study", f"--train_dir={study[0]}", f"--out={out}"]) == 0
    return out


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_number_of_the_configurations_is_right(study: tuple[Path, Truth], written: Path) -> None:
    rows = {float(row["lr"]): row for row in read_csv(written / "configurations.csv")}
    assert set(rows) == set(RATES)
    for lr, row in rows.items():
        finals = [study[1][lr, seed][-1] for seed in SEEDS]
        expected = {
            "mean": statistics.fmean(finals),
            "iqm": statistics.fmean(finals),  # a quarter of three, rounded down, is none
            "median": statistics.median(finals),
            "stddev": statistics.stdev(finals),
            "min": min(finals),
            "max": max(finals),
            # All three draws are the least value in 1 of 27 resamples, which is more than 2.5 %.
            "mean_low": min(finals),
            "mean_high": max(finals),
            "best": max(value for seed in SEEDS for value in study[1][lr, seed]),
            "fps": statistics.fmean(1000.0 + seed for seed in SEEDS),
            "wall_time_s": statistics.fmean(100.0 + seed for seed in SEEDS) + (50.0 / 3 if lr == 0.01 else 0.0),
        }
        for name, value in expected.items():
            assert float(row[name]) == pytest.approx(value, rel=1e-6), name
        assert (row["metric"], row["experiments"], row["counted"]) == (TAG, "3", "3")
        assert (row["so_far"], row["attempts"]) == ("False", "4" if lr == 0.01 else "3")


def test_every_experiment_is_listed(study: tuple[Path, Truth], written: Path) -> None:
    rows = read_csv(written / "experiments.csv")
    assert len(rows) == 6
    for row in rows:
        values = study[1][float(row["param_lr"]), int(row["seed"])]
        assert float(row["value"]) == pytest.approx(values[-1], rel=1e-6)
        assert float(row["best"]) == pytest.approx(max(values), rel=1e-6)
        assert (row["state"], row["source"], float(row["last_step"])) == ("succeeded", "tensorboard", STEPS[-1])
        resumed = (row["param_lr"], row["seed"]) == ("0.01", "1111")
        assert (row["attempts"], row["superseded_values"]) == (("2", "5") if resumed else ("1", "0"))


def test_learning_curves_are_means_over_seeds(study: tuple[Path, Truth], written: Path) -> None:
    rows = read_csv(written / "curves.csv")
    assert len(rows) == 2 * 200
    for row in rows:
        position = float(row["step"]) / 1000
        before = min(int(position), len(STEPS) - 2)
        values = []
        for seed in SEEDS:
            curve = study[1][float(row["lr"]), seed]
            values.append(curve[before] + (position - before) * (curve[before + 1] - curve[before]))
        assert float(row["mean"]) == pytest.approx(statistics.fmean(values), abs=1e-5)
        assert (float(row["low"]), float(row["high"])) == pytest.approx((min(values), max(values)), abs=1e-5)
        assert row["experiments"] == "3"


def test_the_markdown_is_the_golden_one(study: tuple[Path, Truth]) -> None:
    text = markdown(make_report(["study"], study[0]))
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_what_is_printed_is_what_is_written(
    study: tuple[Path, Truth], written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", f"--train_dir={study[0]}", "--print_only"]) == 0
    assert capsys.readouterr().out == (written / "report.md").read_text(encoding="utf-8")


def test_pictures_are_pictures(written: Path) -> None:
    (picture,) = written.glob("*.png")
    assert picture.name == "curves_policy_stats.avg_true_reward.png"
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert picture.stat().st_size > 10_000


class _Page(HTMLParser):
    """Cells of the first table, points of the curves, and everything that would load something."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.loads: list[str] = []
        self.means: list[str] = []
        self.open: list[str] = []
        self._in_cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.loads += [f"{tag} {name}" for name in ("src", "href", "srcset", "data") if name in values]
        if tag not in ("meta", "line", "polygon", "polyline"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "polyline" and values.get("class") == "mean":
            self.means.append(values["points"] or "")
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("meta", "line", "polygon", "polyline"):
            assert self.open.pop() == tag
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.rows[-1][-1] += data


def test_the_page_stands_alone_and_says_the_same(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert page.loads == []
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org/2000/svg)", text)
    table = [line for line in (written / "report.md").read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip().strip("*") for cell in line.strip("|").split("|")] for line in table]
    assert page.rows[:3] == [cells[0], *cells[2:]]
    assert len(page.means) == 2
    assert all(len(points.split()) == 200 for points in page.means)
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', text)
    assert [len(line["text"]) for line in json.loads(data)["lines"]] == [200, 200]


def test_parquet_holds_the_same_numbers(study: tuple[Path, Truth], written: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is the optional extra `parquet`")
    assert main(["study", f"--train_dir={study[0]}", f"--out={tmp_path}", "--format=parquet"]) == 0
    for name in ("configurations", "experiments", "curves"):
        records = parquet.read_table(tmp_path / f"{name}.parquet").to_pylist()
        rows = read_csv(written / f"{name}.csv")
        assert [{k: "" if v is None else str(v) for k, v in record.items()} for record in records] == rows


def test_files_go_to_the_runs_folder_by_default_and_replace_older_ones(
    study: tuple[Path, Truth], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = study[0] / "study/report"
    for _ in range(2):
        assert main(["study", f"--train_dir={study[0]}", "--format=csv,md"]) == 0
        assert f"written to {folder}: configurations.csv, curves.csv, experiments.csv" in capsys.readouterr().out
        assert sorted(path.name for path in folder.iterdir()) == [
            "configurations.csv",
            "curves.csv",
            "experiments.csv",
            "report.md",
        ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stdy"], "No run 'stdy' under --train_dir="),
        (["study", "--metric=true_rewrd"], "--metric=true_rewrd: no experiment has it."),
        (["study", "--group_by=lrr"], "--group_by=lrr: no experiment has this parameter. Did you mean 'lr'?"),
        (["study", "--format=docx"], "--format=docx is unknown. Known: md, csv, parquet, png, pdf, html."),
        (["study", "--minimize", "--maximize"], "not allowed with argument --minimize"),
        (["study", "--out=/proc/nowhere"], "choose another --out"),
        ([], "the following arguments are required: RUN"),
    ],
)
def test_mistakes_are_told_in_one_line(
    study: tuple[Path, Truth], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([*arguments, f"--train_dir={study[0]}"]) in (1, 2)
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_a_missing_library_is_told_and_the_rest_written(
    study: tuple[Path, Truth], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    assert main(["study", f"--train_dir={study[0]}", f"--out={tmp_path}", "--format=parquet,md"]) == 2
    assert "pip install 'sf-runner[parquet]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main(["study", f"--train_dir={study[0]}", f"--out={tmp_path}"]) == 0
    assert "note: parquet needs pyarrow" in capsys.readouterr().err
    assert (tmp_path / "report.html").exists()
