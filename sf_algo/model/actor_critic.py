"""The policy and value network, and its factory.

Shape letters: N agents acting now, T steps, B trajectories, F features, S numbers of recurrent state, P
action parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sf_algo.envs.spec import ACTION_MASK, EnvSpec
from sf_algo.errors import ModelError
from sf_algo.model.base import ActorCritic
from sf_algo.model.distributions import ActionFamily
from sf_algo.model.encoders import NO_SECTIONS, DictEncoder, MlpEncoder, make_encoder
from sf_algo.model.layers import Linear, add_spectral_norm, initialize
from sf_algo.model.normalizers import ObsNormalizer, RunningMeanStd
from sf_algo.model.own import SteppedCore, make_own
from sf_algo.model.processor import AMD, maker
from sf_algo.model.recurrent import Core, make_core
from sf_algo.model.types import ActOutput, SequenceOutput
from sf_algo.model.whole import WholeActorCritic, make_whole

__all__ = ["ActorCritic", "Tower", "TowerActorCritic", "make_actor_critic"]

if TYPE_CHECKING:
    from sf_algo.config import ModelConfig

CPU_CHUNK_ROWS = 32 if maker() == AMD else 128
"""Rows of images that a CPU encodes at once: few enough that the activations of one layer are still in the
cache when the next one reads them and that their memory is recycled instead of mapped anew. Measured: 32 on an AMD
EPYC (7 % less than with 128), 128 on an Intel Xeon (13 % less than with 32)."""


class Tower(nn.Module):
    """Encoder -> core -> fully connected layers."""

    def __init__(self, encoder: nn.Module, model_cfg: ModelConfig, own: Mapping[str, Any] = NO_SECTIONS) -> None:
        """`own`: sections of the user's program, for its own core and decoder."""
        super().__init__()
        self.encoder = encoder
        self.bf16 = False
        """Encode in bfloat16 (autocast); core and heads stay in float32."""
        self.core = _make_core(int(encoder.out_size), model_cfg, own)  # type: ignore[arg-type]
        self.decoder = _make_decoder(self.core.out_size, model_cfg, own)
        self.out_size = self.core.out_size if self.decoder is None else int(self.decoder.out_size)  # type: ignore[arg-type]

    def encode(self, obs: dict[str, Tensor]) -> Tensor:
        """Prepared observations, name -> [N, ...] -> [N, features of the encoder]."""
        if not self.bf16:
            return self.encoder(obs)  # type: ignore[no-any-return]
        with self._precision(next(iter(obs.values()))):
            return self.encoder(obs).float()  # type: ignore[no-any-return]

    def convolve(self, obs: dict[str, Tensor]) -> list[Tensor]:
        """The first half of `encode`, for every image; see `DictEncoder.convolve`."""
        assert isinstance(self.encoder, DictEncoder)
        with self._precision(next(iter(obs.values()))):
            return self.encoder.convolve(obs)

    def finish(self, convolved: list[Tensor], obs: dict[str, Tensor]) -> Tensor:
        """The second half. All rows in one product read the weights once."""
        assert isinstance(self.encoder, DictEncoder)
        with self._precision(convolved[0]):
            features = self.encoder.finish(convolved, obs)
        return features.float() if self.bf16 else features

    def _precision(self, like: Tensor) -> torch.autocast:
        return torch.autocast(like.device.type, dtype=torch.bfloat16, enabled=self.bf16)

    def step(self, obs: dict[str, Tensor], states: Tensor) -> tuple[Tensor, Tensor]:
        """[N, ...], [N, S] -> features [N, F], states [N, S]."""
        x, states = self.core.step(self.encode(obs), states)
        return (x if self.decoder is None else self.decoder(x)), states

    def sequence(self, x_TBF: Tensor, states: Tensor, reset_after: Tensor) -> tuple[Tensor, Tensor]:
        """Encoded observations [T, B, F], [B, S], [T, B] -> features [T, B, F], states [B, S]."""
        x_TBF, states = self.core.sequence(x_TBF, states, reset_after)
        return (x_TBF if self.decoder is None else self.decoder(x_TBF)), states


def _make_core(in_size: int, model_cfg: ModelConfig, own: Mapping[str, Any]) -> Core | SteppedCore:
    if model_cfg.core_custom is not None:
        by_name = {**own, "in_size": in_size, "model_cfg": model_cfg}
        sizes = ["out_size", "state_size"]
        return SteppedCore(make_own("core_custom", model_cfg.core_custom, [in_size, model_cfg], by_name, sizes=sizes))
    return make_core(
        use_rnn=model_cfg.use_rnn,
        rnn_type=model_cfg.rnn_type,
        num_layers=model_cfg.rnn_num_layers,
        in_size=in_size,
        hidden_size=model_cfg.hidden_size,
    )


def _make_decoder(in_size: int, model_cfg: ModelConfig, own: Mapping[str, Any]) -> nn.Module | None:
    if model_cfg.decoder_custom is not None:
        by_name = {**own, "in_size": in_size, "model_cfg": model_cfg}
        return make_own("decoder_custom", model_cfg.decoder_custom, [in_size, model_cfg], by_name, sizes=["out_size"])
    widths = model_cfg.decoder_mlp_layers
    return MlpEncoder(in_size, widths, model_cfg) if widths else None


class TowerActorCritic(ActorCritic):
    """The networks of the flags: encoder -> core -> decoder -> heads."""

    def __init__(
        self,
        towers: Sequence[Tower],
        family: ActionFamily,
        obs_normalizer: ObsNormalizer,
        returns_normalizer: RunningMeanStd | None,
        *,
        adaptive_stddev: bool,
    ) -> None:
        """One tower that policy and value share, or one for each."""
        super().__init__(family, obs_normalizer, returns_normalizer)
        self.towers = nn.ModuleList(towers)
        own_stddevs = 0 if adaptive_stddev else family.num_stddevs
        self._num_policy_outputs = family.num_params - own_stddevs
        self.log_stddev = nn.Parameter(torch.zeros(own_stddevs)) if own_stddevs else None
        # One matrix product for both heads where they read the same features.
        outputs = [self._num_policy_outputs, 1]
        sizes = [sum(outputs)] if len(towers) == 1 else outputs
        self.heads = nn.ModuleList([Linear(tower.out_size, size) for tower, size in zip(towers, sizes, strict=True)])
        self._tower_state = towers[0].core.state_size
        self.rnn_state_size = self._tower_state * len(towers)
        """S, the width of the packed recurrent state; 0 without a core."""
        encoder = towers[0].encoder
        self._raw_pixels = encoder.raw_pixels if isinstance(encoder, DictEncoder) else frozenset()
        self.chunk_rows: int | None = CPU_CHUNK_ROWS if self._raw_pixels else None
        """Rows that are encoded at once while training on a CPU; None: all."""

    def act(self, obs: Mapping[str, Tensor], rnn_states: Tensor) -> ActOutput:
        """As `ActorCritic.act`."""
        prepared = self.obs_normalizer(obs, self._raw_pixels)
        if len(self.towers) == 1:
            tower = self.towers[0]
            assert isinstance(tower, Tower)
            features, rnn_states = tower.step(prepared, rnn_states)
            params, values = self._read_heads(features, features)
        else:
            results = []
            parts = torch.split(rnn_states, self._tower_state, -1) if self._tower_state else (rnn_states,) * 2
            for tower, part in zip(self.towers, parts, strict=True):
                assert isinstance(tower, Tower)
                results.append(tower.step(prepared, part))
            (actor, actor_state), (critic, critic_state) = results
            if self._tower_state:
                rnn_states = torch.cat([actor_state, critic_state], -1)
            params, values = self._read_heads(actor, critic)
        return ActOutput(params, self.denormalize_values(values), rnn_states)

    def evaluate_sequence(
        self, obs_TB: Mapping[str, Tensor], rnn_states_B: Tensor, reset_after_TB: Tensor
    ) -> SequenceOutput:
        """As `ActorCritic.evaluate_sequence`."""
        T, B = reset_after_TB.shape
        rows = {name: x.flatten(0, 1) for name, x in obs_TB.items() if name != ACTION_MASK}
        parts = torch.split(rnn_states_B, self._tower_state, -1) if self._tower_state else (rnn_states_B,) * 2
        outputs, states = [], []
        for tower, part, encoded in zip(self.towers, parts, self._encode(rows), strict=False):
            assert isinstance(tower, Tower)
            features, state = tower.sequence(encoded.view(T, B, -1), part, reset_after_TB)
            outputs.append(features)
            states.append(state)
        params, values = self._read_heads(outputs[0], outputs[-1])
        final = torch.cat(states, -1) if self._tower_state and len(states) > 1 else states[0]
        return SequenceOutput(params, values, final)

    def _encode(self, rows: Mapping[str, Tensor]) -> list[Tensor]:
        """Features of every tower for rows [N, ...]; on a CPU the convolutions go through them chunk by chunk."""
        num_rows = len(next(iter(rows.values())))
        on_cpu = self.device.type == "cpu"
        step = self.chunk_rows if on_cpu and self.chunk_rows is not None else num_rows
        if step >= num_rows:
            prepared = self.obs_normalizer(rows, self._raw_pixels)
            return [tower.encode(prepared) for tower in self._towers()]
        seen: list[list[list[Tensor]]] = [[] for _ in self.towers]
        vectors = {name: x for name, x in rows.items() if name not in self._raw_pixels}
        for start in range(0, num_rows, step):
            chunk = {name: x[start : start + step] for name, x in rows.items() if name in self._raw_pixels}
            prepared = self.obs_normalizer(chunk, self._raw_pixels)
            for tower, convolved in zip(self._towers(), seen, strict=True):
                convolved.append(tower.convolve(prepared))
        prepared = self.obs_normalizer(vectors, self._raw_pixels)
        return [
            tower.finish([torch.cat(image) for image in zip(*convolved, strict=True)], prepared)
            for tower, convolved in zip(self._towers(), seen, strict=True)
        ]

    def _towers(self) -> Iterator[Tower]:
        for tower in self.towers:
            assert isinstance(tower, Tower)
            yield tower

    def _read_heads(self, actor: Tensor, critic: Tensor) -> tuple[Tensor, Tensor]:
        """Features [..., F] -> parameters [..., P] and the network's values [...]."""
        if len(self.heads) == 1:
            both = self.heads[0](actor)
            params, values = both[..., :-1], both[..., -1]
        else:
            params, values = self.heads[0](actor), self.heads[1](critic).squeeze(-1)
        if self.log_stddev is not None:
            params = torch.cat([params, self.log_stddev.expand(*params.shape[:-1], -1)], -1)
        return params, values

    def use_bf16(self, wanted: bool) -> None:
        """As `ActorCritic.use_bf16`."""
        for tower in self.towers:
            assert isinstance(tower, Tower)
            tower.bf16 = wanted

    @torch.no_grad()
    def _initialize(self, model_cfg: ModelConfig) -> None:
        """A user's own parts begin like the rest, unless they say `keeps_weights = True` (they were trained before)."""
        parts: list[nn.Module | None] = [self.heads]
        for tower in self._towers():
            core = tower.core.core if isinstance(tower.core, SteppedCore) else tower.core
            parts += [tower.encoder, core, tower.decoder]
        for part in parts:
            if part is not None and not getattr(part, "keeps_weights", False):
                initialize(part, model_cfg.policy_initialization, model_cfg.policy_init_gain)
        policy_head = self.heads[0]
        assert isinstance(policy_head, Linear)
        policy_head.weight[: self._num_policy_outputs] *= self.family.initial_gains[: self._num_policy_outputs, None]
        log_stddev = math.log(model_cfg.initial_stddev)
        if self.log_stddev is not None:
            self.log_stddev.fill_(log_stddev)
        elif self.family.num_stddevs:
            first = self._num_policy_outputs - self.family.num_stddevs
            policy_head.bias[first : self._num_policy_outputs] = log_stddev


def make_actor_critic(
    model_cfg: ModelConfig,
    env_spec: EnvSpec,
    *,
    obs_subtract_mean: float = 0.0,
    obs_scale: float = 1.0,
    normalize_input: bool = False,
    normalize_input_keys: Sequence[str] = (),
    normalize_returns: bool = False,
    seed: int | None = None,
    own: Mapping[str, Any] = NO_SECTIONS,
) -> ActorCritic:
    """Builds and initializes the network on the CPU; a seed makes the weights reproducible without touching
    torch's global generator. `own`: sections of the user's program, for its own parts of the network.

    Raises:
        ModelError: naming the flag that does not fit the observations.
    """
    normalizer = ObsNormalizer(
        env_spec.obs,
        subtract_mean=obs_subtract_mean,
        scale=obs_scale,
        running=normalize_input,
        running_keys=normalize_input_keys,
    )
    pixels = {name: normalizer.pixel_shift_scale(name) for name in env_spec.obs}
    if not any(name != ACTION_MASK for name in env_spec.obs):
        raise ModelError("the environment observes nothing but an action mask; a network needs something to see")
    with torch.random.fork_rng(devices=[]):
        # The global generator of the CPU alone: `torch.manual_seed` would reseed GPUs, too.
        torch.default_generator.manual_seed(seed) if seed is not None else torch.default_generator.seed()
        family = ActionFamily(env_spec.actions, tanh_scale=model_cfg.continuous_tanh_scale)
        returns_normalizer = RunningMeanStd(()) if normalize_returns else None
        if model_cfg.actor_critic_custom is not None:
            seen = {name: spec for name, spec in env_spec.obs.items() if name != ACTION_MASK}
            net = make_whole(model_cfg.actor_critic_custom, model_cfg, seen, family.num_params, own)
            return WholeActorCritic(net, family, normalizer, returns_normalizer).arrange(torch.device("cpu"))
        num_towers = 1 if model_cfg.actor_critic_share_weights else 2
        encoders = [make_encoder(env_spec.obs, model_cfg, pixels, own) for _ in range(num_towers)]
        model = TowerActorCritic(
            [Tower(encoder, model_cfg, own) for encoder in encoders],
            family,
            normalizer,
            returns_normalizer,
            adaptive_stddev=model_cfg.adaptive_stddev,
        )
        model._initialize(model_cfg)
        if model_cfg.use_spectral_norm:
            # Not the heads: a value must be able to grow beyond the norm of the features.
            add_spectral_norm(model.towers)
    return model.arrange(torch.device("cpu"))
