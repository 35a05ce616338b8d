"""When the hub serves requests: at once, or together with others."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from sf_algo.acting import hub as hub_module
from sf_algo.acting.collecting import Collector
from sf_algo.acting.hub import SamplingHub, SplitPort
from sf_algo.acting.inference import ActionRequest
from sf_algo.buffers.slots import SlotRing
from sf_algo.ipc.doorbell import Doorbell
from sf_algo.ipc.mailbox import Mailbox
from sf_algo.plan import Mode, SamplerPlan

WORKERS, SPLITS, ENVS, CAPACITY = 2, 2, 8, 2


class Bell:
    """Remembers that it was rung; nobody waits for it."""

    def __init__(self) -> None:
        self.rings = 0

    def ring(self) -> None:
        self.rings += 1

    def wait(self, timeout_s: float) -> bool:
        del timeout_s
        return False


class RecordingPolicy:
    """A policy that notes the sizes of its forward passes, and batches with or without room."""

    policy_id = 0

    def __init__(self) -> None:
        self.room = True
        self.passes: list[int] = []
        self.batcher = SimpleNamespace(has_room=lambda columns: self.room, add=lambda slot: 0, is_idle=False)
        self.inference = SimpleNamespace(begin=self.begin, finish=int, transport_s=0.0, forward_s=0.0)

    def begin(self, requests: Sequence[ActionRequest]) -> int:
        agents = sum(request.num_agents for request in requests)
        self.passes.append(agents)
        return agents


@pytest.fixture
def policy() -> RecordingPolicy:
    return RecordingPolicy()


@pytest.fixture
def hub(policy: RecordingPolicy) -> SamplingHub:
    plan = SamplerPlan(
        mode=Mode.ASYNC,
        num_workers=WORKERS,
        num_splits=SPLITS,
        envs_per_split=ENVS,
        num_agents=1,
        slots_per_split=CAPACITY,
        rollout=4,
        num_policies=1,
        batch_trajectories=64,
        num_batch_buffers=2,
    )
    counters = [memoryview(array("q", [0] * WORKERS * SPLITS)) for _ in range(5)]
    slot = {"rewards": np.zeros((4, ENVS), np.float32)}
    bells = [Bell() for _ in range(WORKERS)]
    ports = [
        SplitPort(
            mailbox=Mailbox(counters[0], counters[1], counters[2], index),
            ring=SlotRing(counters[3], counters[4], index, CAPACITY),
            slots=[slot] * CAPACITY,
            bell=cast(Doorbell, bells[index // SPLITS]),
        )
        for index in range(WORKERS * SPLITS)
    ]
    return SamplingHub(
        plan=plan,
        ports=ports,
        policies=cast(Any, [policy]),
        collector=Collector(
            cast(Any, [policy]),
            opponents=False,
            on_collected=lambda policy, steps: None,
            on_dropped=lambda policy, trajectories: None,
        ),
        bell=cast(Doorbell, Bell()),
    )


def ask(hub: SamplingHub, *splits: int) -> None:
    for split in splits:
        hub.ports[split].mailbox.request(0)
    hub.turn(0.0)


def test_half_of_all_agents_are_enough(hub: SamplingHub, policy: RecordingPolicy) -> None:
    ask(hub, 0)
    assert policy.passes == []
    ask(hub, 2)
    assert policy.passes == [2 * ENVS]


def test_a_worker_that_would_idle_is_served(hub: SamplingHub, policy: RecordingPolicy) -> None:
    hub.plan.__dict__["envs_per_split"] = 1
    ask(hub, 0)
    ask(hub, 1)
    assert sum(policy.passes) == 2 * ENVS


def test_all_are_waited_for_while_learning_is_behind(hub: SamplingHub, policy: RecordingPolicy) -> None:
    policy.room = False
    hub.ports[3].ring.publish()
    ask(hub, 0, 1)
    ask(hub, 2)
    assert policy.passes == []
    ask(hub, 3)
    assert policy.passes == [4 * ENVS]


def test_splits_without_a_free_slot_are_not_waited_for(hub: SamplingHub, policy: RecordingPolicy) -> None:
    policy.room = False
    for _ in range(CAPACITY):
        hub.ports[3].ring.publish()
    ask(hub, 0, 1)
    assert policy.passes == []
    ask(hub, 2)
    assert policy.passes == [3 * ENVS]


def test_nobody_waits_longer_than_the_limit(
    hub: SamplingHub, policy: RecordingPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy.room = False
    hub.ports[3].ring.publish()
    monkeypatch.setattr(hub_module, "MAX_BATCHING_WAIT_S", 0.0)
    ask(hub, 0)
    assert policy.passes == [ENVS]


def test_full_slots_of_all_splits_have_their_turn(
    hub: SamplingHub, policy: RecordingPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where learning is slower there is room for one slot at a time, and every split has a full one."""
    collected: list[int] = []
    rings = [port.ring for port in hub.ports]
    for ring in rings:
        ring.publish()
    for _ in range(2 * len(rings)):
        room = iter([True])
        monkeypatch.setattr(policy.batcher, "has_room", lambda columns, room=room: next(room, False))
        before = [ring.freed_counts[ring.index] for ring in rings]
        hub.turn(0.0)
        freed = [ring.freed_counts[ring.index] - count for ring, count in zip(rings, before, strict=True)]
        assert sum(freed) == 1
        collected.append(freed.index(1))
        rings[collected[-1]].publish()
    assert collected == [*range(len(rings)), *range(len(rings))]


def test_room_in_a_batch_ends_the_wait(hub: SamplingHub, policy: RecordingPolicy) -> None:
    policy.room = False
    hub.ports[3].ring.publish()
    ask(hub, 0, 2)
    assert policy.passes == []
    policy.room = True
    hub.turn(0.0)  # collects
    hub.turn(0.0)
    assert policy.passes == [2 * ENVS]


def test_a_worker_that_fills_its_last_slot_while_another_is_copied_is_woken(
    hub: SamplingHub, policy: RecordingPolicy
) -> None:
    """It found no free slot and sleeps; a look before the copy would leave it there."""
    ring, bell = hub.ports[1].ring, hub.ports[1].bell
    ring.publish()

    def add(slot: object) -> int:
        if ring.num_full < CAPACITY:
            ring.publish()
            policy.room = False
        return 0

    policy.batcher.add = add
    hub.turn(0.0)
    assert ring.num_full == CAPACITY - 1
    assert cast(Bell, bell).rings == 1


def test_a_worker_with_slots_left_is_not_woken_for_every_copy(hub: SamplingHub) -> None:
    ring, bell = hub.ports[1].ring, hub.ports[1].bell
    for _ in range(5):
        ring.publish()
        hub.turn(0.0)
    assert ring.num_full == 0
    assert cast(Bell, bell).rings == 0
