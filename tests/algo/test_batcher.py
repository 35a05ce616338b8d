"""Batches from slots, and the plan they follow."""

from __future__ import annotations

import numpy as np
import pytest

from sf_algo.batcher import Batcher, RoundBatcher, batch_arrays
from sf_algo.buffers.layout import TrajectoryArrays, make_layout
from sf_algo.buffers.shared import ArraySpec
from sf_algo.config.resolve import parse_args
from sf_algo.envs.spec import ActionSpec, Discrete, EnvSpec, ObsSpec
from sf_algo.ipc.weights import SharedWeights, WeightArrays
from sf_algo.learner.batch import TrajectoryBatch
from sf_algo.plan import Mode, SamplerPlan, make_plan
from sf_algo.training.training import StageMeter, bottleneck

T = 3
SPEC = EnvSpec(obs={"obs": ObsSpec(shape=(2,), dtype=np.dtype(np.float32))}, actions=ActionSpec((Discrete(2),)))
LAYOUT = make_layout(obs=SPEC.obs, actions=SPEC.actions, rollout=T, rnn_state_width=4)


def make_slot(columns: int, first: int, *, policy_id: int = 0) -> TrajectoryArrays:
    """A slot whose column n holds the number first + n everywhere."""
    slot = LAYOUT.allocate(columns)
    for name, array in slot.items():
        if array.dtype.kind == "f":
            numbers = np.arange(first, first + columns, dtype=array.dtype)
            array[:] = numbers.reshape((1, columns) + (1,) * (array.ndim - 2))
        elif name == "valid":
            array[:] = True
    slot["policy_id"][:] = policy_id
    return slot


def make_batcher(trajectories: int, num_buffers: int = 2, policy_id: int = 0) -> Batcher:
    return Batcher(
        policy_id=policy_id,
        trajectories=trajectories,
        num_buffers=num_buffers,
        allocate=lambda: TrajectoryBatch.allocate(SPEC, rollout=T, num_trajectories=trajectories, rnn_state_size=4),
    )


def columns_of(batch: TrajectoryBatch) -> list[float]:
    """The number in each column, checked to be the same in every field and row."""
    arrays = {n: a for n, a in batch_arrays(batch).items() if a.dtype.kind == "f"}
    numbers: list[float] = arrays["rewards"][0].tolist()
    for array in arrays.values():
        flat = array.reshape(*array.shape[:2], -1)
        assert (flat == np.asarray(numbers)[None, :, None]).all()
    return numbers


def test_slots_go_side_by_side_and_may_go_on_in_the_next_batch() -> None:
    batcher = make_batcher(5)
    assert batcher.add(make_slot(3, 0)) == 3 * T
    assert batcher.take() is None
    batcher.add(make_slot(3, 3))
    full = batcher.take()
    assert full is not None
    assert columns_of(full.batch) == [0, 1, 2, 3, 4]
    assert full.valid_steps == 5 * T
    batcher.add(make_slot(4, 6))
    second = batcher.take()
    assert second is not None
    assert columns_of(second.batch) == [5, 6, 7, 8, 9]


def test_without_a_free_buffer_there_is_no_room_until_one_is_given_back() -> None:
    batcher = make_batcher(4)
    assert batcher.has_room(8)
    assert not batcher.has_room(9)
    batcher.add(make_slot(4, 0))
    batcher.add(make_slot(3, 4))
    assert batcher.has_room(1)
    assert not batcher.has_room(2)
    full = batcher.take()
    assert full is not None
    assert not batcher.has_room(2)  # it is being trained on
    batcher.give_back(full.batch)
    assert batcher.has_room(5)


def test_a_policy_takes_the_trajectories_in_which_it_played() -> None:
    slot = make_slot(4, 0)
    slot["policy_id"][:, 1] = 1
    slot["policy_id"][2, 3] = 1
    slot["valid"][0, 0] = False
    first, second = make_batcher(3), make_batcher(2, policy_id=1)
    assert first.add(slot) == 2 * T - 1 + (T - 1)
    assert second.add(slot) == T + 1
    mine, theirs = first.take(), second.take()
    assert mine is not None
    assert theirs is not None
    assert columns_of(mine.batch) == [0, 2, 3]
    assert columns_of(theirs.batch) == [1, 3]
    assert (mine.valid_steps, theirs.valid_steps) == (3 * T - 2, T + 1)


class Version:
    """Of the weights that act."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def __call__(self) -> int:
        return self.number


def make_round_batcher(trajectories: int, most: int, version: Version | None = None) -> RoundBatcher:
    return RoundBatcher(
        policy_id=0,
        trajectories=trajectories,
        most_trajectories=most,
        version=version or Version(),
        allocate=lambda columns: TrajectoryBatch.allocate(SPEC, rollout=T, num_trajectories=columns, rnn_state_size=4),
    )


def test_in_turns_a_batch_is_all_that_was_collected() -> None:
    batcher = make_round_batcher(4, 7)
    assert batcher.take() is None
    assert batcher.add(make_slot(3, 0)) == 3 * T
    assert batcher.take() is None
    assert batcher.add(make_slot(4, 3)) == 4 * T
    full = batcher.take()
    assert full is not None
    assert columns_of(full.batch) == [0, 1, 2, 3, 4, 5, 6]
    assert full.valid_steps == 7 * T
    assert batcher.take() is None
    batcher.add(make_slot(4, 10))
    second = batcher.take()
    assert second is not None
    assert columns_of(second.batch) == [10, 11, 12, 13]
    assert second.valid_steps == 4 * T


def test_in_turns_what_other_weights_have_done_is_not_collected() -> None:
    version = Version(5)
    batcher = make_round_batcher(2, 9, version)
    slot = make_slot(5, 0)
    slot["policy_version"][:] = 5
    slot["policy_version"][:, 1] = 4
    slot["policy_version"][:, 2] = 6
    slot["policy_version"][0, 3] = 4
    slot["policy_id"][:, 4] = 1
    assert batcher.add(slot) == T + (T - 1)
    full = batcher.take()
    assert full is not None
    assert columns_of(full.batch) == [0, 3]
    assert full.valid_steps == T + (T - 1)


def test_a_policy_that_becomes_another_one_forgets_what_it_has_collected() -> None:
    batcher = make_round_batcher(4, 7)
    batcher.add(make_slot(3, 0))
    batcher.forget()
    assert batcher.unfinished() == {}
    batcher.add(make_slot(4, 3))
    full = batcher.take()
    assert full is not None
    assert columns_of(full.batch) == [3, 4, 5, 6]
    assert full.valid_steps == 4 * T


def test_an_unfinished_batch_survives_a_checkpoint() -> None:
    batcher = make_round_batcher(4, 7, Version(2))
    assert batcher.unfinished() == {}
    slot = make_slot(3, 7)
    slot["policy_version"][:] = 2
    batcher.add(slot)
    saved = batcher.unfinished()
    restored = make_round_batcher(4, 7, Version(2))
    restored.add(saved)
    more = make_slot(1, 20)
    more["policy_version"][:] = 2
    restored.add(more)
    full = restored.take()
    assert full is not None
    assert columns_of(full.batch) == [7, 8, 9, 20]
    assert full.valid_steps == 4 * T
    other = make_round_batcher(4, 7, Version(3))  # the policy goes on from another checkpoint than the sampler
    other.add(saved)
    assert other.unfinished() == {}


def plan_of(*flags: str, agents: int = 1) -> SamplerPlan:
    config = parse_args(["--env=CartPole-v1", *flags]).config
    spec = EnvSpec(obs=SPEC.obs, actions=SPEC.actions, num_agents=agents)
    return make_plan(config.sampling, config.rl, spec)


def test_modes_follow_from_two_flags() -> None:
    assert plan_of("--serial_mode=True").mode is Mode.SERIAL
    assert plan_of("--serial_mode=True", "--async_rl=True").mode is Mode.PIPELINED
    assert plan_of("--serial_mode=False", "--async_rl=False").mode is Mode.SYNC
    assert plan_of("--serial_mode=False").mode is Mode.ASYNC


def test_every_slot_fits_into_the_buffers_beside_the_batch_in_training() -> None:
    for envs, batch in ((1, 512), (16, 64), (64, 64), (7 * 2, 32)):
        plan = plan_of(
            "--num_workers=2",
            f"--num_envs_per_worker={2 * envs}",
            f"--batch_size={batch}",
            "--rollout=32",
            agents=3,
        )
        batcher = make_batcher(plan.batch_trajectories, plan.num_batch_buffers - 1)
        assert batcher.has_room(plan.slot_trajectories)


def test_less_than_an_iteration_may_wait_as_one() -> None:
    """--num_batches_to_accumulate=1 --num_batches_per_epoch=4, as Sample Factory 2.x counts."""
    flags = ("--num_workers=2", "--num_envs_per_worker=4", "--rollout=8", "--batch_size=64", "--num_epochs=1")
    one = plan_of(*flags, "--num_batches_per_epoch=4", "--num_batches_to_accumulate=1")
    whole = plan_of(*flags, "--num_batches_per_epoch=4", "--num_batches_to_accumulate=4")
    assert one.num_batch_buffers == whole.num_batch_buffers == 2


def test_nothing_waits_for_the_learner_where_that_is_asked_for() -> None:
    """--num_minibatches_to_accumulate=0: one buffer, so nothing is collected while it is trained on."""
    flags = ("--num_workers=2", "--num_envs_per_worker=4", "--rollout=8", "--num_minibatches_to_accumulate=0")
    assert plan_of(*flags, "--batch_size=64").num_batch_buffers == 1
    assert plan_of(*flags, "--batch_size=64", "--num_batches_per_iteration=4").num_batch_buffers == 1
    # Slots that do not come out even leave something over, and so do policies that share slots: it needs a place.
    uneven = ("--batch_size=40", "--worker_num_splits=1", "--num_batches_per_iteration=1")
    assert plan_of(*flags, *uneven).num_batch_buffers == 2
    assert plan_of(*flags, "--batch_size=64", "--num_policies=2").num_batch_buffers == 2
    assert plan_of(*flags[:3], "--batch_size=64").num_batch_buffers == 2


def test_in_turns_nobody_looks_at_the_batches_before_one_can_be_full() -> None:
    flags = ("--num_workers=2", "--num_envs_per_worker=4", "--rollout=8", "--async_rl=False")
    one = plan_of(*flags, "--num_batches_per_iteration=1", "--batch_size=128")
    assert (one.batch_trajectories, one.most_batch_trajectories, one.rounds_to_fill(0)) == (16, 16, 2)
    two = plan_of(*flags, "--num_batches_per_iteration=1", "--batch_size=160", "--num_policies=2")
    assert (two.batch_trajectories, two.most_batch_trajectories) == (20, 27)
    assert [two.rounds_to_fill(collected) for collected in (0, 3, 4, 11, 12, 19)] == [3, 3, 2, 2, 1, 1]
    # However a round is shared out, the buffer holds all of it.
    for collected in range(two.batch_trajectories):
        rounds = two.rounds_to_fill(collected)
        assert collected + (rounds - 1) * two.total_trajectories < two.batch_trajectories
        assert collected + rounds * two.total_trajectories <= two.most_batch_trajectories


def test_inference_waits_for_no_more_than_can_be_waiting() -> None:
    assert plan_of("--num_workers=1", "--num_envs_per_worker=1").inference_target == 1
    assert plan_of("--num_workers=2", "--num_envs_per_worker=8").inference_target == 8
    assert plan_of("--num_workers=16", "--num_envs_per_worker=16").inference_target == 64


WEIGHTS = [ArraySpec(name="w", shape=(3,), dtype=np.dtype(np.float32))]


def test_published_weights_arrive_whole_with_their_version() -> None:
    learner = SharedWeights.create("test", WEIGHTS)
    reader = SharedWeights.attach(learner.fd, WEIGHTS)
    assert not reader.news
    taken: list[float] = []

    def read(arrays: WeightArrays) -> None:
        taken.append(float(arrays["w"].sum()))

    for version in (4, 9, 11):
        learner.publish(lambda arrays, number=version: arrays["w"].fill(number), version)  # type: ignore[misc]
        assert reader.news
        assert reader.take(read) == version
        assert taken[-1] == 3 * version
        assert not reader.news
    learner.close()


def test_a_reader_that_was_overtaken_reads_again() -> None:
    learner = SharedWeights.create("test", WEIGHTS)
    reader = SharedWeights.attach(learner.fd, WEIGHTS)
    learner.publish(lambda arrays: arrays["w"].fill(1), 1)
    seen: list[float] = []

    def read(arrays: WeightArrays) -> None:
        seen.append(float(arrays["w"][0]))
        if len(seen) == 1:  # the learner publishes while we read
            learner.publish(lambda own: own["w"].fill(2), 2)

    assert reader.take(read) == 2
    assert seen == [1.0, 2.0]
    learner.close()


def test_the_bottleneck_is_the_stage_that_was_busiest_since_the_last_look() -> None:
    meter = StageMeter()
    meter.shares({"learner": 0.0, "inference": 0.0})
    shares = meter.shares({"learner": 3.0, "inference": 1.0})
    assert shares["learner"] == pytest.approx(3 * shares["inference"])
    assert bottleneck({"learner": 0.93, "inference": 0.2}) == "learner 93%"
    assert bottleneck({"learner": 1.2}) == "learner 100%"
