"""Where an experiment keeps its files: the only place that knows their names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ExperimentPaths:
    """Files and folders under the experiment's folder `root`."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "cfg.json"

    @property
    def log(self) -> Path:
        return self.root / "sf_log.txt"

    @property
    def results(self) -> Path:
        return self.root / "results.json"

    @property
    def population(self) -> Path:
        """What happened in a population, line by line."""
        return self.root / "pbt.jsonl"

    @property
    def lock(self) -> Path:
        """Held by the one training of this experiment."""
        return self.root / ".lock"

    @property
    def summaries(self) -> Path:
        return self.root / ".summary"

    @property
    def wandb_id(self) -> Path:
        """Identity of the Weights & Biases run, so that a resumed training continues it."""
        return self.summaries / "wandb_id"

    def summary(self, policy_id: int) -> Path:
        """Folder of a policy's tensorboard files."""
        return self.summaries / str(policy_id)

    def checkpoints(self, policy_id: int) -> Path:
        """Folder of a policy's checkpoints."""
        return self.root / f"checkpoint_p{policy_id}"

    def pool(self, policy_id: int) -> Path:
        """Folder of a policy's earlier selves that are kept as opponents."""
        return self.checkpoints(policy_id) / "pool"

    def video(self, name: str | None) -> Path:
        """Where a recorded evaluation goes."""
        return self.root / (name or "replay.mp4")

    def evaluation(self, policy_id: int) -> Path:
        """Results of the last evaluation of a policy."""
        return self.root / f"evaluation_p{policy_id}.json"

    @property
    def contest(self) -> Path:
        """Results of the last games between policies."""
        return self.root / "evaluation_policies.json"

    @property
    def league(self) -> Path:
        """Games between checkpoints, and their ratings."""
        return self.root / "league.json"

    def existing(self) -> list[Path]:
        """The trainer's files and folders that are there, apart from the lock. Other files in the folder (a
        launcher's logs) are none of ours."""
        games = (self.contest, self.league)
        fixed = (self.config, self.log, self.results, self.population, *games, self.summaries, self.root / "wandb")
        patterns = ("checkpoint_p[0-9]*", "evaluation_p[0-9]*.json")
        found = [path for pattern in patterns for path in sorted(self.root.glob(pattern))]
        return [*(path for path in fixed if path.exists()), *found]
