"""Weights & Biases in offline mode: every flag arrives, and a resumed training continues its run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sf_algo.config import RunConfig, WandbConfig
from sf_algo.errors import SummaryError
from sf_algo.paths import ExperimentPaths
from sf_algo.summaries.sinks import WandbSink

wandb = pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name.lower()))
    yield
    wandb.teardown()


def start(paths: ExperimentPaths, *, num_policies: int = 1, **flags: Any) -> WandbSink:
    paths.root.mkdir(parents=True, exist_ok=True)
    return WandbSink(
        WandbConfig(with_wandb=True, **flags),
        RunConfig(env="doom_basic", experiment="my_experiment"),
        paths,
        num_policies=num_policies,
        flags={"gamma": 0.99, "wandb_tags": ("a",)},
    )


def records(run_folder: Path) -> list[dict[str, Any]]:
    """What the offline run holds, as wandb's own command prints it."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run_folder)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def of_kind(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record[kind] for record in found if record["type"] == kind]


def test_flags_and_values_arrive_and_a_resume_continues(tmp_path: Path) -> None:
    paths = ExperimentPaths(tmp_path / "e")
    flags: dict[str, Any] = {
        "wandb_user": "me",
        "wandb_project": "p",
        "wandb_job_type": "J",
        "wandb_tags": ("x", "y"),
    }
    found = []
    for env_steps in (100, 200):
        sink = start(paths, **flags)
        sink.write(0, {"train/loss": env_steps / 2}, env_steps=env_steps, wall_time=0)
        sink.close()
        (folder,) = (paths.root / "wandb").glob("offline-run-*")
        # Named by the second: moved away, or a second start in the same one would meet the first.
        found.append(records(folder.rename(tmp_path / f"run{env_steps}")))
    runs = [of_kind(record, "run")[0] for record in found]
    assert runs[0]["run_id"] == runs[1]["run_id"] == paths.wandb_id.read_text()
    run = runs[0]
    assert (run["entity"], run["project"], run["job_type"], run["tags"]) == ("me", "p", "J", ["x", "y"])
    assert (run["run_group"], run["display_name"]) == ("doom_basic", "my_experiment")
    assert run["config"]["update"]["gamma"] == 0.99
    items = [item["item"] for record in found for item in of_kind(record, "history")]
    assert [(item["env_steps"], item["train/loss"]) for item in items] == [(100, 50), (200, 100)]
    assert of_kind(found[0], "metric")[0]["step_metric"] == "env_steps"


def test_group_and_several_policies(tmp_path: Path) -> None:
    paths = ExperimentPaths(tmp_path / "e")
    sink = start(paths, num_policies=2, wandb_group="g")
    sink.write(1, {"x": 3.0}, env_steps=7, wall_time=0)
    sink.close()
    (folder,) = (paths.root / "wandb").glob("offline-run-*")
    found = records(folder)
    assert of_kind(found, "run")[0]["run_group"] == "g"
    assert of_kind(found, "history")[0]["item"]["p1/x"] == 3


def test_a_refusal_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(SummaryError, match=r"Weights & Biases cannot start: .*WANDB_MODE=offline"):
        start(ExperimentPaths(tmp_path / "e"), wandb_project="not/a:project" * 20)


def test_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(SummaryError, match="pip install wandb"):
        start(ExperimentPaths(tmp_path / "e"))


def test_a_failure_while_training_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sink = start(ExperimentPaths(tmp_path / "e"))
    sink.close()
    for _ in range(2):
        sink.write(0, {"x": 1.0}, env_steps=1, wall_time=0)
    assert sum("takes no more summaries" in record.message for record in caplog.records) == 1
