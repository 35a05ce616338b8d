"""Kills a training of a population again and again around its exchanges, and looks at what is left each time:
`python -m tests.algo.population_kills <folder> <kills> <seed> [--flag=value ...]`.

Trainings are forked from this process, which has imported everything already, so that a kill costs no start of Python.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from sf_algo import train_appo
from sf_algo.checkpoints import CheckpointStore
from sf_algo.training import launch  # noqa: F401  imported before the forks

POLICIES = 3
FLAGS = [
    "--env=tests.algo.shaped_env:make_env", "--hidden_size=16", "--use_rnn=False", "--num_envs_per_worker=4",
    "--batch_size=128", "--device=cpu", f"--num_policies={POLICIES}", "--stats_avg=3", "--with_pbt=True",
    "--pbt_start_mutation=100", "--pbt_period_env_steps=100", "--pbt_mutation_rate=1",
    "--decorrelate_experience_max_seconds=0", "--per_policy", "learning_rate:1e-5..1e-2",
]  # fmt: skip
DELAYS_S = (0.0, 0.003, 0.03, 0.1, 0.3, 0.6)
"""After an exchange; a few times a second, what is due is saved."""
PATIENCE_S = 120.0


def lines_of(path: Path) -> list[dict[str, Any]]:
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:  # torn by a kill
            continue
    return found


def start(root: Path, flags: list[str]) -> int:
    """A training in a process of its own; its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        log = os.open(root / "out.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os._exit(train_appo.main([*FLAGS, f"--train_dir={root}", "--experiment=killed", *flags]))
    finally:
        os._exit(99)


def wait_for_exchange(log: Path, known: int, pid: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while sum(line["event"] == "exchange" for line in lines_of(log)) <= known:
        if os.waitpid(pid, os.WNOHANG)[0] or time.monotonic() > deadline:
            raise SystemExit(f"no exchange; see {log.parent.parent / 'out.txt'}")
        time.sleep(0.002)


def check(root: Path) -> list[int]:
    """Every policy's newest checkpoint is whole: hyperparameters, shaping and the count of exchanges are those of one
    and the same exchange of that policy, or of its start. Returns these counts."""
    events = lines_of(root / "killed/pbt.jsonl")
    counts = []
    for policy in range(POLICIES):
        loaded = CheckpointStore(root / f"killed/checkpoint_p{policy}", keep=3).load_latest()
        assert loaded is not None, policy
        learner, runtime = loaded.checkpoint.learner, loaded.checkpoint.runtime
        number = runtime["rules"]["population"]["exchanges"]
        told = [
            e["values"] for e in events if e["policy"] == policy and number in (e.get("number"), e.get("exchanges"))
        ]
        shaping = {f"shaping/{name}": value for name, value in learner["carried"].get("shaping", {}).items()}
        values = {**learner["overrides"], **shaping}
        assert any(all(one[name] == value for name, value in values.items()) for one in told), (policy, number, values)
        assert bool(values) == (number > 0), (policy, number, values)
        counts.append(number)
    return counts


def main(argv: list[str]) -> int:
    root, kills, rng, flags = Path(argv[0]), int(argv[1]), random.Random(int(argv[2])), argv[3:]
    log = root / "killed/pbt.jsonl"
    _, status = os.waitpid(start(root, [*flags, "--train_for_env_steps=2000"]), 0)
    assert status == 0, f"see {root / 'out.txt'}"
    for kill in range(kills):
        known = sum(line["event"] == "exchange" for line in lines_of(log))
        pid = start(root, [*flags, "--train_for_env_steps=1000000000"])
        wait_for_exchange(log, known + rng.randrange(3), pid)
        time.sleep(rng.choice(DELAYS_S) * rng.random())
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        print(f"kill {kill + 1}: exchanges in checkpoints {check(root)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
