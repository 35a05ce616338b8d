"""Plays an exported policy in a gymnasium environment without torch: numpy, onnxruntime and gymnasium are enough.

python -m sf_algo.export --experiment=first --output=policy.onnx
python docs/examples/play_onnx.py policy.onnx --episodes=10
"""

import argparse
import json

import gymnasium
import numpy as np
import onnxruntime

parser = argparse.ArgumentParser()
parser.add_argument("file")
parser.add_argument("--episodes", type=int, default=10)
parser.add_argument("--deterministic", action="store_true", help="the most probable actions instead of drawn ones")
options = parser.parse_args()

policy = onnxruntime.InferenceSession(options.file, providers=["CPUExecutionProvider"])
form = json.loads(policy.get_modelmeta().custom_metadata_map["sf_algo"])
rng = np.random.default_rng()


def noise():
    """Drawn actions are a function of noise: Gumbel numbers for choices, normal ones for continuous numbers."""
    if options.deterministic:
        return np.zeros((1, form["noise_size"]), np.float32)
    parts = [
        rng.gumbel(size=part["n"]) if part["kind"] == "discrete" else rng.standard_normal(len(part["low"]))
        for part in form["actions"]
    ]
    return np.concatenate(parts).astype(np.float32)[None]


def action_of(row):
    """From the policy's row of numbers to the environment's action: one choice, or a vector inside its bounds."""
    (part,) = form["actions"]
    if part["kind"] == "discrete":
        return int(row[0])
    low = [-np.inf if bound is None else bound for bound in part["low"]]
    high = [np.inf if bound is None else bound for bound in part["high"]]
    return np.clip(row, low, high).astype(np.float32)


env = gymnasium.make(form["env"])
returns = []
for episode in range(options.episodes):
    obs, _ = env.reset(seed=episode)
    state = np.zeros((1, form["state_size"]), np.float32)
    total, ended = 0.0, False
    while not ended:
        inputs = {"obs/obs": np.asarray(obs, np.float32)[None], "noise": noise()}
        if form["state_size"]:
            inputs["state"] = state
        actions, _, *states = policy.run(None, inputs)
        state = states[0] if states else state
        obs, reward, terminated, truncated, _ = env.step(action_of(actions[0]))
        total += reward
        ended = terminated or truncated
    returns.append(total)
print(f"{len(returns)} episodes, mean reward {np.mean(returns):.1f}")
