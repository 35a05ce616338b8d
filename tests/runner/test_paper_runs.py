"""The paper's matches, as its run descriptions train them, with fewer processes and for a few thousand frames."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sf_algo.envs.doom import maps
from tests.runner.harness import ROOT

pytest.importorskip("vizdoom", reason="VizDoom environments need the vizdoom package")
MAPS = ("ssl2.wad", "dwango5.wad")
pytestmark = [
    pytest.mark.doom,
    pytest.mark.slow,
    pytest.mark.skipif(
        not all((maps.cache_dir() / wad).is_file() for wad in MAPS),
        reason=f"the maps of matches: {maps.DOWNLOAD_COMMAND}",
    ),
]

FRAMES = 6000
FEWER = (
    "--device=cpu --num_workers=1 --num_envs_per_worker=4 --batch_size=256 --timelimit=0.1 --status_interval=1 "
    f"--train_for_env_steps={FRAMES}"
)
TWO_POLICIES = "--num_policies=2 --pbt_start_mutation=1500 --pbt_period_env_steps=1000 --pbt_mutation_rate=1"

DESCRIPTION = """
from run_descriptions.{module} import RUN_DESCRIPTION as paper
from sf_runner import Experiment, RunDescription

RUN_DESCRIPTION = RunDescription(
    paper.run_name,
    experiments=[Experiment(one.base_name, one.cmd + " {flags}", one.params[:1]) for one in paper.experiments],
)
"""


def run_reduced(folder: Path, module: str, flags: str) -> Path:
    """Has the runner run it; the folder of its only experiment."""
    (folder / "reduced.py").write_text(DESCRIPTION.format(module=module, flags=flags))
    command = [sys.executable, "-m", "sf_runner.run", f"--run={folder / 'reduced.py'}", "--num_gpus=0", "--ui=plain"]
    done = subprocess.run(
        [*command, f"--train_dir={folder / 'train'}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    logs = "".join(path.read_text() for path in folder.glob("train/**/attempt_*.log"))
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{logs}"
    (results,) = (folder / "train").glob("**/results.json")
    return results.parent


@pytest.mark.parametrize(
    ("module", "bots"), [("paper_doom_duel_bots", 1), ("paper_doom_deathmatch_bots", 7)], ids=["duel", "deathmatch"]
)
def test_matches_with_bots(tmp_path: Path, module: str, bots: int) -> None:
    experiment = run_reduced(tmp_path, module, FEWER)
    results = json.loads((experiment / "results.json").read_text())
    assert (results["outcome"], results["env_steps"] >= FRAMES) == ("finished", True)
    assert {"frags", "deaths", "final_place", "bot_difficulty"} <= results["metrics"].keys()
    assert 1 <= results["metrics"]["final_place"] <= bots + 1
    config = json.loads((experiment / "cfg.json").read_text())
    assert config["config"]["env"]["env_frameskip"] == 2
    assert list((experiment / "checkpoint_p0").glob("checkpoint_*.pth"))


def test_the_duel_in_self_play_with_a_population(tmp_path: Path) -> None:
    experiment = run_reduced(tmp_path, "paper_doom_duel", f"{FEWER} {TWO_POLICIES}")
    results = json.loads((experiment / "results.json").read_text())
    assert results["outcome"] == "finished"
    assert all(policy["policy_version"] > 0 for policy in results["policies"])
    assert all(0.0 <= policy["metrics"]["win_rate"] <= 1.0 for policy in results["policies"])
    log = [json.loads(line) for line in (experiment / "pbt.jsonl").read_text().splitlines()]
    assert [line["event"] for line in log[:2]] == ["start", "start"]
    assert {line["policy"] for line in log if line["event"] == "exchange"}, "somebody had a turn"
    assert all(list((experiment / f"checkpoint_p{policy}").glob("checkpoint_*.pth")) for policy in range(2))
