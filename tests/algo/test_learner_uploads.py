"""The next batch is copied to the device while the current one is trained on, and nothing is read too early."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor

from sf_algo.ipc.doorbell import Doorbell
from sf_algo.ipc.messages import MessageWriter
from sf_algo.learner.batch import TrajectoryBatch
from sf_algo.learner.learner import Learner
from sf_algo.learner.stats import TrainStats
from sf_algo.learner.uploads import BatchUploads, StreamedCopies
from sf_algo.learning.learner_process import LearnerProcess
from sf_algo.learning.learner_settings import LearnerSettings
from tests.algo.model_cases import (
    CPU,
    IMAGE,
    assert_same,
    env_spec,
    learner_config,
    make_learner,
    make_model,
    model_config,
    random_batch,
    weights_of,
)


class RecordingCopies:
    """Numbers its marks, and writes down what is asked of it."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.handed: list[Sequence[Tensor]] = []

    @contextmanager
    def using(self) -> Any:
        self.log.append("begin")
        yield
        self.log.append("end")

    def mark(self) -> Any:
        self.log.append("mark")
        return self.log.count("mark")

    def hand_over(self, mark: Any, tensors: Sequence[Tensor]) -> None:
        self.log.append(f"hand over {mark}")
        self.handed.append(tensors)

    def wait(self, mark: Any) -> None:
        self.log.append(f"wait {mark}")


COPY = ["begin", "mark", "end"]


def batches(count: int = 2) -> list[TrajectoryBatch]:
    spec = env_spec(IMAGE)
    model = make_model(spec, model_config(use_rnn=True), obs_scale=255.0)
    return [random_batch(spec, model, seed=seed) for seed in range(count)]


def test_a_batch_that_is_ahead_is_copied_once_and_handed_over_when_it_is_taken() -> None:
    first, second = batches()
    copies = RecordingCopies()
    uploads = BatchUploads(CPU, copies)
    uploads.begin(first)
    uploads.begin(first)
    uploads.begin(second)  # one at a time
    assert copies.log == COPY
    taken = uploads.take(first)
    assert copies.log == [*COPY, "hand over 1"]
    assert {id(x) for x in copies.handed[0]} == {id(x) for x in taken.tensors()}
    assert len(taken.tensors()) == len(taken.obs) + 11
    uploads.take(second)
    assert copies.log == [*COPY, "hand over 1", *COPY, "hand over 2"]


def test_another_batch_than_the_one_ahead_may_be_taken_first() -> None:
    first, second = batches()
    copies = RecordingCopies()
    uploads = BatchUploads(CPU, copies)
    uploads.begin(second)
    uploads.take(first)
    uploads.take(second)
    assert copies.log == [*COPY, *COPY, "hand over 2", "hand over 1"]


def test_the_memory_of_a_batch_that_is_not_needed_is_free_when_its_copy_is_done() -> None:
    first, second = batches()
    copies = RecordingCopies()
    uploads = BatchUploads(CPU, copies)
    uploads.begin(first)
    uploads.drop(second)
    assert "wait" not in "".join(copies.log)
    uploads.drop(first)
    assert copies.log == [*COPY, "wait 1"]
    uploads.drop(first)
    uploads.begin(second)
    assert copies.log == [*COPY, "wait 1", *COPY]


def ahead(learner: Learner, batches: Sequence[TrajectoryBatch]) -> list[TrainStats]:
    """Trains on them in turn, each of them copied while the one before is trained on."""
    stats = []
    for index, batch in enumerate(batches):
        following = batches[index + 1 : index + 2]
        stats.append(learner.train(batch, meanwhile=lambda following=following: [*map(learner.upload, following)]))
    return stats


def test_copying_ahead_changes_no_number() -> None:
    spec = env_spec(IMAGE)
    cfg = learner_config(ppo_epochs=2, batch_size=24)
    given = batches(3)
    given[1].policy_id.fill_(7)  # of another policy: nothing is trained on, its copy is dropped

    def learner() -> Learner:
        return make_learner(spec, cfg, make_model(spec, model_config(use_rnn=True), obs_scale=255.0))

    plain, other = learner(), learner()
    copies = RecordingCopies()
    other._uploads = BatchUploads(CPU, copies)
    wanted = [plain.train(batch) for batch in given]
    found = ahead(other, given)
    assert [asdict(stats) for stats in found] == [asdict(stats) for stats in wanted]
    assert [stats.num_updates for stats in found] == [4, 0, 4]
    assert_same(weights_of(plain), weights_of(other))
    assert copies.log == [*COPY, "hand over 1", *COPY, "wait 2", *COPY, "hand over 3"]


class RecordingCuda:
    """Streams and events that write down what is asked of them."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self._now = "usual"

    def Stream(self, device: torch.device) -> Any:  # noqa: N802
        return Named(self.log, f"copies on {device}")

    def Event(self) -> Any:  # noqa: N802
        return Named(self.log, "event")

    def current_stream(self, device: torch.device) -> Any:
        return Named(self.log, self._now)

    @contextmanager
    def stream(self, stream: Any) -> Any:
        before, self._now = self._now, str(stream)
        yield
        self._now = before


class Named:
    def __init__(self, log: list[str], name: str) -> None:
        self._log, self._name = log, name

    def __str__(self) -> str:
        return self._name

    def __getattr__(self, method: str) -> Callable[..., None]:
        return lambda *args: self._log.append(f"{self._name}: {method} {' '.join(map(str, args))}".strip())


def test_a_gpu_reads_what_was_copied_by_another_stream_behind_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = RecordingCuda()
    for name in ("Stream", "Event", "current_stream", "stream"):
        monkeypatch.setattr(torch.cuda, name, getattr(cuda, name))
    copies = StreamedCopies(torch.device("cuda", 1))
    with copies.using():
        assert cuda._now == "copies on cuda:1"
        mark = copies.mark()
    tensors: Any = [Named(cuda.log, "x"), Named(cuda.log, "y")]
    copies.hand_over(mark, tensors)
    copies.wait(mark)
    assert cuda.log == [
        "event: record copies on cuda:1",
        "usual: wait_event event",
        "x: record_stream usual",
        "y: record_stream usual",
        "event: synchronize",
    ]


class NotingLearner:
    """Trains on nothing."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.policy_version = 0

    def upload(self, batch: str) -> None:
        self.log.append(f"upload {batch}")

    def train(self, batch: str, *, env_steps: int, meanwhile: Callable[[], None]) -> TrainStats:
        self.log.append(f"train {batch}")
        meanwhile()
        return TrainStats(
            policy_version=0, num_samples=0, num_valid_samples=0, num_updates=0, num_skipped_updates=0,
            num_damaged_trajectories=0, summaries={},
        )  # fmt: skip


def test_a_learner_process_uploads_the_batch_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    (commands, writing), (messages, told) = os.pipe(), os.pipe()
    bell = Doorbell.create()
    settings = LearnerSettings(
        config={}, app=None, pickled_spec="", policy_id=0, device="cpu", rank=0, rendezvous_fd=-1, seed=0,
        num_buffers=2, batch_fd=-1, weights_fd=-1, state_fd=-1, command_fd=commands, message_fd=told,
        hub_fds=bell.fds, lifeline_fd=-1, trace_fd=-1, num_threads=1,
    )  # fmt: skip
    learner: Any = NotingLearner()

    def build(self: Any) -> None:
        self._count = 1
        self._learner = learner
        self._batches = type("", (), {"batches": ["A", "B"]})

    monkeypatch.setattr(LearnerProcess, "_build", build)
    monkeypatch.setattr(LearnerProcess, "_publish", lambda self: None)
    writer = MessageWriter(writing)
    for buffer in (1, 0):
        writer.send({"kind": "train", "buffer": buffer, "env_steps": 0})
    writer.close()
    assert LearnerProcess(settings, None).run() == 0
    assert learner.log == ["train B", "upload A", "train A"]
    for fd in (commands, messages, told):
        os.close(fd)
    bell.close()
