"""The checkpoint of the policy that is watched."""

from __future__ import annotations

from sf_algo.checkpoints import CheckpointStore, LoadedCheckpoint
from sf_algo.config import Config
from sf_algo.errors import CheckpointError
from sf_algo.learner.fit import check_fit
from sf_algo.model.base import ActorCritic
from sf_algo.paths import ExperimentPaths


def load_weights(model: ActorCritic, loaded: LoadedCheckpoint) -> None:
    """Gives `model` the weights and normalizers of a checkpoint, which may hold them in half precision, and need not
    hold what only training needs. Raises CheckpointMismatchError."""
    weights = loaded.checkpoint.learner["model"]
    check_fit(model.state_dict(), weights)
    model.load_state_dict(weights)


def load_for_watching(config: Config) -> LoadedCheckpoint:
    """The newest or best checkpoint of the policy that the flags name. Raises CheckpointError."""
    folder = ExperimentPaths(config.run.experiment_dir).checkpoints(config.evaluation.policy_index)
    store = CheckpointStore(folder, keep=1)
    best = config.run.load_checkpoint_kind == "best"
    loaded = store.load_best() if best else store.load_latest()
    if loaded is None:
        kind = "best checkpoint" if best else "checkpoint"
        raise CheckpointError(
            f"there is no {kind} in {store.folder} yet; train longer, or check --experiment, --policy_index "
            "and --load_checkpoint_kind"
        )
    return loaded
