"""An environment and a network of your own, in one file.

    cd docs/examples
    python -m sf_algo.train_appo --env=my_env:make_env --encoder_custom=my_env:make_encoder \\
        --experiment=fetch --serial_mode=True --use_rnn=False --hidden_size=128 --learning_rate=1e-3 \\
        --ppo_epochs=4 --gamma=0.95 --train_for_env_steps=300000

Two things lie on a small board, and the agent is told the colour of the one to fetch. It sees the board as
an image and the wanted colour as a vector, and it may not walk off the board: an image, a vector and an
action mask at once. After the 300,000 frames, which take half a minute, it nearly always fetches the right
one.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

SIZE = 5
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
TIME_LIMIT = 20


class Fetch(gymnasium.Env[dict[str, Any], int]):
    """+1 for the wanted thing, -1 for the other one, a little less for every step."""

    observation_space = spaces.Dict(
        {
            "board": spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8),
            "wanted": spaces.Box(0.0, 1.0, (2,), np.float32),
            "action_mask": spaces.Box(0, 1, (len(MOVES),), np.int8),
        }
    )
    action_space = spaces.Discrete(len(MOVES))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        cells = self.np_random.choice(SIZE * SIZE, 3, replace=False)
        self.agent, *self.things = (divmod(int(cell), SIZE) for cell in cells)
        self.wanted = int(self.np_random.integers(2))
        self.steps = 0
        return self.observe(), {}

    def observe(self) -> dict[str, Any]:
        board = np.zeros((SIZE, SIZE, 3), np.uint8)
        for channel, cell in enumerate((*self.things, self.agent)):
            board[cell][channel] = 255
        inside = [all(0 <= x < SIZE for x in self.after(move)) for move in range(len(MOVES))]
        return {
            "board": board,
            "wanted": np.eye(2, dtype=np.float32)[self.wanted],
            "action_mask": np.array(inside, np.int8),
        }

    def after(self, move: int) -> tuple[int, int]:
        return self.agent[0] + MOVES[move][0], self.agent[1] + MOVES[move][1]

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        assert self.observe()["action_mask"][action], "masked actions are never taken"
        self.agent = self.after(action)
        self.steps += 1
        found = self.agent in self.things
        right = self.agent == self.things[self.wanted]
        truncated = self.steps == TIME_LIMIT and not found
        reward = (1.0 if right else -1.0) if found else -0.02
        stats = {"episode_extra_stats": {"right": float(right)}} if found or truncated else {}
        return self.observe(), reward, found, truncated, stats


def make_env(render_mode: str | None = None) -> Fetch:
    """Called for every environment of the run, with those of `env_cfg`, `placement` and `render_mode` it
    declares.
    """
    return Fetch()


def make_encoder(model_cfg: Any, obs_specs: Any) -> Any:
    """Called once for each network. Rollout workers never call it, so torch stays out of them."""
    import torch
    from torch import nn

    channels, height, width = obs_specs["board"].shape  # images always arrive as CHW

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out_size = model_cfg.hidden_size
            self.convolution = nn.Conv2d(channels, 16, 3, padding=1)
            flat = 16 * height * width + obs_specs["wanted"].shape[0]
            self.layers = nn.Sequential(nn.Linear(flat, self.out_size), nn.ReLU())

        def forward(self, obs: dict[str, torch.Tensor]) -> torch.Tensor:
            seen = torch.relu(self.convolution(obs["board"].float() / 255.0)).flatten(1)
            return self.layers(torch.cat([seen, obs["wanted"]], dim=1))  # type: ignore[no-any-return]

    return Encoder()
