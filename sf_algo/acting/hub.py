"""The hub of asynchronous and synchronous sampling: serves requests for actions, collects full slots.

One thread runs it. It sleeps on one doorbell, which workers ring for requests and full slots and the learner
for freed batch buffers.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sf_algo.acting.collecting import Collector
from sf_algo.acting.inference import ActionRequest, Pass, requests_by_policy
from sf_algo.acting.policies import ActingPolicy, acting_times
from sf_algo.buffers.layout import TrajectoryArrays
from sf_algo.buffers.slots import SlotRing
from sf_algo.ipc.doorbell import Doorbell
from sf_algo.ipc.mailbox import Mailbox
from sf_algo.plan import SamplerPlan
from sf_algo.timing import Stage

MAX_BATCHING_WAIT_S = 0.02
"""How long a request waits for company while no worker is idle because of it."""


@dataclass(frozen=True, kw_only=True)
class SplitPort:
    """What the hub holds of one split."""

    mailbox: Mailbox
    ring: SlotRing
    slots: Sequence[TrajectoryArrays]
    bell: Doorbell
    """Wakes the split's worker."""


@dataclass(kw_only=True)
class HubTimes:
    """Seconds since the start of the hub."""

    serving: float = 0.0
    collecting: float = 0.0
    waiting: float = 0.0
    passes: int = 0
    agents: int = 0


@dataclass(kw_only=True)
class SamplingHub:
    """See the module. `policies` are all that act, by their ids."""

    plan: SamplerPlan
    ports: Sequence[SplitPort]
    policies: Sequence[ActingPolicy]
    collector: Collector
    bell: Doorbell
    times: HubTimes = field(default_factory=HubTimes)
    slots_allowed: int | None = None
    """Synchronous sampling: no split may act in a slot beyond this many since the start."""
    _pending_since: float | None = None
    _turn: int = 0
    """Whose full slots are collected next."""
    _wanted: dict[int, tuple[int, Mapping[int, int]]] = field(default_factory=dict)
    """Of each port, who acted in its oldest full slot, and the count of freed slots that tells which slot that was."""

    @property
    def is_through(self) -> bool:
        """Synchronous sampling: every split has filled all slots that it may, and all of them are in the batches."""
        return all(port.ring.freed == self.slots_allowed for port in self.ports)

    @property
    def has_begun(self) -> bool:
        """Whether an environment has made a step that was asked for here."""
        return any(port.mailbox.row > 0 or port.ring.filled > 0 for port in self.ports)

    def stage_seconds(self) -> Mapping[str, float]:
        """Seconds that acting took, and that there was nothing to act for."""
        return {"inference": self.times.serving, "environments": self.times.waiting}

    def busy_s(self) -> Mapping[Stage, float]:
        """What the thread of the hub has been busy with."""
        acting = acting_times(self.policies)
        rest = self.times.serving - sum(acting.values())
        return {
            Stage.TRANSPORT: acting[Stage.TRANSPORT] + max(0.0, rest),
            Stage.INFERENCE: acting[Stage.INFERENCE],
            Stage.BATCHING: self.times.collecting,
        }

    def turn(self, timeout_s: float) -> None:
        """Collects what is full and serves what is due, or waits for that at most `timeout_s`."""
        began = time.monotonic()
        collected = self._collect()
        now = time.monotonic()
        self.times.collecting += now - began
        due = self._due_requests(now)
        if due:
            self._serve(due)
            self.times.serving += time.monotonic() - now
        elif not collected:
            self._wait(now, timeout_s)

    def _wait(self, now: float, timeout_s: float) -> None:
        if self._pending_since is not None:
            timeout_s = min(timeout_s, max(0.0, self._pending_since + MAX_BATCHING_WAIT_S - now))
        self.bell.wait(timeout_s)
        self.times.waiting += time.monotonic() - now

    def _due_requests(self, now: float) -> list[SplitPort]:
        """The requests to serve now; none while waiting for more is better."""
        pending = [port for port in self.ports if port.mailbox.pending and self._may_act(port)]
        if not pending:
            self._pending_since = None
            return []
        if self._pending_since is None:
            self._pending_since = now
        if self._is_ahead():
            # Nobody misses actions: larger passes cost less per agent, and leave the cores to the learner.
            able = sum(port.ring.has_free for port in self.ports) * self.plan.slot_trajectories
            target, hurry = min(self.plan.good_inference_batch, able), False
        else:
            target, hurry = self.plan.inference_target, self._idles_a_worker(pending)
        enough = len(pending) * self.plan.slot_trajectories >= target
        waited = now - self._pending_since >= MAX_BATCHING_WAIT_S
        return pending if enough or waited or hurry else []

    def _is_ahead(self) -> bool:
        """Whether sampling is ahead of learning: full slots wait for room in a batch."""
        return any(port.ring.num_full for port in self.ports)

    def _idles_a_worker(self, pending: Sequence[SplitPort]) -> bool:
        """Whether all splits of some worker wait. With one split that is no news: it happens every step."""
        splits = self.plan.num_splits
        if splits == 1:
            return False
        waiting = Counter(id(port.bell) for port in pending)
        return max(waiting.values()) == splits

    def _may_act(self, port: SplitPort) -> bool:
        return self.slots_allowed is None or port.ring.filled < self.slots_allowed

    def _serve(self, ports: Sequence[SplitPort]) -> None:
        tickets = [port.mailbox.ticket for port in ports]
        by_policy: dict[int, list[ActionRequest]] = {}
        for port in ports:
            slot = port.slots[port.ring.fill_position]
            for policy, request in requests_by_policy(slot, port.mailbox.row, len(self.policies)):
                by_policy.setdefault(policy, []).append(request)
        self._act(by_policy)
        for port, ticket in zip(ports, tickets, strict=True):
            port.mailbox.serve(ticket)
        for bell in {id(port.bell): port.bell for port in ports}.values():
            bell.ring()
        self._pending_since = None

    def _act(self, by_policy: Mapping[int, Sequence[ActionRequest]]) -> None:
        """One forward pass of every policy. All are begun before the first is waited for."""
        under_way: list[tuple[ActingPolicy, Pass]] = []
        try:
            for policy_id, requests in by_policy.items():
                policy = self.policies[policy_id]
                under_way.append((policy, policy.inference.begin(requests)))
        finally:
            for policy, one in under_way:
                self.times.agents += policy.inference.finish(one)
                self.times.passes += 1

    def _collect(self) -> bool:
        """Copies full slots into batches while there is room. True when any was copied."""
        any_copied = False
        while (found := self._next_full()) is not None:
            port, wanted, takers = found
            self.collector.take(port.slots[port.ring.oldest_full], wanted, takers)
            any_copied = True
            if port.ring.free():
                port.bell.ring()
        return any_copied

    def _next_full(self) -> tuple[SplitPort, Mapping[int, int], Sequence[int]] | None:
        """A split with a full slot that can be taken, who acted in that, and who takes it. All splits have their turn:
        where learning is slower than sampling, the first ones would fill every batch otherwise, and the others'
        experience grow old."""
        while True:
            blocked: list[Mapping[int, int]] = []
            for _ in self.ports:
                index, port = self._turn, self.ports[self._turn]
                self._turn = (index + 1) % len(self.ports)
                if not port.ring.num_full:
                    continue
                wanted = self._wanted_by(index, port)
                takers = self.collector.takers(wanted)
                if takers is not None:
                    return port, wanted, takers
                blocked.append(wanted)
            if not blocked or not self.collector.note_blocked(blocked):
                return None

    def _wanted_by(self, index: int, port: SplitPort) -> Mapping[int, int]:
        known, freed = self._wanted.get(index), port.ring.freed
        if known is None or known[0] != freed:
            known = (freed, self.collector.wanted(port.slots[port.ring.oldest_full]))
            self._wanted[index] = known
        return known[1]
