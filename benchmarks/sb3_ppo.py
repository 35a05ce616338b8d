"""Stable-Baselines3's PPO on one environment, for `throughput.py`; runs in a virtual environment of its own.

python benchmarks/sb3_ppo.py --env=CartPole-v1 --num_envs=32 --rollout=32 --batch_size=1024 --hidden=512,512 --threads=2
"""

from __future__ import annotations

import argparse
import time
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", required=True)
    parser.add_argument("--num_envs", type=int, default=32)
    parser.add_argument("--rollout", type=int, default=32)
    parser.add_argument("--batch_size", type=int, default=1024)
    parser.add_argument("--hidden", default="512,512")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import DummyVecEnv

    torch.set_num_threads(options.threads)

    class Report(BaseCallback):  # type: ignore[misc]
        """Tells the number of frames after every rollout and stops in time."""

        def __init__(self) -> None:
            super().__init__()
            self._until = time.monotonic() + options.seconds

        def _on_rollout_end(self) -> None:
            print(f"Total num frames: {self.num_timesteps}", flush=True)

        def _on_step(self) -> bool:
            return time.monotonic() < self._until

    widths = [int(width) for width in options.hidden.split(",")]
    # Policy and value share no layer there; sharing them needs an extractor, which is what the others train.
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

    class Shared(BaseFeaturesExtractor):  # type: ignore[misc]
        """The perceptron that policy and value share."""

        def __init__(self, observation_space: Any) -> None:
            super().__init__(observation_space, widths[-1])
            layers: list[torch.nn.Module] = []
            inputs = observation_space.shape[0]
            for width in widths:
                layers += [torch.nn.Linear(inputs, width), torch.nn.ELU()]
                inputs = width
            self.layers = torch.nn.Sequential(*layers)

        def forward(self, observations: torch.Tensor) -> torch.Tensor:
            return self.layers(observations)  # type: ignore[no-any-return]

    model = PPO(
        "MlpPolicy",
        make_vec_env(options.env, options.num_envs, vec_env_cls=DummyVecEnv),
        n_steps=options.rollout,
        batch_size=options.batch_size,
        n_epochs=1,
        policy_kwargs={"features_extractor_class": Shared, "net_arch": []},
        device="cpu",
    )
    model.learn(10**9, callback=Report())


if __name__ == "__main__":
    main()
