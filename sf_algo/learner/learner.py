"""Asynchronous PPO's learner: epochs of minibatches over whole trajectories.

Shape letters: T steps, B trajectories.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sf_algo.envs.spec import ACTION_MASK
from sf_algo.learner.batch import TrajectoryBatch
from sf_algo.learner.extra_losses import NO_LOSSES, ExtraLosses, Output
from sf_algo.learner.fit import check_fit
from sf_algo.learner.forward import Forward, bootstrap_values, evaluate
from sf_algo.learner.losses import LossWeights, Ratios, ppo_losses, standardized
from sf_algo.learner.lr_schedule import LearningRate
from sf_algo.learner.optimizer import GuardedAdam
from sf_algo.learner.overrides import Overrides
from sf_algo.learner.peers import ALONE, Peers, share, total
from sf_algo.learner.returns import Returns, Transitions, generalized_advantages, vtrace
from sf_algo.learner.samples import Samples, Validity, minibatches, scaled_rewards, validity
from sf_algo.learner.stats import KL_DIVERGENCE, TrainStats, UpdateLog, details, read_details
from sf_algo.learner.uploads import BatchUploads
from sf_algo.model.actor_critic import ActorCritic
from sf_algo.model.uploading import uploaded

if TYPE_CHECKING:
    from sf_algo.config import LearnerConfig


class Learner:
    """Trains one policy. Not thread-safe: one thread calls `train`; others may read `policy_version`."""

    def __init__(
        self,
        policy_id: int,
        rl_cfg: LearnerConfig,
        model: ActorCritic,
        *,
        device: torch.device,
        max_policy_lag: int,
        seed: int,
        train_for_env_steps: int | None = None,
        batches_vary: bool = False,
        extra_losses: ExtraLosses = NO_LOSSES,
        peers: Peers = ALONE,
    ) -> None:
        """Moves `model` to `device`. `train_for_env_steps` is where `lr_schedule=linear_decay` reaches zero
        (None: nowhere). The seed decides how trajectories are shuffled into minibatches. `batches_vary`: there may be
        somewhat more in a batch than the minibatches of the flags. `peers` are those with whom
        this one shares its minibatches: all of them make the same calls with the same arguments."""
        self.model = model.arrange(device)
        """The network being trained. Copy its `state_dict()` between calls of `train` to publish it."""
        self.policy_version = 0
        """Optimizer steps done since the run began: the version that acting stamps on every step. The beginning of a
        generation counts as one."""
        self.born_version = 0
        """The first version of the policy's generation: what older ones collected is not trained on, however large the
        lag may be."""
        self.carried: dict[str, Any] = {}
        """Plain values that are saved with the state: what else belongs to the policy as it is."""
        self._policy_id = policy_id
        self._extra_losses = extra_losses
        self._cfg = rl_cfg
        self._overrides = Overrides(rl_cfg)
        self._device = device
        self._uploads = BatchUploads(device)
        self._peers = peers
        self._max_policy_lag = max_policy_lag
        self._batches_vary = batches_vary
        self._optimizer = GuardedAdam(model, rl_cfg)
        self._lr = LearningRate(rl_cfg, train_for_env_steps)
        self._generator = torch.Generator()
        self._generator.manual_seed(seed)

    @property
    def learning_rate(self) -> float:
        """The rate of the next update."""
        return self._lr.value

    def upload(self, batch: TrajectoryBatch) -> None:
        """Copies the batch of the next call of `train` to the device while the current one is trained on. It is not
        to be changed until then."""
        self._uploads.begin(batch)

    def train(
        self, batch: TrajectoryBatch, *, env_steps: int = 0, meanwhile: Callable[[], None] = lambda: None
    ) -> TrainStats:
        """One or more epochs over the batch (T * B = batch_size * num_batches_per_iteration samples), which
        is in host memory and is not changed. `env_steps`: environment frames collected so far (for
        schedules). `meanwhile` is called now and then, while the device is at work."""
        # Moments of idle weights decay into denormal numbers, which are up to 100 times slower.
        torch.set_flush_denormal(True)
        try:
            return self._train(batch, env_steps, meanwhile)
        finally:
            torch.set_flush_denormal(False)

    @property
    def config(self) -> LearnerConfig:
        """The hyperparameters of the next update: the flags and this policy's overrides."""
        return self._cfg

    def set_config(self, rl_cfg: LearnerConfig) -> None:
        """New hyperparameters between two calls of `train`. The learning rate is taken over only where it differs from
        the previous config's."""
        self._cfg = rl_cfg
        self._optimizer.set_config(rl_cfg)
        self._lr.set_config(rl_cfg)

    def set_overrides(self, values: Mapping[str, Any]) -> None:
        """Hyperparameters of this policy that differ from the flags, by flag name, in place of those before
        (population-based training). They are part of `state_dict`. Raises ConfigError for a name that is none."""
        self._overrides.set(values)
        self.set_config(self._overrides.config)

    def adopt(self, state: Mapping[str, Any]) -> None:
        """Takes over what another policy has learned (its `state_dict`): weights, normalizers, the optimizer's moments
        and, where a schedule adapts it, the learning rate. The version, the generator and the overrides stay.

        Raises:
            CheckpointMismatchError: the other policy has another network.
        """
        check_fit(self.model.state_dict(), state["model"])
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._lr.adopt(state)

    def begin_generation(self) -> None:
        """The policy is another one from now on, and learns nothing from what it was before."""
        self.policy_version += 1
        self.born_version = self.policy_version

    def state_dict(self) -> dict[str, Any]:
        """Everything training depends on: weights, normalizers, optimizer, version, learning rate, generator.
        Only tensors, numbers, strings and containers of them: loadable with `weights_only=True`. The tensors
        are the live ones: copy them before the next `train`."""
        return {
            "model": dict(self.model.state_dict()),
            "optimizer": self._optimizer.state_dict(),
            "policy_version": self.policy_version,
            "born_version": self.born_version,
            "carried": self.carried,
            **self._lr.state(),
            **self._overrides.state(),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state_dict` was taken. Of its overrides those count whose flags have not changed since.

        Raises:
            CheckpointMismatchError: naming the tensors that do not fit the network built from the flags.
        """
        check_fit(self.model.state_dict(), state["model"])
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.policy_version = int(state["policy_version"])
        self.born_version = int(state.get("born_version", 0))
        self.carried = dict(state.get("carried", {}))
        self._overrides.restore(state)
        self.set_config(self._overrides.config)
        self._lr.resume(state)
        self._generator.set_state(state["generator"].cpu())

    def _train(self, batch: TrajectoryBatch, env_steps: int, meanwhile: Callable[[], None]) -> TrainStats:
        cfg = self._cfg
        self._uploads.begin(batch)  # while the host judges
        judged = validity(
            batch,
            policy_id=self._policy_id,
            policy_version=self.policy_version,
            max_policy_lag=self._max_policy_lag,
            born_version=self.born_version,
        )
        log = UpdateLog()
        figures: Tensor | None = None
        if len(judged.kept):
            self._lr.begin(env_steps)
            samples = self._prepare(batch, judged)
            size = max(1, cfg.batch_size // batch.rollout)
            for epoch in range(cfg.ppo_epochs):
                divergences = []
                plan = minibatches(
                    judged.kept, size, self._generator, total=batch.num_trajectories, nearest=self._batches_vary
                )
                for index, which in enumerate(plan):
                    last = epoch == cfg.ppo_epochs - 1 and index == len(plan) - 1
                    part = self._share(samples, which)
                    divergence, figures = self._update(part, log, want_details=last)
                    self._lr.after_minibatch(divergence)
                    divergences.append(divergence)
                    meanwhile()
                self._lr.after_epoch(divergences)
        else:
            self._uploads.drop(batch)
        return self._stats(batch, judged, log, figures)

    def _share(self, samples: Samples, which: Tensor | None) -> Samples:
        """What this learner computes of the minibatch `which` (None: all)."""
        mine = share(which, self._peers, total=samples.num_trajectories)
        if mine is None:
            return samples
        if len(mine):
            return samples.columns(mine)
        # Nothing is left for it, but the others wait for its gradient.
        one = samples.columns(torch.zeros(1, dtype=torch.int64))
        return replace(one, valid=torch.zeros_like(one.valid))

    def _prepare(self, batch: TrajectoryBatch, judged: Validity) -> Samples:
        """Uploads the batch, updates the normalizers from it and computes what all epochs share."""
        cfg, model = self._cfg, self.model
        reset_after = batch.reset_after
        transitions = Transitions.of(
            terminated=batch.terminated,
            truncated=batch.truncated,
            reset_after=batch.reset_after,
            played=batch.valid,
            value_bootstrap=cfg.value_bootstrap,
        )
        valid = uploaded(judged.valid, self._device)
        batch = self._uploads.take(batch)
        samples = Samples(
            obs=batch.obs,
            rnn_states=batch.rnn_states,
            actions=batch.actions,
            log_probs=batch.log_probs,
            values=batch.values,
            # Clipping compares with what the network said, so with the statistics of that time.
            old_values=model.standardize_values(batch.values),
            rewards=scaled_rewards(batch.rewards, cfg.reward_scale, cfg.reward_clip),
            played=batch.valid,
            valid=valid.float(),
            transitions=transitions.to(self._device),
            reset_after=reset_after,
            step_fields=batch.step_fields,
        )
        T = samples.rollout
        rows = judged.rows()
        rows = None if rows is None else uploaded(rows, self._device)
        model.obs_normalizer.update({n: x[:T].flatten(0, 1) for n, x in batch.obs.items()}, rows)
        if cfg.with_vtrace and model.returns_normalizer is None:
            self._agree()
            return samples
        returns = self._acting_returns(samples)
        if model.returns_normalizer is not None:
            targets = returns.targets.flatten()
            model.returns_normalizer.update(targets if rows is None else targets.index_select(0, rows))
        self._agree()
        return samples if cfg.with_vtrace else replace(samples, returns=returns)

    def _agree(self) -> None:
        """All have computed the same normalizers, but perhaps on processors that round differently."""
        if self._peers.count > 1:
            self._peers.copy_first_(list(self.model.buffers()))

    def _acting_returns(self, samples: Samples) -> Returns:
        """Returns from the values that were recorded while acting."""
        cfg = self._cfg
        behind = bootstrap_values(self.model, samples, samples.rnn_states[samples.rollout])
        if cfg.with_vtrace:
            return self._vtrace(samples, samples.values, behind, torch.ones_like(samples.values))
        return generalized_advantages(
            rewards=samples.rewards,
            values=samples.values,
            bootstrap_values=behind,
            transitions=samples.transitions,
            gamma=cfg.gamma,
            gae_lambda=cfg.gae_lambda,
        )

    def _vtrace(self, samples: Samples, values: Tensor, behind: Tensor, ratios: Tensor) -> Returns:
        return vtrace(
            rewards=samples.rewards,
            values=values,
            bootstrap_values=behind,
            ratios=ratios,
            transitions=samples.transitions,
            gamma=self._cfg.gamma,
            rho_clip=self._cfg.vtrace_rho,
            c_clip=self._cfg.vtrace_c,
            trace_lambda=self._cfg.vtrace_lambda,
            weigh_advantages=self._cfg.vtrace_weighs_advantages,
        )

    def _update(self, samples: Samples, log: UpdateLog, *, want_details: bool) -> tuple[Tensor, Tensor | None]:
        """One optimizer step. Returns the divergence of its samples and, where wanted, its details."""
        cfg, model = self._cfg, self.model
        model.power_iterations()
        forward = evaluate(model, samples, cfg.recurrence)
        mask = samples.obs.get(ACTION_MASK)
        distribution = model.distribution(forward.action_params, None if mask is None else mask[: samples.rollout])
        ratios = Ratios.of(distribution.log_prob(samples.actions), samples.log_probs, samples.played)
        returns, advantages, targets = self._targets(samples, forward, ratios)
        peers = self._peers
        count = None if peers.count == 1 else total(samples.valid.sum(), peers)
        losses = ppo_losses(
            distribution=distribution,
            ratios=ratios,
            advantages=advantages,
            values=forward.values,
            old_values=samples.old_values,
            targets=targets,
            valid=samples.valid,
            weights=_weights(cfg),
            count=count,
        )
        if self._extra_losses:
            output = Output(
                action_params=forward.action_params,
                values=forward.values,
                distribution=distribution,
                ratios=ratios.ratios,
                advantages=advantages,
                targets=targets,
                valid=samples.valid,
                count=None if count is None else count / peers.count,
            )
            extra = self._extra_losses.compute(model, samples, output)
            losses = losses.with_extra({name: loss / peers.count for name, loss in extra.items()})
        figures = losses.figures()
        norm = self._optimizer.backward_and_step(
            losses.total, self._lr.value, lambda gradients: peers.sum_([*gradients, figures])
        )
        self.policy_version += 1
        log.add(figures, losses.extra, norm)
        divergence = figures[KL_DIVERGENCE]
        if not want_details:
            return divergence, None
        shown = details(
            distribution=distribution,
            ratios=ratios.ratios.detach(),
            advantages=returns.advantages,
            values=forward.values.detach(),
            old_values=samples.old_values,
            targets=targets,
            valid=samples.valid,
            clip_ratio=cfg.ppo_clip_ratio,
            clip_value=cfg.ppo_clip_value,
        )
        return divergence, shown

    @torch.no_grad()
    def _targets(self, samples: Samples, forward: Forward, ratios: Ratios) -> tuple[Returns, Tensor, Tensor]:
        """Returns in units of reward, standardized advantages, and value targets in the network's units."""
        returns = samples.returns
        if returns is None:
            values = self.model.denormalize_values(forward.values)
            returns = self._vtrace(samples, values, forward.bootstrap_values, ratios.ratios)
        advantages = standardized(returns.advantages, samples.valid, self._peers)
        return returns, advantages, self.model.normalize_values(returns.targets)

    def _stats(self, batch: TrajectoryBatch, judged: Validity, log: UpdateLog, figures: Tensor | None) -> TrainStats:
        num_samples = judged.valid.numel()
        num_valid = int(judged.valid.sum())
        summaries: dict[str, float] = {
            "valid_fraction": num_valid / num_samples,
            "dropped_trajectories": float(batch.num_trajectories - len(judged.kept)),
            "damaged_trajectories": float(judged.num_damaged),
            "lr": self._lr.value,
            "policy_lag_min": judged.lags[0],
            "policy_lag_mean": judged.lags[1],
            "policy_lag_max": judged.lags[2],
        }
        skipped = 0
        if len(log):
            means, skipped = log.read()
            summaries |= means
        summaries["skipped_updates"] = float(skipped)
        if figures is not None:
            summaries |= read_details(figures)
        return TrainStats(
            policy_version=self.policy_version,
            num_samples=num_samples,
            num_valid_samples=num_valid,
            num_updates=len(log),
            num_skipped_updates=skipped,
            num_damaged_trajectories=judged.num_damaged,
            summaries=summaries,
        )


def _weights(cfg: LearnerConfig) -> LossWeights:
    return LossWeights(
        ppo_clip_ratio=cfg.ppo_clip_ratio,
        ppo_clip_value=cfg.ppo_clip_value,
        value_loss_coeff=cfg.value_loss_coeff,
        exploration_loss=cfg.exploration_loss,
        exploration_loss_coeff=cfg.exploration_loss_coeff,
        kl_loss_coeff=cfg.kl_loss_coeff,
    )
