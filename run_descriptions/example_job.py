"""A small learning program that needs nothing but Python: Q-learning on the cliff walk.

The agent walks a 4 x 12 grid from the lower left to the lower right corner; every move costs 1, stepping off
the cliff between them costs 100 and starts over (Sutton and Barto, Reinforcement Learning, example 6.6). The
program tells the runner its progress and leaves `results.json` in its experiment's folder.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import deque
from pathlib import Path

from sf_runner.progress import report

ROWS, COLUMNS = 4, 12
START, GOAL = (ROWS - 1) * COLUMNS, ROWS * COLUMNS - 1
CLIFF = range(START + 1, GOAL)
ACTIONS = 4
"""Up, right, down, left."""

MAX_EPISODE_STEPS = 500
REPORT_EVERY_STEPS = 1_000
LOG_EVERY_STEPS = 100_000


def move(cell: int, action: int) -> tuple[int, int, bool]:
    """One step of the walk: (next cell, reward, whether the goal is reached)."""
    row, column = divmod(cell, COLUMNS)
    if action == 0:
        row = max(row - 1, 0)
    elif action == 1:
        column = min(column + 1, COLUMNS - 1)
    elif action == 2:
        row = min(row + 1, ROWS - 1)
    else:
        column = max(column - 1, 0)
    cell = row * COLUMNS + column
    if cell in CLIFF:
        return START, -100, False
    return cell, -1, cell == GOAL


def greedy(values: list[float]) -> int:
    """The action of the highest value, the first one of equals."""
    return values.index(max(values))


def train(*, steps: int, learning_rate: float, epsilon: float, discount: float, seed: int) -> list[list[float]]:
    """Learn the values [cell][action] of actions; report the mean return of the last 100 episodes."""
    rng = random.Random(seed)
    q = [[0.0] * ACTIONS for _ in range(ROWS * COLUMNS)]
    returns: deque[int] = deque(maxlen=100)
    cell, episode_return, episode_steps = START, 0, 0
    for step in range(1, steps + 1):
        action = rng.randrange(ACTIONS) if rng.random() < epsilon else greedy(q[cell])
        next_cell, reward, done = move(cell, action)
        target = reward + (0.0 if done else discount * max(q[next_cell]))
        q[cell][action] += learning_rate * (target - q[cell][action])
        cell = next_cell
        episode_return += reward
        episode_steps += 1
        if done or episode_steps == MAX_EPISODE_STEPS:
            returns.append(episode_return)
            cell, episode_return, episode_steps = START, 0, 0
        if step % REPORT_EVERY_STEPS == 0 and returns:
            mean_return = sum(returns) / len(returns)
            report(step=step, total=steps, phase="train", reward=mean_return)
            if step % LOG_EVERY_STEPS == 0:
                print(f"step {step:>10,}  return {mean_return:8.2f}", flush=True)
    return q


def evaluate(q: list[list[float]]) -> int:
    """The return of one walk without exploration."""
    cell, total = START, 0
    for _ in range(MAX_EPISODE_STEPS):
        cell, reward, done = move(cell, greedy(q[cell]))
        total += reward
        if done:
            break
    return total


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Q-learning on the cliff walk, a stand-in for a training program.")
    parser.add_argument("--steps", type=int, default=3_000_000, help="environment steps")
    parser.add_argument("--learning_rate", type=float, default=0.1)
    parser.add_argument("--epsilon", type=float, default=0.1, help="share of random actions")
    parser.add_argument("--discount", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train_dir", default="train_dir", help="folder of the experiments")
    parser.add_argument("--experiment", default="cliff_walk", help="name of this experiment")
    args = parser.parse_args(argv)

    q = train(
        steps=args.steps,
        learning_rate=args.learning_rate,
        epsilon=args.epsilon,
        discount=args.discount,
        seed=args.seed,
    )
    greedy_return = evaluate(q)
    report(phase="done", greedy_return=greedy_return)
    folder = Path(args.train_dir, args.experiment)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(
        json.dumps({"greedy_return": greedy_return, **vars(args)}) + "\n", encoding="utf-8"
    )
    print(f"return without exploration: {greedy_return}")


if __name__ == "__main__":
    main()
