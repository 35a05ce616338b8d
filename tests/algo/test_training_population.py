"""Population-based training in running trainings: exchanges, what is told of them, and resuming."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sf_algo import train_appo
from sf_algo.checkpoints import CheckpointStore
from sf_algo.config import Config, LearnerConfig, parse_args
from sf_algo.config.per_policy import policy_rl
from sf_algo.envs.factory import EnvSections, make_env
from sf_algo.learner.learner import Learner
from sf_algo.learning.build import build_learner, build_model
from sf_algo.own.additions import NOTHING_ADDED
from sf_algo.training.policies import Exchanged
from sf_algo.training.population import PopulationBasedTraining
from sf_algo.training.population_log import PopulationLog

PBT = ["--with_pbt=True", "--pbt_start_mutation=150", "--pbt_period_env_steps=150", "--pbt_mutation_rate=1"]
SMALL = ["--env=CartPole-v1", "--hidden_size=16", "--batch_size=128", "--device=cpu", "--num_policies=3", *PBT]
TUNED = ("learning_rate", "exploration_loss_coeff", "value_loss_coeff", "max_grad_norm", "ppo_clip_ratio")


# ---- decisions, on a training that is only pretended -------------------------------------------------------------


class PretendedControl:
    """`PolicyControl` without a training: exchanges take place at once, or when `finish` is called."""

    def __init__(self, config: Config, shaping: Mapping[str, float], *, at_once: bool = True) -> None:
        self.trained = range(config.sampling.num_policies)
        self.rl = [policy_rl(config, policy) for policy in self.trained]
        self.shapings = [dict(shaping) for _ in self.trained]
        self.means: list[dict[str, float]] = [{} for _ in self.trained]
        self.own_frames = [1000 for _ in self.trained]
        self.asked: list[dict[str, Any]] = []
        self.at_once = at_once
        self.waiting: dict[int, Callable[[], None]] = {}

    @property
    def ledger(self) -> Any:
        return SimpleNamespace(trained_frames=sum(self.own_frames))

    def role(self, policy: int) -> int:
        return 0

    def frames(self, policy: int) -> int:
        return self.own_frames[policy]

    def version(self, policy: int) -> int:
        return 7

    def averages(self, policy: int) -> dict[str, float]:
        return self.means[policy]

    def hyperparameters(self, policy: int) -> LearnerConfig:
        return self.rl[policy]

    def shaping(self, policy: int) -> dict[str, float]:
        return self.shapings[policy]

    def busy(self, policy: int) -> bool:
        return policy in self.waiting

    def exchange(self, policy: int, *, donor: Any, overrides: Any, shaping: Any, on_done: Any) -> None:
        self.asked.append({"policy": policy, "donor": donor, "overrides": overrides, "shaping": shaping})

        def take_place() -> None:
            self.rl[policy] = replace(self.rl[policy], **overrides)
            self.shapings[policy] |= shaping or {}
            frames = self.own_frames[policy]
            on_done(Exchanged(policy=policy, donor=donor, policy_version=8, frames=frames))

        if self.at_once:
            take_place()
        else:
            self.waiting[policy] = take_place

    def finish(self, policy: int) -> None:
        self.waiting.pop(policy)()


def pretended(*flags: str, shaping: Mapping[str, float] | None = None, path: Path | None = None, **options: Any) -> Any:
    config = parse_args([*SMALL, *flags]).config
    known = shaping or {}
    return PretendedControl(config, known, **options), PopulationBasedTraining(config, known, seed=1, path=path)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_nobody_waits_for_a_policy_that_ends_no_episode() -> None:
    control, rules = pretended()
    control.means[0], control.means[1] = {"true_reward": 10.0}, {"true_reward": 100.0}
    rules.step(control)
    assert [asked["policy"] for asked in control.asked] == [0]
    assert control.asked[0]["donor"] == 1
    control.means[2] = {"true_reward": 1.0}
    rules.step(control)
    assert [asked["policy"] for asked in control.asked] == [0, 2]  # as soon as it can be ranked


def test_one_that_was_never_trained_takes_no_part() -> None:
    control, rules = pretended()
    control.means = [{"true_reward": float(policy)} for policy in control.trained]
    control.own_frames = [900, 900, 0]
    rules.step(control)
    assert [(asked["policy"], asked["donor"]) for asked in control.asked] == [(0, 1)]


def test_one_that_is_being_exchanged_is_left_alone() -> None:
    control, rules = pretended(at_once=False)
    control.means = [{"true_reward": float(policy)} for policy in control.trained]
    rules.step(control)
    assert sorted(control.waiting) == [0, 1]
    control.own_frames = [5000] * 3
    rules.step(control)
    assert len(control.asked) == 2
    control.finish(0)
    control.finish(1)
    rules.step(control)
    assert len(control.asked) == 4


def test_the_clock_is_that_of_all() -> None:
    control, rules = pretended("--pbt_start_mutation=1000")
    control.means = [{"true_reward": float(policy)} for policy in control.trained]
    control.own_frames = [10, 10, 2979]
    rules.step(control)
    assert control.asked == []
    control.own_frames = [10, 10, 2980]
    rules.step(control)
    assert {asked["policy"] for asked in control.asked} == {0, 1}


def test_an_objective_that_no_episode_has_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    control, rules = pretended("--pbt_target_objective=kills")
    with caplog.at_level(logging.WARNING):
        rules.step(control)
        assert not caplog.records  # nobody has ended an episode yet
        control.means = [{"reward": 1.0, "len": 9.0} for _ in control.trained]
        rules.step(control)
        rules.step(control)
    (record,) = caplog.records
    assert "--pbt_target_objective=kills: no episode has it" in record.message
    assert "reward, len" in record.message


def test_numbers_keep_their_types_and_shaping_its_names() -> None:
    flags = ("--pbt_optimize_batch_size=True", "--pbt_optimize_gamma=True", "--per_policy", "ppo_epochs:1/2/3")
    control, rules = pretended(*flags, "--num_batches_per_iteration=4", shaping={"delta/health": 0.5, "kill": -1.0})
    control.means = [{"true_reward": float(policy)} for policy in control.trained]
    rules.step(control)
    first = control.asked[0]
    assert first["policy"] == 0
    assert first["donor"] == 2
    assert first["overrides"]["ppo_epochs"] == 3  # in which policies differed, taken over and not mutated
    assert isinstance(first["overrides"]["batch_size"], int)
    assert first["overrides"]["batch_size"] % 32 == 0
    assert first["overrides"]["gamma"] != 0.99
    assert first["shaping"].keys() == {"delta/health", "kill"}
    assert first["shaping"]["kill"] < 0


def test_what_happened_is_in_the_log_of_the_population(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "pbt.jsonl"
    control, rules = pretended(path=path)
    control.means = [{"true_reward": float(10 * policy)} for policy in control.trained]
    with caplog.at_level(logging.INFO):
        rules.step(control)
    lines = lines_of(path)
    assert [line["event"] for line in lines] == ["start"] * 3 + ["exchange"] * 2
    exchange = lines[3]
    assert exchange["policy"] == 0
    assert exchange["donor"] == 2
    assert (exchange["objective"], exchange["donor_objective"]) == (0.0, 20.0)
    assert exchange["values"]["learning_rate"] == control.rl[0].learning_rate
    assert exchange["changed"]["learning_rate"] == [lines[0]["values"]["learning_rate"], control.rl[0].learning_rate]
    assert exchange["number"] == 1
    assert "policy 0 (true_reward 0) takes over from policy 2 (20): " in caplog.text
    assert rules.summaries(0)["zz_pbt/learning_rate"] == control.rl[0].learning_rate
    assert rules.summaries(0)["zz_pbt/taken_over"] == 1.0
    assert rules.results(0)["last_donor"] == 2


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    control, rules = pretended()
    control.means = [{"true_reward": float(policy)} for policy in control.trained]
    rules.step(control)
    states = [rules.state(policy) for policy in control.trained]
    again = pretended(path=tmp_path / "pbt.jsonl")[1]
    for policy, state in enumerate(states):
        again.restore(policy, state)
    control.asked.clear()
    again.step(control)
    assert control.asked == []  # nobody's period is over
    starts = lines_of(tmp_path / "pbt.jsonl")
    assert [line["exchanges"] for line in starts] == [1, 1, 0]
    control.own_frames = [1200] * 3
    again.step(control)
    assert len(control.asked) == 2


def test_a_torn_line_is_ended_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "pbt.jsonl"
    path.write_text('{"event":"exch')
    PopulationLog(path, "reward").start(0, values={})
    torn, whole = path.read_text().splitlines()
    assert torn == '{"event":"exch'
    assert json.loads(whole)["event"] == "start"


def test_a_log_that_cannot_be_written_costs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = PopulationLog(tmp_path, "reward")
    log.start(0)
    log.start(1)
    assert caplog.text.count("cannot write the population's log") == 1


# ---- trainings ---------------------------------------------------------------------------------------------------


def train(root: Path, *flags: str) -> None:
    words = [*SMALL, f"--train_dir={root}", "--experiment=pbt", "--stats_avg=5", "--seed=3", *flags]
    assert train_appo.main(words) == 0


def checkpoint_of(root: Path, policy: int) -> Any:
    loaded = CheckpointStore(root / f"pbt/checkpoint_p{policy}", keep=3).load_latest()
    assert loaded is not None
    return loaded.checkpoint


def learner_from(root: Path, policy: int, *flags: str) -> Learner:
    """What a resume makes of the newest checkpoint."""
    config = parse_args([*SMALL, *flags]).config
    spec = make_env("CartPole-v1", EnvSections.of(config, NOTHING_ADDED)).spec
    model = build_model(config, spec, torch.device("cpu"), seed=0)
    learner = build_learner(config, model, torch.device("cpu"), policy_id=policy, seed=0)
    learner.load_state_dict(checkpoint_of(root, policy).learner)
    return learner


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("train_dir")
    train(root, "--train_for_env_steps=4000", "--per_policy", "learning_rate:1e-5..1e-2")
    return root


def last_values(root: Path) -> dict[int, dict[str, float]]:
    return {line["policy"]: line["values"] for line in lines_of(root / "pbt/pbt.jsonl")}


def test_checkpoint_optimizer_and_resume_have_the_mutated_values(trained: Path) -> None:
    lines = lines_of(trained / "pbt/pbt.jsonl")
    assert sum(line["event"] == "exchange" for line in lines) >= 5
    assert any(line.get("donor") is not None for line in lines)
    for policy, values in last_values(trained).items():
        state = checkpoint_of(trained, policy).learner
        learner = learner_from(trained, policy, "--per_policy", "learning_rate:1e-5..1e-2")
        for name in TUNED:
            assert state["overrides"].get(name, state["flag_values"].get(name, values[name])) == values[name]
            assert getattr(learner.config, name) == values[name]
        assert learner.learning_rate == values["learning_rate"]
        assert learner._optimizer._max_grad_norm == values["max_grad_norm"]


def test_results_tell_of_it(trained: Path) -> None:
    document = json.loads((trained / "pbt/results.json").read_text())
    for policy, values in last_values(trained).items():
        part = document["policies"][policy]["population"]
        assert part["hyperparameters"] == values
        assert part["begun_with"]["learning_rate"] == pytest.approx((1e-5, 10**-3.5, 1e-2)[policy])


def test_the_same_command_goes_on_with_the_mutated_values_and_a_changed_flag_wins(trained: Path) -> None:
    before = last_values(trained)
    spread = ("--per_policy", "learning_rate:1e-5..1e-2")
    train(trained, "--train_for_env_steps=6500", *spread, "--pbt_start_mutation=1000000")
    starts = lines_of(trained / "pbt/pbt.jsonl")[-3:]
    assert [line["event"] for line in starts] == ["start"] * 3
    assert {line["policy"]: line["values"] for line in starts} == before
    changed = ("--exploration_loss_coeff=0.02", "--pbt_start_mutation=1000000")
    train(trained, "--train_for_env_steps=9000", *spread, *changed)
    for policy, values in last_values(trained).items():
        assert values == {**before[policy], "exploration_loss_coeff": 0.02}
        assert checkpoint_of(trained, policy).learner["overrides"].get("exploration_loss_coeff") in (None, 0.02)


MODES = {
    "asynchronous": ("--num_workers=2", "--decorrelate_experience_max_seconds=0"),
    "synchronous": ("--num_workers=2", "--async_rl=False", "--decorrelate_experience_max_seconds=0"),
    "pipelined": ("--serial_mode=True", "--async_rl=True"),
    "serial": ("--serial_mode=True",),
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_exchanges_and_its_environments_have_the_shaping(mode: str, tmp_path: Path) -> None:
    flags = ["--env=tests.algo.shaped_env:make_env", "--use_rnn=False", "--num_envs_per_worker=4", "--stats_avg=1"]
    train(tmp_path, *flags, *MODES[mode], "--train_for_env_steps=12000")
    lines = lines_of(tmp_path / "pbt/pbt.jsonl")
    exchanges = [line for line in lines if line["event"] == "exchange"]
    assert len(exchanges) >= 5
    assert any(line["donor"] is not None for line in exchanges)
    results = json.loads((tmp_path / "pbt/results.json").read_text())
    moved = 0
    for policy in range(3):
        told = [line["values"] for line in lines if line["policy"] == policy]
        metrics = results["policies"][policy]["metrics"]
        pairs = [(one["shaping/goal/reached"], one["shaping/goal/missed"]) for one in told]
        if "reached" in metrics:
            assert (metrics["reached"], metrics["missed"]) in pairs  # both of one and the same exchange
            moved += metrics["reached"] != 1.0
        carried = checkpoint_of(tmp_path, policy).learner["carried"]
        if results["policies"][policy]["population"]["exchanges"]:
            assert carried["shaping"] == {
                name.removeprefix("shaping/"): value for name, value in told[-1].items() if name.startswith("shaping/")
            }
    assert moved >= 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["asynchronous", "serial"])
def test_a_kill_around_an_exchange_leaves_every_policy_whole(mode: str, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.algo.population_kills", str(tmp_path), "25", "1", *MODES[mode]]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=280, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("kill ") == 25


def test_serial_training_is_reproducible_and_so_is_its_resume(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for root, limits in ((whole, (3000,)), (parts, (1700, 3000))):
        for limit in limits:
            train(root, f"--train_for_env_steps={limit}", "--num_policies=2", "--num_envs_per_worker=4")
    for policy in range(2):
        one, other = (checkpoint_of(root, policy) for root in (whole, parts))
        assert one.policy_version == other.policy_version
        for name, tensor in one.learner["model"].items():
            assert torch.equal(tensor, other.learner["model"][name]), name
    exchanges = [
        [
            (line["policy"], line["donor"], line["values"])
            for line in lines_of(root / "pbt/pbt.jsonl")
            if "number" in line
        ]
        for root in (whole, parts)
    ]
    assert exchanges[0] == exchanges[1]
    assert exchanges[0]
