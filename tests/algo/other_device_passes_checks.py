"""Requests for actions on a device that is not "cpu": gathered, uploaded, recorded and answered as on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sf_algo.acting.device_passes import SIZES, DevicePasses, PlainLane, rounded
from sf_algo.acting.inference import ActionRequest, PolicyInference
from sf_algo.buffers.layout import make_layout
from sf_algo.model.actor import Actor
from sf_algo.model.actor_critic import ActorCritic
from tests.algo.model_cases import CPU, DICTIONARY, IMAGE, MIXED, T, env_spec, make_model, model_config, random_obs
from tests.algo.other_device import DEVICE, OtherDevice

GRU = model_config(use_rnn=True, rnn_type="gru")


def inference_case(device: torch.device, **changes: Any) -> tuple[PolicyInference, list[ActionRequest]]:
    """A policy that answers greedily, and requests of two splits: all agents of one, some of the other."""
    spec = env_spec(DICTIONARY, MIXED)
    model = make_model(spec, GRU, obs_scale=255.0).arrange(device)
    layout = make_layout(obs=spec.obs, actions=spec.actions, rollout=T, rnn_state_width=model.rnn_state_size)
    requests = []
    for seed, columns in ((1, None), (2, np.array([0, 2]))):
        slot = layout.allocate(4)
        for name, x in random_obs(spec, T + 1, 4, seed=seed).items():
            slot[f"obs/{name}"][:] = x.numpy()
        slot["rnn_states"][:] = np.random.default_rng(seed).standard_normal(slot["rnn_states"].shape)
        requests.append(ActionRequest(slot, 2, columns))
    inference = PolicyInference(model, spec, device=device, max_agents=40, seed=0, deterministic=True, **changes)
    return inference, requests


def served(requests: list[ActionRequest]) -> list[np.ndarray[Any, Any]]:
    return [r.slot[name][2 + (name == "rnn_states")] for r in requests for name in ANSWERS]


ANSWERS = ("actions", "log_probs", "values", "rnn_states", "policy_version")


def test_requests_are_served_with_one_copy_of_the_results() -> None:
    inference, wanted = inference_case(CPU)
    inference.serve(wanted)
    with OtherDevice() as gpu:
        other, requests = inference_case(DEVICE)
        other.serve(requests)  # makes the buffers
        _, requests = inference_case(CPU)
        with gpu.counting():
            under_way = other.begin(requests)
            assert gpu.waits == []
            assert other.finish(under_way) == 6
            assert gpu.waits == []
            assert len(gpu.downloads) == 1
            assert len(gpu.uploads) == 3  # the image, the measurements, the states
        for mine, its in zip(served(wanted), served(requests), strict=True):
            np.testing.assert_allclose(its, mine, rtol=1e-4, atol=1e-5)


def test_large_rows_of_locked_slots_are_uploaded_from_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    image = 4 * 3 * 40 * 44
    assert env_spec(DICTIONARY).obs["obs"].zeros(4).nbytes == image
    inference, wanted = inference_case(CPU)
    wanted = [replace(request, columns=None) for request in wanted]
    inference.serve(wanted)
    with OtherDevice() as gpu:
        for limit, uploads in ((image, 4), (image + 1, 3)):
            monkeypatch.setattr("sf_algo.acting.inference.LARGE_BYTES", limit)
            other, requests = inference_case(DEVICE)
            other.slots_locked = True
            requests = [replace(request, columns=None) for request in requests]
            other.serve(requests)  # makes the buffers
            _, requests = inference_case(CPU)
            requests = [replace(request, columns=None) for request in requests]
            for request in requests:
                gpu.lock(torch.from_numpy(request.slot["obs/obs"]))
            with gpu.counting():
                assert other.serve(requests) == 8
                # Of each split the image, or one of both; measurements and states of both at once.
                assert len(gpu.uploads) == uploads
                assert gpu.waits == []
            assert other._obs["obs"].any() == (limit > image)
            for mine, its in zip(served(wanted), served(requests), strict=True):
                np.testing.assert_allclose(its, mine, rtol=1e-4, atol=1e-5)
        monkeypatch.setattr("sf_algo.acting.inference.LARGE_BYTES", 1)
        other, requests = inference_case(DEVICE)  # some agents of a split: these are gathered
        other.slots_locked = True
        other.serve(requests)
        with gpu.counting():
            assert other.serve(requests) == 6
            assert len(gpu.uploads) == 3


@pytest.mark.parametrize("agents", [1, 16, 17, 64, 1024, 1025])
def test_passes_have_few_sizes(agents: int) -> None:
    assert agents <= rounded(agents, 5000) in (*SIZES, 2048)
    assert rounded(agents, 1030) <= 1030


class RecordingLane(PlainLane):
    """Records by calling again; `spoil` comes after a replay."""

    def __init__(self, spoil: Callable[[], None] = lambda: None) -> None:
        self.replays = 0
        self._spoil = spoil

    def record(self, work: Callable[[], None]) -> Callable[[], None] | None:
        def replay() -> None:
            self.replays += 1
            work()
            self._spoil()

        return replay


def passes_of(lane: Any) -> tuple[DevicePasses, ActorCritic, dict[str, Tensor]]:
    spec = env_spec(IMAGE)
    model = make_model(spec, GRU, obs_scale=255.0)
    obs, states = random_obs(spec, 20), torch.zeros(20, model.rnn_state_size)
    width = spec.actions.width
    return DevicePasses(Actor(model, seed=0), obs, states, width=width, device=CPU, lane=lane), model, obs


def test_a_recorded_pass_is_replayed_with_new_observations() -> None:
    lane = RecordingLane()
    passes, model, obs = passes_of(lane)
    for _ in range(3):
        obs["obs"].random_(0, 256)
        acted = passes.begin(5)()
        with torch.inference_mode():
            wanted = model.act({"obs": obs["obs"][:5]}, torch.zeros(5, model.rnn_state_size))
        assert torch.allclose(acted.values, wanted.values, atol=1e-5)
        assert torch.allclose(acted.rnn_states, wanted.rnn_states, atol=1e-5)
    assert lane.replays == 3
    assert passes.num_recorded == 1
    passes.begin(17)()
    assert passes.num_recorded == 2


@pytest.mark.parametrize("fault", ["other results", "an error"])
def test_what_cannot_be_recorded_is_launched_as_it_is(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    def spoil() -> None:
        if fault == "an error":
            raise RuntimeError("operation not permitted when stream is capturing")
        passes._buffers[16].results[:, 2] += 1.0

    lane = RecordingLane(spoil)
    passes, model, obs = passes_of(lane)
    for _ in range(2):
        acted = passes.begin(5)()
        with torch.inference_mode():
            wanted = model.act({"obs": obs["obs"][:5]}, torch.zeros(5, model.rnn_state_size))
        assert torch.allclose(acted.values, wanted.values, atol=1e-5)
    assert lane.replays == 1
    assert passes.num_recorded == 0
    assert "launched one by one" in caplog.text
