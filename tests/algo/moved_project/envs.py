from __future__ import annotations

import gymnasium as gym
import numpy as np

from sf_algo.compat.sample_factory.envs.env_utils import RewardShapingInterface, TrainingInfoInterface


class Flock(gym.Env):
    """Bird a is rewarded for the action that its observation names; its episode takes 4 + a steps."""

    def __init__(self, cfg):
        self.num_agents = cfg.flock_num_agents
        self.is_multiagent = True
        self.observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
        self.action_space = gym.spaces.Discrete(3)
        self.weights = {"right": 1.0}
        self.rng = np.random.default_rng(0)

    def reset(self, seed=None, options=None):
        self.at = [0] * self.num_agents
        return [self.observe(agent) for agent in range(self.num_agents)], [{} for _ in range(self.num_agents)]

    def observe(self, agent):
        self.wanted = getattr(self, "wanted", [0] * self.num_agents)
        self.wanted[agent] = int(self.rng.integers(3))
        return np.eye(3, dtype=np.float32)[self.wanted[agent]]

    def step(self, actions):
        rewards = [self.weights["right"] * float(a == w) for a, w in zip(actions, self.wanted, strict=True)]
        self.at = [at + 1 for at in self.at]
        done = [at == 4 + agent for agent, at in enumerate(self.at)]
        self.at = [0 if over else at for at, over in zip(self.at, done, strict=True)]
        obs = [self.observe(agent) for agent in range(self.num_agents)]
        return obs, rewards, done, [False] * self.num_agents, [{} for _ in done]


class Shaping(gym.Wrapper, TrainingInfoInterface, RewardShapingInterface):
    def __init__(self, env, anneal_steps):
        gym.Wrapper.__init__(self, env)
        TrainingInfoInterface.__init__(self)
        self.anneal_steps = anneal_steps

    def get_default_reward_shaping(self):
        return dict(self.env.unwrapped.weights)

    def set_reward_shaping(self, reward_shaping, agent_idx):
        self.env.unwrapped.weights = dict(reward_shaping)

    def step(self, actions):
        obs, rewards, terminated, truncated, infos = self.env.step(actions)
        steps = self.training_info.get("approx_total_training_steps", 0)
        for over, info in zip(terminated, infos, strict=True):
            if over:
                info["episode_extra_stats"] = {"steps_seen": steps}
        return obs, rewards, terminated, truncated, infos


def make_flock(full_env_name, cfg=None, env_config=None, render_mode=None):
    assert full_env_name == "flock"
    assert cfg.flock_mode in ("calm", "wild")
    return Shaping(Flock(cfg), cfg.flock_anneal_steps)
