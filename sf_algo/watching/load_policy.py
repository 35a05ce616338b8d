"""A trained policy for use from Python.

Shape letters: N agents acting now, S numbers of recurrent state, W = `ActionSpec.width`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sf_algo.checkpoints import LoadedCheckpoint
from sf_algo.config import Command, Config, configure
from sf_algo.envs.agent_lists import AgentLists
from sf_algo.envs.factory import EnvSections, make_env
from sf_algo.envs.gymnasium_env import GymnasiumEnv
from sf_algo.envs.spec import Env, EnvPlacement
from sf_algo.errors import EnvError
from sf_algo.learning.build import build_model
from sf_algo.model.actor import Actor
from sf_algo.own.additions import NOTHING_ADDED, Additions, additions_of
from sf_algo.own.training_info import TrainingInfo
from sf_algo.watching.checkpoint import load_for_watching, load_weights


class TrainedPolicy:
    """Acts as the policy of a checkpoint does. Use `load_policy`."""

    def __init__(
        self,
        config: Config,
        additions: Additions,
        loaded: LoadedCheckpoint,
        *,
        device: torch.device,
        deterministic: bool,
        seed: int,
    ) -> None:
        """Makes the environment once and closes it: it knows what is observed and done."""
        self.config = config
        self.path: Path = loaded.path
        """The checkpoint's file."""
        self.env_steps = loaded.checkpoint.env_steps
        """Frames that the policy was trained on."""
        self._additions = additions
        env = self.make_env()
        self.spec = env.spec
        """What the policy observes, and the form of its actions."""
        self._codec = env if isinstance(env, (GymnasiumEnv, AgentLists)) else None
        env.close()
        model = build_model(config, self.spec, device, seed=seed)
        load_weights(model, loaded)
        self.model = model
        self._actor = Actor(model, seed=seed, deterministic=deterministic)
        self._row = {name: spec.zeros(1) for name, spec in self.spec.obs.items()}

    def make_env(self, *, render_mode: str | None = None) -> Env:
        """An environment like those of the training, behind the `Env` protocol. The caller closes it."""
        sections = EnvSections.of(self.config, self._additions, TrainingInfo([self.env_steps]))
        return make_env(self.config.run.env, sections, EnvPlacement(render_mode=render_mode))

    def act(self, obs: Any, state: NDArray[np.float32] | None = None) -> tuple[Any, NDArray[np.float32]]:
        """One agent's next action.

        Args:
            obs: as the environment returned it.
            state: what `act` returned before, [S]; None at the start of an episode.

        Returns:
            The action in the form that the environment takes, and the state for the next call.

        Raises:
            EnvError: the environment is neither gymnasium's nor one of lists per agent; use `act_rows`.
        """
        if self._codec is None:
            raise EnvError("the observations of this environment have no form of one agent; use act_rows")
        row = {name: array[0, ...] for name, array in self._row.items()}
        self._codec.write_observation(obs, row, first=state is None)
        actions, states = self.act_rows(self._row, None if state is None else state[None])
        return self._codec.action_of(actions[0]), states[0]

    def act_rows(
        self, obs: Mapping[str, NDArray[Any]], states: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The next actions of N agents: observations name -> [N, ...] as `spec.obs` says (images are CHW), states
        [N, S] -> actions [N, W] as `spec.actions` says, states [N, S]. Without states, episodes begin."""
        device = self.model.device
        tensors = {name: torch.from_numpy(np.asarray(obs[name])).to(device) for name in self.spec.obs}
        rows = len(next(iter(tensors.values())))
        before = torch.zeros(rows, self.model.rnn_state_size)
        if states is not None:
            before = torch.from_numpy(np.asarray(states, np.float32))
        acted = self._actor.step(tensors, before.to(device))
        return acted.actions.cpu().numpy(), acted.rnn_states.cpu().numpy().copy()


def load_policy(
    experiment: str | Path,
    *,
    kind: Literal["latest", "best"] = "latest",
    policy: int = 0,
    deterministic: bool = False,
    device: Literal["cpu", "gpu"] = "cpu",
    seed: int | None = None,
    app: Additions | None = None,
    flags: Sequence[str] = (),
) -> TrainedPolicy:
    """Loads a policy from an experiment's folder.

        policy = load_policy("train_dir/first", kind="best")
        action, state = policy.act(obs)
        action, state = policy.act(obs, state)

    Args:
        experiment: the folder that holds `cfg.json`.
        kind: the newest checkpoint, or the best by --save_best_metric.
        policy: which of --num_policies.
        deterministic: take the most probable actions instead of drawing them.
        seed: of the drawn actions; None: a new one every time.
        app: the program, where it is not importable by the path that is stored with the experiment.
        flags: values that differ from the stored ones, as on a command line.

    Raises:
        ConfigError: there is no experiment, or its configuration does not load.
        CheckpointError: there is no such checkpoint.
        SfAlgoError: the program or the environment cannot be imported or made.
    """
    folder = Path(experiment).expanduser()
    words = [
        f"--train_dir={folder.parent}",
        f"--experiment={folder.name}",
        f"--policy_index={policy}",
        f"--load_checkpoint_kind={kind}",
        *flags,
    ]
    invocation = configure(words, Command.ENJOY, app or NOTHING_ADDED)
    config = replace(invocation.config, run=replace(invocation.config.run, device=device))
    loaded = load_for_watching(config)
    return TrainedPolicy(
        config,
        additions_of(invocation),
        loaded,
        device=torch.device("cuda" if device == "gpu" else "cpu"),
        deterministic=deterministic,
        seed=secrets.randbelow(2**31) if seed is None else seed,
    )
