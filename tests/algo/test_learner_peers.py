"""Several learners of one policy, in processes of their own: together they make the step that one makes alone."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from sf_algo.learner.extra_losses import ExtraLosses
from sf_algo.learner.learner import Learner
from sf_algo.learner.peers import Alone, share
from tests.algo.model_cases import (
    CPU,
    DISCRETE,
    IMAGE,
    MIXED,
    VECTOR,
    B,
    T,
    env_spec,
    learner_config,
    make_model,
    model_config,
    random_batch,
)

CASES: dict[str, dict[str, Any]] = {
    "v-trace, gru, image, one minibatch": {
        "spec": env_spec(IMAGE, DISCRETE),
        "model": model_config(use_rnn=True),
        "rl": {"exploration_loss": "symmetric_kl", "exploration_loss_coeff": 0.01},
        "make": {"obs_scale": 255.0},
    },
    "gae, normalizers, minibatches, adaptive rate": {
        "spec": env_spec(VECTOR, MIXED),
        "model": model_config(),
        "rl": {
            "with_vtrace": False,
            "recurrence": 1,
            "batch_size": T * 3,
            "ppo_epochs": 2,
            "lr_schedule": "kl_adaptive_minibatch",
            "kl_loss_coeff": 0.1,
        },
        "make": {"normalize_input": True, "normalize_returns": True},
    },
    "own losses": {"spec": env_spec(), "model": model_config(), "rl": {"recurrence": 1}, "make": {}, "losses": True},
}
OWN_LOSSES = ("tests.algo.own_losses:shrink", "tests.algo.own_losses:calm")


def make(name: str, **more: Any) -> Learner:
    case = CASES[name]
    model = make_model(case["spec"], case["model"], **case["make"])
    losses = ExtraLosses(OWN_LOSSES, {}) if case.get("losses") else ExtraLosses((), {})
    cfg = learner_config(**case["rl"])
    return Learner(0, cfg, model, device=CPU, max_policy_lag=100, seed=0, extra_losses=losses, **more)


def batches(name: str) -> list[Any]:
    case = CASES[name]
    model = make_model(case["spec"], case["model"], **case["make"])
    made = [random_batch(case["spec"], model, seed=seed) for seed in range(3)]
    made[1].valid[:, 3:] = False  # most trajectories are dropped: some learner has none
    made[2].rewards[0, 0] = float("nan")
    return made


PROGRAM = """
import sys, json, io, torch
from dataclasses import asdict
from sf_algo.learner.peers import ConnectedPeers
from tests.algo.test_learner_peers import batches, make
name, rank, count, path = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
torch.set_num_threads(1)
peers = ConnectedPeers(rank, count, path, torch.device("cpu"), timeout_s=60)
learner = make(name, peers=peers)
stats = [asdict(learner.train(batch)) for batch in batches(name)]
torch.save({"stats": json.dumps(stats), "state": learner.state_dict()}, sys.argv[5])
peers.leave()
"""


def train_together(name: str, count: int, folder: Path) -> list[dict[str, Any]]:
    fd = os.memfd_create("rendezvous")
    outputs = [folder / f"{rank}.pth" for rank in range(count)]
    try:
        running = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, name, str(rank), str(count), f"/proc/self/fd/{fd}", str(outputs[rank])],
                pass_fds=[fd],
                stderr=subprocess.PIPE,
            )
            for rank in range(count)
        ]
        for process in running:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors.decode()
    finally:
        os.close(fd)
    return [torch.load(io.BytesIO(path.read_bytes()), weights_only=True) for path in outputs]


FIRST, *OTHERS = CASES


@pytest.mark.parametrize(
    ("name", "count"),
    [(FIRST, 2), *(pytest.param(*case, marks=pytest.mark.slow) for case in [(FIRST, 3), *((n, 2) for n in OTHERS)])],
)
def test_several_learners_make_the_step_of_one(name: str, count: int, tmp_path: Path) -> None:
    alone = make(name)
    wanted = [asdict(alone.train(batch)) for batch in batches(name)]
    together = train_together(name, count, tmp_path)
    first = together[0]["state"]["model"]
    for other in together[1:]:
        assert all(torch.equal(x, other["state"]["model"][n]) for n, x in first.items())
        assert other["state"]["learning_rate"] == together[0]["state"]["learning_rate"]
    for name_, tensor in alone.model.state_dict().items():
        assert torch.allclose(tensor, first[name_], rtol=1e-4, atol=3e-5), name_
    for mine, theirs in zip(wanted, json.loads(together[0]["stats"]), strict=True):
        assert mine["num_updates"] == theirs["num_updates"]
        for figure in ("loss", "policy_loss", "value_loss", "exploration_loss", "kl_divergence", "grad_norm"):
            assert theirs["summaries"][figure] == pytest.approx(mine["summaries"][figure], rel=1e-3, abs=1e-5), figure


class Second(Alone):
    rank = 1
    count = 2


def test_shares_are_disjoint_and_complete() -> None:
    which = torch.tensor([5, 3, 1, 0, 7])
    first, second = share(which, _of(0, 2), total=8), share(which, _of(1, 2), total=8)
    assert first is not None
    assert second is not None
    assert [*first.tolist(), *second.tolist()] == which.tolist()
    assert abs(len(first) - len(second)) <= 1
    assert share(None, Alone(), total=B) is None
    whole = [share(None, _of(rank, 3), total=B) for rank in range(3)]
    assert sorted(x for part in whole if part is not None for x in part.tolist()) == list(range(B))


def _of(rank: int, count: int) -> Alone:
    peers = Second()
    peers.rank, peers.count = rank, count  # type: ignore[misc]
    return peers
