"""One policy acting: gathers the observations of waiting agents, runs one forward pass, scatters the results.

Shape letters: N agents of one split, M agents of one forward pass, S numbers of recurrent state.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sf_algo.acting.device_passes import CudaLane, DevicePasses, PlainLane
from sf_algo.buffers.layout import OBS_PREFIX, TrajectoryArrays
from sf_algo.envs.spec import EnvSpec
from sf_algo.ipc.weights import SharedWeights, WeightArrays
from sf_algo.model.actor import Actor
from sf_algo.model.actor_critic import ActorCritic
from sf_algo.model.types import ActedStep

LARGE_BYTES = 1 << 16
"""Of a split's row: a core copies less than this in the time in which it starts a copy by the GPU."""


@dataclass(frozen=True)
class ActionRequest:
    """Row `row` of a slot is complete and wants actions for `columns` (None: all N of them)."""

    slot: TrajectoryArrays
    row: int
    columns: NDArray[np.intp] | None = None

    @property
    def num_agents(self) -> int:
        return int(self.slot["rewards"].shape[1]) if self.columns is None else len(self.columns)


class Pass(NamedTuple):
    """A forward pass under way."""

    requests: Sequence[ActionRequest]
    result: Callable[[], ActedStep]
    """Waits for it, in host memory."""


class PolicyInference:
    """Acts with its own copy of one policy's weights (or, in serial mode, with the learner's model itself).

    `serve` and `take_weights` exclude each other by a lock, so one thread may act while another learns.
    """

    def __init__(
        self,
        model: ActorCritic,
        spec: EnvSpec,
        *,
        device: torch.device,
        max_agents: int,
        seed: int,
        policy_version: int = 0,
        deterministic: bool = False,
        graphs: bool = False,
    ) -> None:
        """`model` is on `device` already; `max_agents` bounds M. `graphs`: record passes where the device can."""
        self._model = model
        self.actor = Actor(model, seed=seed, deterministic=deterministic)
        self.device = device
        self._version = policy_version
        self._lock = threading.Lock()
        self.transport_s = 0.0
        """Time spent gathering observations and handing out results."""
        self.forward_s = 0.0
        """Time spent in the network and drawing actions."""
        self.taking_s = 0.0
        """Time spent taking over weights."""
        self.slots_locked = False
        """Slots are in memory that the device reads by itself: what is large goes there from where it lies."""
        pinned = device.type != "cpu"
        self._names = [(name, OBS_PREFIX + name) for name in spec.obs]
        self._agent_bytes = {name: obs.zeros(1).nbytes for name, obs in spec.obs.items()}
        self._obs = {
            name: torch.from_numpy(obs.zeros(max_agents)).pin_memory()
            if pinned
            else torch.from_numpy(obs.zeros(max_agents))
            for name, obs in spec.obs.items()
        }
        self._states = torch.zeros(max_agents, model.rnn_state_size, pin_memory=pinned)
        self._obs_arrays = {name: tensor.numpy() for name, tensor in self._obs.items()}
        self._state_array = self._states.numpy()
        self._passes: DevicePasses | None = None
        if device.type != "cpu":
            lane = CudaLane(device, self.actor.generator, graphs=graphs) if device.type == "cuda" else PlainLane()
            self._passes = DevicePasses(
                self.actor, self._obs, self._states, width=spec.actions.width, device=device, lane=lane
            )

    @property
    def policy_version(self) -> int:
        return self._version

    @torch.no_grad()
    def take_weights(self, source: ActorCritic, version: int) -> None:
        """Copy the learner's weights and normalizers; later actions carry `version`."""
        began = time.monotonic()
        with self._lock, self._queued():
            if source is not self._model:
                own, new = self._model.state_dict(), source.state_dict()
                torch._foreach_copy_(list(own.values()), list(new.values()))
            self._version = version
        self.taking_s += time.monotonic() - began

    @torch.no_grad()
    def take_state(self, state: Mapping[str, Tensor], version: int) -> None:
        """As `take_weights`, from a network's `state_dict`. Raises RuntimeError where it is another network's."""
        with self._lock, self._queued():
            self._model.load_state_dict(state)
            self._version = version

    @torch.no_grad()
    def take_arrays(self, weights: SharedWeights) -> None:
        """As `take_weights`, from the shared memory of a learner process."""
        own = self._model.state_dict()

        def read(arrays: WeightArrays) -> None:
            # What they are copied from may be overwritten as soon as this returns.
            with self._queued():
                for name, tensor in own.items():
                    tensor.copy_(torch.from_numpy(arrays[name]), non_blocking=True)

        began = time.monotonic()
        with self._lock:
            self._version = weights.take(read)
        self.taking_s += time.monotonic() - began

    def serve(self, requests: Sequence[ActionRequest]) -> int:
        """Writes actions, log-probs, values, next recurrent states and the version into the slots. Returns
        M."""
        return self.finish(self.begin(requests))

    def begin(self, requests: Sequence[ActionRequest]) -> Pass:
        """Starts a forward pass; on a GPU it goes on while other policies begin theirs. Nobody changes the weights
        before `finish`, which the same thread calls next."""
        began = time.monotonic()
        self._lock.acquire()
        try:
            apart: dict[str, list[Tensor]] = {}
            if self._passes is None and len(requests) == 1 and requests[0].columns is None:
                obs, states = self._borrow(requests[0])
            else:
                apart = self._apart(requests) if self.slots_locked else {}
                obs, states = self._gather(requests, [pair for pair in self._names if pair[0] not in apart])
            gathered = time.monotonic()
            if self._passes is None:
                acted = self.actor.step(obs, states)
                result = lambda: acted  # noqa: E731
            else:
                result = self._passes.begin(len(states), apart)
        except BaseException:
            self._lock.release()
            raise
        self.transport_s += gathered - began
        self.forward_s += time.monotonic() - gathered
        return Pass(requests, result)

    def finish(self, under_way: Pass) -> int:
        """Waits for the pass and writes its results into the slots. Returns M."""
        began = time.monotonic()
        try:
            acted = under_way.result()
            fields = {
                "actions": acted.actions.numpy(),
                "log_probs": acted.log_probs.numpy(),
                "values": acted.values.numpy(),
            }
            next_states = acted.rnn_states.numpy()
            version = self._version
        finally:
            self._lock.release()
        done = time.monotonic()
        start = 0
        for request in under_way.requests:
            stop = start + request.num_agents
            slot, row = request.slot, request.row
            columns = slice(None) if request.columns is None else request.columns
            for name, values in fields.items():
                slot[name][row][columns] = values[start:stop]
            slot["rnn_states"][row + 1][columns] = next_states[start:stop]
            slot["policy_version"][row][columns] = version
            start = stop
        self.forward_s += done - began
        self.transport_s += time.monotonic() - done
        return start

    def _borrow(self, request: ActionRequest) -> tuple[dict[str, Tensor], Tensor]:
        """One whole split on a CPU: its rows are read where they lie."""
        obs = {name: torch.from_numpy(request.slot[key][request.row]) for name, key in self._names}
        return obs, torch.from_numpy(request.slot["rnn_states"][request.row])

    def _apart(self, requests: Sequence[ActionRequest]) -> dict[str, list[Tensor]]:
        """The rows of whole splits where copying them here takes longer than starting a copy for each split."""
        if any(request.columns is not None for request in requests):
            return {}
        fewest = min(request.num_agents for request in requests)
        return {
            name: [torch.from_numpy(request.slot[key][request.row]) for request in requests]
            for name, key in self._names
            if fewest * self._agent_bytes[name] >= LARGE_BYTES
        }

    def _gather(
        self, requests: Sequence[ActionRequest], names: Sequence[tuple[str, str]]
    ) -> tuple[dict[str, Tensor], Tensor]:
        start = 0
        for request in requests:
            stop = start + request.num_agents
            columns = slice(None) if request.columns is None else request.columns
            for name, key in names:
                self._obs_arrays[name][start:stop] = request.slot[key][request.row][columns]
            self._state_array[start:stop] = request.slot["rnn_states"][request.row][columns]
            start = stop
        return {name: tensor[:start] for name, tensor in self._obs.items()}, self._states[:start]

    def _queued(self) -> AbstractContextManager[None]:
        return nullcontext() if self._passes is None else self._passes.queued()


def requests_by_policy(slot: TrajectoryArrays, row: int, num_acting: int) -> list[tuple[int, ActionRequest]]:
    """What a split asks of each policy at that row: (policy id, request)."""
    if num_acting == 1:
        return [(0, ActionRequest(slot, row))]
    policy_ids = slot["policy_id"][row]
    return [
        (policy, ActionRequest(slot, row, np.flatnonzero(policy_ids == policy)))
        for policy in np.unique(policy_ids).tolist()
    ]
