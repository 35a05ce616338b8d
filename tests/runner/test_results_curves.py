"""Curves: what restarts, values that are not finite and event files make of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.util.tensor_util import make_tensor_proto

from sf_algo.summaries.event_file import EventFileWriter
from sf_runner.results.curves import EMPTY, Curve, Segment, join
from sf_runner.results.event_files import read_scalars, tags_in
from tests.runner.result_runs import EventFile


def segment(steps: Sequence[float], values: Sequence[float] | None = None, start: float | None = None) -> Segment:
    """A value every second; without values they equal the steps."""
    return Segment(
        steps=np.array(steps, dtype=float),
        values=np.array(steps if values is None else values, dtype=float),
        times_unix_s=np.arange(100.0, 100.0 + len(steps)),
        start_step=start,
    )


def points(curve: Curve) -> list[tuple[float, float]]:
    return list(zip(curve.steps.tolist(), curve.values.tolist(), strict=True))


def test_one_attempt_stays_as_it_was() -> None:
    curve = join([segment([0, 10, 20], [1, 2, 3])])
    assert points(curve) == [(0, 1), (10, 2), (20, 3)]
    assert (curve.superseded, curve.not_finite, curve.ends_not_finite) == (0, 0, False)
    assert curve.elapsed_s.tolist() == [0, 1, 2]


def test_a_resume_replaces_what_was_trained_again() -> None:
    curve = join([segment([0, 10, 20, 30], [1, 2, 3, 4]), segment([20, 30, 40], [30, 40, 50])])
    assert points(curve) == [(0, 1), (10, 2), (20, 30), (30, 40), (40, 50)]
    assert curve.superseded == 2
    assert curve.elapsed_s.tolist() == [0, 1, 1, 2, 3], "the pause and the lost time do not count"


def test_a_start_step_counts_even_before_the_first_new_value() -> None:
    curve = join([segment([0, 10, 20, 30]), segment([40], start=15.0)])
    assert [step for step, _ in points(curve)] == [0, 10, 40]
    assert curve.superseded == 2


def test_a_start_without_values_yet_drops_what_no_longer_counts() -> None:
    assert [step for step, _ in points(join([segment([0, 10, 20]), segment([], start=10.0)]))] == [0]


def test_a_start_from_scratch_replaces_everything() -> None:
    curve = join([segment([0, 10, 20], [1, 2, 3]), segment([0, 10], [5, 6])])
    assert points(curve) == [(0, 5), (10, 6)]
    assert curve.superseded == 3


def test_steps_that_fall_back_within_one_file_are_a_restart() -> None:
    curve = join([segment([0, 10, 20, 10, 20, 30], [1, 2, 3, 20, 30, 40])])
    assert points(curve) == [(0, 1), (10, 20), (20, 30), (30, 40)]
    assert curve.superseded == 2


def test_the_last_value_of_a_step_counts() -> None:
    curve = join([segment([0, 10, 10], [1, 2, 3])])
    assert points(curve) == [(0, 1), (10, 3)]
    assert curve.superseded == 0


def test_values_that_are_not_finite_are_left_out_and_counted() -> None:
    curve = join([segment([0, 1, 2, 3], [1, math.nan, math.inf, 4])])
    assert points(curve) == [(0, 1), (3, 4)]
    assert (curve.not_finite, curve.ends_not_finite) == (2, False)


def test_a_curve_that_ends_not_finite_has_no_result_but_a_best() -> None:
    curve = join([segment([0, 1, 2], [1, 7, math.nan])])
    assert curve.ends_not_finite
    assert curve.value("last") is None
    assert curve.value("mean") is None
    assert curve.best(lower_is_better=False) == 7


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("last", 5.0),
        ("best", 9.0),
        ("tail", (9.0 + 5.0) / 2),  # steps 90 and 100 of 0 to 100
        ("mean", (0.5 * (0 + 1) * 10 + 0.5 * (1 + 9) * 80 + 0.5 * (9 + 5) * 10) / 100),
    ],
)
def test_a_curve_as_one_number(rule: str, expected: float) -> None:
    curve = join([segment([0, 10, 90, 100], [0, 1, 9, 5])])
    assert curve.value(rule) == pytest.approx(expected)  # type: ignore[arg-type]


def test_no_values_give_no_number() -> None:
    assert EMPTY.value("last") is None
    assert EMPTY.best(lower_is_better=True) is None
    assert len(join([])) == 0


def test_event_files_are_joined_in_the_order_they_were_begun(tmp_path: Path) -> None:
    first = EventFile(tmp_path, begin=1000.0)
    for step in range(5):
        first.scalars(step * 10, {"a": float(step), "other": 1.0}, seconds=step)
    first.close()
    second = EventFile(tmp_path, begin=2000.0)
    second.start_at(30)
    second.scalars(30, {"a": 33.0})
    second.scalars(50, {"a": 55.0}, seconds=2.0)
    second.close()
    curve = join(read_scalars(tmp_path, ["a", "absent"])["a"])
    assert points(curve) == [(0, 0), (10, 1), (20, 2), (30, 33), (50, 55)]
    assert curve.superseded == 2
    assert tags_in(tmp_path) == {"a", "other"}
    assert "absent" not in read_scalars(tmp_path, ["absent"])


def test_a_torn_or_damaged_end_costs_only_itself(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    for step in range(3):
        file.scalars(step, {"a": float(step)})
    file.close()
    whole = file.path.read_bytes()
    for end in (whole[:-5], whole[:-30], whole + b"\x07", whole + b"\xff" * 40):
        file.path.write_bytes(end)
        steps = join(read_scalars(tmp_path, ["a"])["a"]).steps.tolist()
        assert steps in ([0, 1], [0, 1, 2])
        assert (len(steps) == 3) == (len(end) > len(whole))


def test_scalars_written_as_tensors_are_numbers_too(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    for step, dtype in enumerate((np.float32, np.float64)):
        value = Summary.Value(tag="t", tensor=make_tensor_proto(np.array(0.5 + step, dtype=dtype)))
        value.metadata.plugin_data.plugin_name = "scalars"
        file.add(Event(step=step, summary=Summary(value=[value])))
    text = Summary.Value(tag="text", tensor=make_tensor_proto("hello"))
    text.metadata.plugin_data.plugin_name = "text"
    file.add(Event(step=2, summary=Summary(value=[text])))
    file.close()
    assert points(join(read_scalars(tmp_path, ["t", "text"])["t"])) == [(0, 0.5), (1, 1.5)]
    assert tags_in(tmp_path) == {"t"}


def test_the_trainers_own_files_are_read(tmp_path: Path) -> None:
    writer = EventFileWriter(tmp_path, wall_time=1000.0)
    writer.add_scalars({"policy_stats/avg_reward": 1.5}, step=100, wall_time=1001.0)
    writer.add_scalars({"policy_stats/avg_reward": 2.5}, step=200, wall_time=1002.0)
    writer.close()
    resumed = EventFileWriter(tmp_path, wall_time=1100.0, resume_step=150)
    resumed.add_scalars({"policy_stats/avg_reward": 3.5}, step=250, wall_time=1101.0)
    resumed.close()
    curve = join(read_scalars(tmp_path, ["policy_stats/avg_reward"])["policy_stats/avg_reward"])
    assert points(curve) == [(100, 1.5), (250, 3.5)]
    assert curve.superseded == 1
