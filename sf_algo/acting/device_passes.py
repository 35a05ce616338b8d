"""Forward passes on a GPU, as `PolicyInference` needs them: nobody waits while one is on its way.

A pass is one copy of each kind of observation to the device, the network, and one copy of all results back, on a stream
of its own: what another policy or a learner has queued there is not waited for. Passes have few sizes (the number of
agents is rounded up), so that one can be recorded as a CUDA graph and started with one call; a network has 60 to 80
kernels, and launching them one by one takes the interpreter longer than the card.

Shape letters: M agents of one pass, R the same rounded up, W width of an action, S numbers of recurrent state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from sf_algo.model.actor import Actor
from sf_algo.model.types import ActedStep

log = logging.getLogger(__name__)

SIZES = (16, 32, 64, 128, 256, 384, 512, 768, 1024)
"""Agents that a pass is rounded up to; beyond them, to a multiple of the last."""
_TOLERANCE = 1e-3
NOTHING_APART: Mapping[str, Sequence[Tensor]] = MappingProxyType({})


def rounded(agents: int, most: int) -> int:
    """R for M = `agents`, at most `most`."""
    last = SIZES[-1]
    fitting = next((size for size in SIZES if size >= agents), -(-agents // last) * last)
    return min(fitting, most) if agents <= most else fitting


class Lane(Protocol):
    """Where work for a device is queued, one piece after the other."""

    def using(self) -> Any:
        """Inside this context, what is begun is queued here."""

    def follow(self) -> None:
        """What is queued here from now on comes behind what is under way on the device's usual stream."""

    def mark(self) -> Callable[[], None]:
        """After what has been queued so far; calling the result waits for that."""

    def record(self, work: Callable[[], None]) -> Callable[[], None] | None:
        """`work` as one piece that can be queued again and again: it reads and writes the same memory each time. None
        where that cannot be."""


class PlainLane:
    """Devices without streams."""

    def using(self) -> Any:
        return nullcontext()

    def follow(self) -> None:
        pass

    def mark(self) -> Callable[[], None]:
        return lambda: None

    def record(self, work: Callable[[], None]) -> Callable[[], None] | None:
        return None


class CudaLane:
    """A stream of high priority: acting goes before learning where both share a card."""

    def __init__(self, device: torch.device, generator: torch.Generator, *, graphs: bool) -> None:
        """`generator` draws inside recorded work."""
        self._stream = cast(Any, torch.cuda).Stream(device, priority=-1)
        self._device = device
        self._generator = generator
        self._graphs = graphs
        self.follow()  # the weights came to the device there

    def using(self) -> Any:
        return torch.cuda.stream(self._stream)

    def follow(self) -> None:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))

    def mark(self) -> Callable[[], None]:
        event = cast(Any, torch.cuda).Event()
        event.record(self._stream)
        return cast("Callable[[], None]", event.synchronize)

    def record(self, work: Callable[[], None]) -> Callable[[], None] | None:
        if not self._graphs:
            return None
        for _ in range(2):  # libraries choose their kernels and take their memory before
            work()
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        # Other threads may use CUDA meanwhile.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            work()
        return graph.replay


@dataclass(frozen=True)
class Buffers:
    """Memory of passes of one size R, on the device."""

    obs: Mapping[str, Tensor]
    """name -> [R, ...]."""
    states: Tensor
    """[R, S]."""
    results: Tensor
    """[R, W + 2 + S]: actions, log-probability, value, next states."""


class DevicePasses:
    """See the module."""

    def __init__(
        self,
        actor: Actor,
        obs: Mapping[str, Tensor],
        states: Tensor,
        *,
        width: int,
        device: torch.device,
        lane: Lane,
    ) -> None:
        """`obs` and `states`: host memory [most agents, ...] into which observations are gathered, pinned if possible;
        `width` of an action."""
        self._actor = actor
        self._width = width
        self._obs = obs
        self._states = states
        self._device = device
        self._lane = lane
        self._most = len(states)
        self._buffers: dict[int, Buffers] = {}
        self._recorded: dict[int, Callable[[], None] | None] = {}
        self._host: Tensor | None = None

    @property
    def num_recorded(self) -> int:
        """Sizes whose passes have been recorded."""
        return sum(replay is not None for replay in self._recorded.values())

    @contextmanager
    def queued(self) -> Iterator[None]:
        """For taking over weights while no pass is under way: what is begun inside comes behind what has been queued
        elsewhere, and before the passes that follow. It is done when this ends."""
        self._lane.follow()
        with self._lane.using():
            yield
            self._lane.mark()()

    def begin(self, agents: int, apart: Mapping[str, Sequence[Tensor]] = NOTHING_APART) -> Callable[[], ActedStep]:
        """Starts a pass for the first `agents` rows of the gathered observations. `apart`: name -> pieces [n, ...] of
        observations that were not gathered, one behind the other the rows of all agents. All of that may be overwritten
        as soon as the result has been called, which waits for the pass. Results are in host memory, until the next
        pass."""
        size = rounded(agents, self._most)
        with self._lane.using(), torch.inference_mode():
            buffers = self._buffers_for(size)
            for name, there in buffers.obs.items():
                start = 0
                for rows in apart.get(name, (self._obs[name][:agents],)):
                    there[start : start + len(rows)].copy_(rows, non_blocking=True)
                    start += len(rows)
            buffers.states[:agents].copy_(self._states[:agents], non_blocking=True)
            self._run(size, buffers)
            host = self._host_for(buffers.results)
            host[:agents].copy_(buffers.results[:agents], non_blocking=True)
            wait = self._lane.mark()

        def finish() -> ActedStep:
            wait()
            parts = [self._width, 1, 1, self._states.shape[1]]
            actions, log_probs, values, states = torch.split(host[:agents], parts, 1)
            return ActedStep(actions, log_probs.squeeze(1), values.squeeze(1), states)

        return finish

    def _run(self, size: int, buffers: Buffers) -> None:
        if size not in self._recorded:
            self._recorded[size] = self._record(size, buffers)
            if self._recorded[size] is not None:
                return
        recorded = self._recorded[size]
        self._step(buffers) if recorded is None else recorded()

    def _step(self, buffers: Buffers) -> None:
        acted = self._actor.step(buffers.obs, buffers.states)
        parts = [acted.actions, acted.log_probs.unsqueeze(1), acted.values.unsqueeze(1), acted.rnn_states]
        torch.cat(parts, 1, out=buffers.results)

    def _record(self, size: int, buffers: Buffers) -> Callable[[], None] | None:
        """A recorded pass, if it computes what a plain one does: it has just run once, then."""
        try:
            replay = self._lane.record(lambda: self._step(buffers))
            if replay is None:
                return None
            self._step(buffers)
            drawn = self._width + 1
            plain = buffers.results[:, drawn:].clone()
            replay()
            if torch.allclose(buffers.results[:, drawn:], plain, rtol=_TOLERANCE, atol=_TOLERANCE):
                return replay
            log.warning("a recorded pass for %d agents computes something else; passes are launched one by one", size)
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            log.warning("passes for %d agents cannot be recorded (%s); they are launched one by one", size, reason)
        return None

    def _buffers_for(self, size: int) -> Buffers:
        if size not in self._buffers:
            obs = {
                name: torch.zeros(size, *x.shape[1:], dtype=x.dtype, device=self._device)
                for name, x in self._obs.items()
            }
            states = torch.zeros(size, self._states.shape[1], device=self._device)
            results = torch.zeros(size, self._width + 2 + states.shape[1], device=self._device)
            self._buffers[size] = Buffers(obs, states, results)
        return self._buffers[size]

    def _host_for(self, results: Tensor) -> Tensor:
        if self._host is None or len(self._host) < len(results):
            pinned = self._device.type != "cpu"
            self._host = torch.zeros(max(len(results), self._most), results.shape[1], pin_memory=pinned)
        return self._host
