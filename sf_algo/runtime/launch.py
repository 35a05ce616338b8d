"""One training, from its configuration to its exit code."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from sf_algo.config import Config
from sf_algo.config.store import config_to_dict, save_config
from sf_algo.config.support import unsupported_features
from sf_algo.config.validate import check_batch_can_fill
from sf_algo.envs.spec import EnvSpec
from sf_algo.errors import ConfigError, SfAlgoError
from sf_algo.experiment import ExperimentLock, clear_experiment, make_experiment_dir
from sf_algo.logging_setup import logging_to
from sf_algo.paths import ExperimentPaths
from sf_algo.rollout.env_maker import EnvMaker
from sf_algo.runtime.build import TeamBuilder, choose_device, layout_of
from sf_algo.runtime.ledger import Ledger
from sf_algo.runtime.open_sampler import SamplerParts, open_sampler
from sf_algo.runtime.plain import to_plain
from sf_algo.runtime.plan import Mode, SamplerPlan, make_plan
from sf_algo.runtime.samplers import Sampler
from sf_algo.runtime.saving import Saver, resume
from sf_algo.runtime.serial import SerialSampler
from sf_algo.runtime.stopping import StopCondition, StopReason, StopRequested, stop_on_signals
from sf_algo.runtime.team import PolicyTeam
from sf_algo.runtime.training import TrainingLoop
from sf_algo.summaries.episodes import EpisodeWindow
from sf_algo.summaries.progress import ProgressFile
from sf_algo.summaries.reporter import Outcome, Reporter, make_sinks

log = logging.getLogger(__name__)


def run_training(config: Config) -> int:
    """Trains until a limit or a signal; returns the exit code.

    Nothing on disk changes before the configuration, the environment and the network are known to work.

    Raises:
        SfAlgoError: the training cannot begin or go on; what had been learned has been saved by then.
    """
    missing = unsupported_features(config)
    if missing:
        raise ConfigError(missing)
    stop = StopCondition(time_left_s=config.run.train_for_seconds)
    paths = ExperimentPaths(config.run.experiment_dir)
    with stop_on_signals(stop):
        setup = _set_up(config)
        with _experiment(config, paths):
            return _train(config, paths, stop, setup).exit_code


@dataclass(frozen=True, kw_only=True)
class _Setup:
    """What a configuration amounts to."""

    seed: int
    maker: EnvMaker
    spec: EnvSpec
    plan: SamplerPlan
    device: torch.device
    teams: Sequence[PolicyTeam]


def _set_up(config: Config) -> _Setup:
    seed = config.run.seed if config.run.seed is not None else secrets.randbelow(2**31)
    maker = EnvMaker(config)
    maker.clean_up()
    spec = maker.spec()
    faults = check_batch_can_fill(config, num_agents=spec.num_agents)
    if faults:
        raise ConfigError(faults)
    plan = make_plan(config.sampling, config.rl, spec)
    device = choose_device(config.run.device)
    builder = TeamBuilder(config=config, spec=spec, plan=plan, device=device, seed=seed)
    teams = [builder.build(policy_id) for policy_id in range(plan.num_policies)]
    return _Setup(seed=seed, maker=maker, spec=spec, plan=plan, device=device, teams=teams)


@contextmanager
def _experiment(config: Config, paths: ExperimentPaths) -> Iterator[None]:
    """The experiment's folder, lock and log; nothing of these in a benchmark."""
    if config.run.benchmark:
        with logging_to(None):
            yield
        return
    make_experiment_dir(paths)
    with ExperimentLock(paths):
        note = clear_experiment(paths, config.run.restart_behavior)
        with logging_to(paths.log):
            if note:
                log.info("%s", note)
            try:
                yield
            except SfAlgoError as error:
                log.error("%s", error)
                raise


def _train(config: Config, paths: ExperimentPaths, stop: StopCondition, setup: _Setup) -> StopReason:
    _log_start(config, setup)
    run = _Run(
        config=config,
        paths=paths,
        stop=stop,
        plan=setup.plan,
        spec=setup.spec,
        teams=setup.teams,
        maker=setup.maker,
    )
    try:
        return run.train(setup.seed)
    finally:
        run.close()


def _log_start(config: Config, setup: _Setup) -> None:
    plan, spec = setup.plan, setup.spec
    envs = plan.num_workers * plan.num_splits * plan.envs_per_split
    obs = ", ".join(f"{name} {tuple(o.shape)} {o.dtype}" for name, o in spec.obs.items())
    log.info(
        "environment %s: %s; actions %s; frame skip %d", config.run.env, obs, spec.actions, spec.frameskip
    )
    workers = "" if plan.mode is Mode.SERIAL else f" in {plan.num_workers} workers"
    log.info(
        "%s training on %s, %d environments%s, seed %d",
        plan.mode.value,
        setup.device,
        envs,
        workers,
        setup.seed,
    )


class _Run:
    """The pieces of one training that live as long as it does."""

    def __init__(
        self,
        *,
        config: Config,
        paths: ExperimentPaths,
        stop: StopCondition,
        plan: SamplerPlan,
        spec: EnvSpec,
        teams: Sequence[PolicyTeam],
        maker: EnvMaker,
    ) -> None:
        self._config, self._paths, self._stop = config, paths, stop
        self._plan, self._spec, self._teams, self._maker = plan, spec, teams, maker
        self._ledger = Ledger(num_policies=plan.num_policies, frameskip=spec.frameskip)
        self._windows = [EpisodeWindow(config.run.stats_avg) for _ in teams]
        self._saver = Saver(
            config.run,
            paths,
            teams,
            self._ledger,
            self._windows,
            call_learner=self._call_learner,
            sampler_state=self._sampler_state,
        )
        self._sampler: Sampler | None = None
        self._reporter: Reporter | None = None

    def _call_learner(self, policy_id: int, function: Callable[[], Any]) -> Any:
        return self._sampler.call_learner(policy_id, function) if self._sampler else function()

    def _sampler_state(self) -> Mapping[str, Any]:
        if not isinstance(self._sampler, SerialSampler):
            return {}
        return {"seed": self._seed, **to_plain(self._sampler.state())}

    def train(self, seed: int) -> StopReason:
        """Resumes, trains, saves and tells the result."""
        run = self._config.run
        resumed = {}
        if not run.benchmark:
            best = run.load_checkpoint_kind == "best"
            resumed = dict(resume(self._teams, self._saver, self._ledger, self._windows, best=best))
            # Only now: flags that do not fit the checkpoint must not replace those that do.
            save_config(self._config, self._paths.root)
        self._seed = int(resumed.pop("seed", seed)) if run.seed is None else seed
        self._stop.set_time_left(run.train_for_seconds - self._ledger.train_seconds)
        self._reporter = self._open_reporter()
        loop = TrainingLoop(
            stop=self._stop,
            ledger=self._ledger,
            reporter=self._reporter,
            frames_limit=run.env_steps_limit,
            frameskip=self._spec.frameskip,
        )
        outcome: Outcome = "failed"
        reason_text = ""
        try:
            reason = self._loop(loop, resumed)
            outcome, reason_text = ("finished" if reason.exit_code == 0 else "stopped"), reason.value
            log.info("end of training: %s", reason.value)
        except Exception as error:
            reason_text = str(error) or type(error).__name__
            raise
        finally:
            self._finish(loop, outcome, reason_text)
        return reason

    def _loop(self, loop: TrainingLoop, resumed: Mapping[str, Any]) -> StopReason:
        parts = SamplerParts(
            config=self._config,
            plan=self._plan,
            spec=self._spec,
            layout=layout_of(self._spec, self._plan, self._teams[0].learner.model),
            teams=self._teams,
            maker=self._maker,
            seed=self._seed,
            stop=self._stop,
            env_steps=loop.env_steps,
            on_collected=self._ledger.collected,
            on_episodes=loop.on_episodes,
            on_trained=loop.on_trained,
        )
        try:
            self._sampler = open_sampler(parts, resumed)
        except StopRequested:
            reason = self._stop.reason
            assert reason is not None
            return reason
        return loop.run(self._sampler, None if self._config.run.benchmark else self._saver)

    def _open_reporter(self) -> Reporter:
        run = self._config.run
        frames = [account.trained_frames for account in self._ledger.policies]
        sinks = make_sinks(
            run=run,
            wandb=self._config.wandb,
            paths=self._paths,
            num_policies=self._plan.num_policies,
            flags=config_to_dict(self._config),
            resume_env_steps=frames if any(frames) else None,
        )
        return Reporter(run=run, sinks=sinks, windows=self._windows, progress=ProgressFile.from_environment())

    def _finish(self, loop: TrainingLoop, outcome: Outcome, reason: str) -> None:
        """Saves and tells what there is, whatever ended the training."""
        if not self._config.run.benchmark:
            self._saver.save_all()
        assert self._reporter is not None
        self._reporter.finish(
            loop.snapshot(final=True), self._paths, outcome=outcome, reason=reason, best=self._saver.best
        )

    def close(self) -> None:
        if self._sampler is not None:
            self._sampler.close()
        if self._reporter is not None:
            self._reporter.close()
