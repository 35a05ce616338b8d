"""One training, from its configuration to its exit code."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sf_algo.config import Config
from sf_algo.config.per_policy import check_shaping
from sf_algo.config.store import config_to_dict, save_config
from sf_algo.config.validate import check_batch_can_fill, check_self_play
from sf_algo.errors import ConfigError, SfAlgoError
from sf_algo.experiment import ExperimentLock, clear_experiment, make_experiment_dir
from sf_algo.ipc.training_board import TrainingBoard
from sf_algo.learner.extra_losses import ExtraLosses
from sf_algo.learning.build import choose_device
from sf_algo.learning.learners import TrainedBatch
from sf_algo.learning.open_learners import OpenLearners, RunBasis, open_learners
from sf_algo.logging_setup import log_to_file_only, logging_to
from sf_algo.model.actor_critic import ActorCritic
from sf_algo.own.additions import NOTHING_ADDED, Additions
from sf_algo.paths import ExperimentPaths
from sf_algo.plain import to_plain
from sf_algo.plan import Mode, make_plan
from sf_algo.processes.stopping import StopCondition, StopReason, StopRequested, stop_on_signals
from sf_algo.rollout.env_maker import EnvMaker
from sf_algo.rollout.episodes import mix_seed
from sf_algo.sampling.guard import HangGuard
from sf_algo.sampling.open_sampler import MISSED_HEARTBEATS, SamplerParts, open_sampler
from sf_algo.sampling.samplers import Sampler
from sf_algo.sampling.serial import SerialSampler, misfit, restored_state
from sf_algo.summaries.episodes import EpisodeWindow
from sf_algo.summaries.progress import ProgressFile
from sf_algo.summaries.reporter import Outcome, Reporter, make_sinks
from sf_algo.training.forked_copies import ForkedCopies
from sf_algo.training.ledger import Ledger
from sf_algo.training.make_rules import make_control, make_rules
from sf_algo.training.observing import Observers, ProgramState, TrainingHandle
from sf_algo.training.population import begin_with_shaping
from sf_algo.training.rules import Rules
from sf_algo.training.saving import Saver, resume
from sf_algo.training.training import TrainingLoop

log = logging.getLogger(__name__)


def run_training(
    config: Config,
    copies: ForkedCopies | None = None,
    additions: Additions = NOTHING_ADDED,
    *,
    began: float | None = None,
) -> int:
    """Trains until a limit or a signal; returns the exit code. Child processes are those of the `copies` as far as it
    goes. `additions`: the user's program. `began`: when the command did (monotonic clock), by default now.

    Nothing on disk changes before the configuration, the environment and the network are known to work.

    Raises:
        SfAlgoError: the training cannot begin or go on; what had been learned has been saved by then.
    """
    began = time.monotonic() if began is None else began
    stop = StopCondition(time_left_s=config.run.train_for_seconds)
    paths = ExperimentPaths(config.run.experiment_dir.absolute())  # an environment may change the folder
    with stop_on_signals(stop):
        maker = EnvMaker(config, additions=additions)
        maker.clean_up()
        basis = make_basis(config, maker)
        models = basis.models()
        ExtraLosses(config.rl.extra_losses, config.own)  # a learner elsewhere would tell later that there is none
        observers = Observers(additions.observers, in_turn=basis.plan.mode is Mode.SERIAL)
        with _experiment(basis.config, paths), ExitStack() as stack:
            _log_start(basis)
            pieces = _Run(basis, paths, stop, maker, copies or ForkedCopies(), stack, observers, began)
            return pieces.train(models).exit_code


def make_basis(config: Config, maker: EnvMaker) -> RunBasis:
    """What the configuration amounts to on this machine. The seed is drawn here where none was given.

    Raises:
        SfAlgoError: the environment cannot be made, the batch cannot be filled, there is no such device.
    """
    seed = config.run.seed if config.run.seed is not None else secrets.randbelow(2**31)
    config = replace(config, run=replace(config.run, seed=seed))
    spec = maker.spec()
    faults = [
        *check_self_play(config, num_agents=spec.num_agents, autoreset=spec.autoreset),
        *check_batch_can_fill(config, num_agents=spec.num_agents),
        *check_shaping(config, list(spec.shaping)),
    ]
    if faults:
        raise ConfigError(faults)
    device = choose_device(config.run.device, num_learners=config.sampling.num_learners)
    plan = make_plan(config.sampling, config.rl, spec, on_gpu=device.type == "cuda")
    return RunBasis(config=config, spec=spec, plan=plan, device=device, seed=seed)


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
                log_to_file_only(log, str(error))
                raise


def _log_start(basis: RunBasis) -> None:
    plan, spec = basis.plan, basis.spec
    obs = ", ".join(f"{name} {tuple(o.shape)} {o.dtype}" for name, o in spec.obs.items())
    log.info(
        "environment %s: %s; actions %s; frame skip %d",
        basis.config.run.env,
        obs,
        spec.actions,
        spec.frameskip,
    )
    workers = f" in {plan.num_workers} workers" if plan.mode.has_workers else ""
    log.info(
        "%s training on %s, %d environments%s, seed %d",
        plan.mode.value,
        basis.device,
        plan.num_workers * plan.num_splits * plan.envs_per_split,
        workers,
        basis.seed,
    )


class _Run:
    """The pieces of one training that live as long as it does."""

    def __init__(
        self,
        basis: RunBasis,
        paths: ExperimentPaths,
        stop: StopCondition,
        maker: EnvMaker,
        copies: ForkedCopies,
        stack: ExitStack,
        observers: Observers,
        began: float,
    ) -> None:
        """What is opened is closed by `stack`, the last first."""
        self._basis, self._paths, self._stop = basis, paths, stop
        self._maker, self._copies, self._stack = maker, copies, stack
        self._run = basis.config.run
        self._observers = observers
        self._began = began
        self._ledger = Ledger(num_policies=basis.plan.num_policies, frameskip=basis.spec.frameskip)
        derived = maker.derived_means()
        self._windows = [EpisodeWindow(self._run.stats_avg, derived) for _ in range(basis.plan.num_policies)]
        self._sampler: Sampler | None = None
        self._saver: Saver | None = None
        self._env_seed = basis.seed
        self._board = TrainingBoard.create(
            num_acting=basis.plan.num_acting, shaping=list(basis.spec.shaping), num_roles=basis.spec.num_roles
        )
        stack.callback(self._board.close)
        self._handle = TrainingHandle(self._board, basis.spec.shaping, basis.plan.num_policies)
        begin_with_shaping(self._handle, basis.config)

    def train(self, models: Sequence[ActorCritic]) -> StopReason:
        """Opens everything, resumes, trains, saves and tells the result."""
        learning = open_learners(
            self._basis,
            models,
            env_steps=lambda: self._ledger.trained_frames,
            is_enough=self._is_enough,
            on_trained=self._trained,
            forked_copies=self._copies.learners,
            recall=lambda policy: None if self._saver is None else self._saver.newest(policy),
        )
        self._stack.callback(learning.close)
        self._rules = self._make_rules(learning)
        saver = self._make_saver(learning)
        sampler_state = {} if self._run.benchmark else self._resume(learning, saver)
        self._stop.set_time_left(self._run.train_for_seconds - self._ledger.seconds_before)
        reporter = self._open_reporter()
        self._stack.callback(reporter.close)
        self._observers.on_start(self._handle)
        self._stack.callback(self._observers.on_end)
        loop = TrainingLoop(
            stop=self._stop,
            ledger=self._ledger,
            reporter=reporter,
            frameskip=self._basis.spec.frameskip,
            observers=self._observers,
            rules=self._rules,
            rules_in_turn=not self._basis.plan.mode.learns_aside,
            began=self._began,
            profile=self._basis.config.speed.profile,
            work=lambda: self._basis.work_per_frame(models[0]),
        )
        outcome: Outcome | None = None
        why = ""
        try:
            reason = self._sample(learning, saver, loop, sampler_state)
            log.info("end of training: %s", reason.value)
            if not self._run.benchmark:
                saver.save_all()
            outcome, why = ("finished" if reason.exit_code == 0 else "stopped"), reason.value
        except Exception as error:
            why = str(error) or type(error).__name__
            raise
        finally:
            if outcome is None and not self._run.benchmark:
                self._rescue(saver)
            last = loop.snapshot()
            reporter.finish(last, self._paths, outcome=outcome or "failed", reason=why, best=saver.best)
        return reason

    def _make_saver(self, learning: OpenLearners) -> Saver:
        saver = Saver(
            self._run,
            self._paths,
            learning.trained,
            self._ledger,
            self._windows,
            learners=learning.learners,
            sampler_state=self._sampler_state,
            programs=ProgramState(self._observers, self._handle),
            rules=self._rules,
            together=self._basis.plan.mode is Mode.SERIAL,
        )
        self._saver = None if self._run.benchmark else saver
        return saver

    def _rescue(self, saver: Saver) -> None:
        """Saves after an error. What is broken may be what saving needs (after an error of CUDA every further call
        fails): then that is told, and the error that came first stays the one that ends the training."""
        try:
            saver.save_all()
        except Exception as error:
            log.warning("nothing more could be saved: %s", str(error).partition("\n")[0] or type(error).__name__)

    def _collected(self, policy_id: int, steps: int) -> None:
        self._ledger.collected(policy_id, steps)
        self._board.set_env_steps(self._ledger.collected_frames)

    def _trained(self, batch: TrainedBatch) -> None:
        self._ledger.trained(batch)
        self._observers.note_iteration(batch.policy_id, batch.stats.summaries)
        if self._basis.plan.mode is Mode.SERIAL:
            self._observers.tell(between_iterations=True)
        self._check_frames()

    def _make_rules(self, learning: OpenLearners) -> Rules:
        """Who changes policies while they train."""
        control = make_control(
            self._basis, learning, self._ledger, self._windows, handle=self._handle, roster=self._board.roster
        )
        pool = self._paths
        if self._basis.has_matches and self._run.benchmark:  # nothing of it is kept
            pool = ExperimentPaths(Path(self._stack.enter_context(TemporaryDirectory(prefix="sf_algo_pool_"))))
        return make_rules(self._basis, learning, control, paths=self._paths, pool=pool)

    def _is_enough(self, steps_under_way: int) -> bool:
        limit = self._run.env_steps_limit
        frames = self._ledger.trained_frames + steps_under_way * self._basis.spec.frameskip
        return limit is not None and frames >= limit

    def _check_frames(self) -> None:
        if self._is_enough(0):
            self._stop.request(StopReason.FRAMES)

    def _resume(self, learning: OpenLearners, saver: Saver) -> Mapping[str, Any]:
        """Goes on from the checkpoints, if any. Returns the sampler's state."""
        best = self._run.load_checkpoint_kind == "best"
        state = resume(learning.trained, saver, self._ledger, self._windows, best=best)
        if self._basis.plan.mode.has_workers:
            state = {}
        change = self._change_since(state, learning) if state else ""
        if change:
            log.info("%s: all environments begin new episodes", change)
            state = {}
        if state:
            self._env_seed = int(state.get("env_seed", self._basis.seed))
        elif self._ledger.trained_frames:
            self._env_seed = mix_seed(self._basis.seed, self._ledger.trained_frames)
        # Only now: flags that do not fit the checkpoint must not replace those that do.
        save_config(self._basis.config, self._paths.root)
        self._board.set_env_steps(self._ledger.collected_frames)
        self._check_frames()
        return state

    def _change_since(self, state: Mapping[str, Any], learning: OpenLearners) -> str:
        """Why a serial training cannot go on in the middle of its episodes; empty where it can."""
        if state["seed"] != self._basis.seed:
            return "another seed than before"
        return misfit(restored_state(state), self._basis.plan, learning.layout)

    def _sampler_state(self) -> Mapping[str, Any]:
        if not isinstance(self._sampler, SerialSampler) or not self._sampler.reproducible:
            return {}
        return {"seed": self._basis.seed, "env_seed": self._env_seed, **to_plain(self._sampler.state())}

    def _sample(self, learning: OpenLearners, saver: Saver, loop: TrainingLoop, state: Mapping[str, Any]) -> StopReason:
        parts = SamplerParts(
            basis=self._basis,
            learning=learning,
            maker=self._maker,
            board=self._board,
            forked_copies=self._copies.workers,
            fork_server=self._copies.server,
            env_seed=self._env_seed,
            stop=self._stop,
            on_collected=self._collected,
            on_dropped=self._ledger.dropped,
            on_episodes=loop.on_episodes,
            on_iteration=(lambda: None) if self._basis.plan.mode.learns_aside else self._rules.step,
            guard=lambda sampler: self._guard(sampler, saver),
        )
        try:
            self._stop.check()
            self._sampler = open_sampler(parts, state)
        except StopRequested:
            assert self._stop.reason is not None
            return self._stop.reason
        self._stack.callback(self._sampler.close)
        return loop.run(self._sampler, learning.learners, None if self._run.benchmark else saver)

    def _guard(self, sampler: SerialSampler, saver: Saver) -> None:
        """A hanging environment ends the process, after saving what has been learned."""
        sampling = self._basis.config.sampling

        def end(message: str) -> None:
            log.error("%s", message.rstrip())
            self._sampler = None  # its state is that of an unfinished step
            if not self._run.benchmark:
                try:
                    saver.save_all()
                except SfAlgoError as error:
                    log.error("%s", error)
            print(f"error: {message.splitlines()[0]}", file=sys.stderr, flush=True)
            os._exit(1)

        guard = HangGuard(
            sampler.watch,
            step_timeout_s=MISSED_HEARTBEATS * sampling.heartbeat_interval,
            reset_timeout_s=self._maker.reset_limit_s(sampling.reset_timeout_seconds),
            on_hang=end,
        )
        self._stack.callback(guard.close)

    def _open_reporter(self) -> Reporter:
        frames = [account.trained_frames for account in self._ledger.policies]
        sinks = make_sinks(
            run=self._run,
            wandb=self._basis.config.wandb,
            paths=self._paths,
            num_policies=self._basis.plan.num_policies,
            flags=config_to_dict(self._basis.config),
            resume_env_steps=frames if any(frames) else None,
        )
        return Reporter(
            run=self._run,
            sinks=sinks,
            windows=self._windows,
            progress=ProgressFile.from_environment(),
            more_summaries=lambda policy, averages: {
                **self._rules.summaries(policy),
                **self._observers.summaries(policy, averages),
            },
            more_results=self._rules.results,
        )
