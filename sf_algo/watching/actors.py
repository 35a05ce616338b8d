"""Policies of checkpoints, ready to act while somebody watches."""

from __future__ import annotations

import torch

from sf_algo.checkpoints import LoadedCheckpoint
from sf_algo.config import Config
from sf_algo.config.extras import EvaluationConfig
from sf_algo.envs.spec import EnvSpec
from sf_algo.learning.build import build_model
from sf_algo.model.actor import Actor
from sf_algo.model.actor_critic import ActorCritic
from sf_algo.watching.checkpoint import load_weights


def make_actor(
    trained: Config, spec: EnvSpec, loaded: LoadedCheckpoint, evaluation: EvaluationConfig, *, seed: int
) -> tuple[Actor, ActorCritic]:
    """The policy of a checkpoint on one core, and its network. `trained`: the configuration that it was trained with;
    `evaluation`: how it acts now.

    Raises:
        CheckpointMismatchError: it is another network, or one for other observations or actions than `spec` has.
    """
    torch.set_num_threads(1)  # one agent is too little work to share
    model = build_model(trained, spec, torch.device("cpu"), seed=seed)
    load_weights(model, loaded)
    actor = Actor(
        model,
        seed=seed,
        deterministic=evaluation.eval_deterministic,
        sample_continuous=evaluation.continuous_actions_sample,
    )
    return actor, model
