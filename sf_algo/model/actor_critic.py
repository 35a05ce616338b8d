"""The policy and value network, and its factory.

Shape letters: N agents acting now, T steps, B trajectories, F features, S numbers of recurrent state, P
action parameters, M choices of all Discrete actions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sf_algo.envs.spec import ACTION_MASK, EnvSpec
from sf_algo.errors import ModelError
from sf_algo.model.distributions import ActionDistribution, ActionFamily
from sf_algo.model.encoders import DictEncoder, MlpEncoder, make_encoder
from sf_algo.model.layers import Linear, add_spectral_norm, arrange_weights, initialize, power_iterations
from sf_algo.model.normalizers import ObsNormalizer, RunningMeanStd
from sf_algo.model.processor import AMD, maker
from sf_algo.model.recurrent import make_core
from sf_algo.model.types import ActOutput, SequenceOutput

if TYPE_CHECKING:
    from sf_algo.config import ModelConfig

CPU_CHUNK_ROWS = 32 if maker() == AMD else 128
"""Rows of images that a CPU encodes at once: few enough that the activations of one layer are still in the
cache when the next one reads them and that their memory is recycled instead of mapped anew. Measured: 32 on an AMD
EPYC (7 % less than with 128), 128 on an Intel Xeon (13 % less than with 32)."""


class Tower(nn.Module):
    """Encoder -> core -> fully connected layers."""

    def __init__(self, encoder: nn.Module, model_cfg: ModelConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.bf16 = False
        """Encode in bfloat16 (autocast); core and heads stay in float32."""
        self.core = make_core(
            use_rnn=model_cfg.use_rnn,
            rnn_type=model_cfg.rnn_type,
            num_layers=model_cfg.rnn_num_layers,
            in_size=int(encoder.out_size),  # type: ignore[arg-type]
            hidden_size=model_cfg.hidden_size,
        )
        widths = model_cfg.decoder_mlp_layers
        self.decoder = MlpEncoder(self.core.out_size, widths, model_cfg) if widths else None
        self.out_size = self.decoder.out_size if self.decoder is not None else self.core.out_size

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


class ActorCritic(nn.Module):
    """Encoder -> core -> action parameters and value. Its buffers hold the normalizers, so a copy of its
    `state_dict()` is all that inference needs."""

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
        super().__init__()
        self.family = family
        self.towers = nn.ModuleList(towers)
        self.obs_normalizer = obs_normalizer
        self.returns_normalizer = returns_normalizer
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

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def distribution(self, params: Tensor, action_mask: Tensor | None = None) -> ActionDistribution:
        """The distribution of actions for parameters [..., P] and mask [..., M]."""
        return self.family.bind(params, action_mask)

    def act(self, obs: Mapping[str, Tensor], rnn_states: Tensor) -> ActOutput:
        """One step of N agents. obs: name -> [N, ...] as the environment wrote it (uint8 stays uint8);
        rnn_states [N, S]. Gradients follow the caller's mode: wrap in `torch.inference_mode` to act."""
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
        """T steps of B trajectories: obs name -> [T, B, ...], state before row 0 [B, S], reset_after [T, B]
        bool (may stay on the CPU). State and gradient are cut behind every row where reset_after is True."""
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

    def denormalize_values(self, values: Tensor) -> Tensor:
        """The network's values in units of reward."""
        return values if self.returns_normalizer is None else self.returns_normalizer.denormalize(values)

    def standardize_values(self, values: Tensor) -> Tensor:
        """Values in units of reward in the network's units: the inverse of `denormalize_values`."""
        return values if self.returns_normalizer is None else self.returns_normalizer.standardize(values)

    def normalize_values(self, values: Tensor) -> Tensor:
        """Values or returns in the network's units, clipped where returns are normalized."""
        return values if self.returns_normalizer is None else self.returns_normalizer.normalize(values)

    def use_bf16(self, wanted: bool) -> None:
        """Encode in bfloat16 from now on. Fast on GPUs and on CPUs with AMX; on others up to 6 times
        slower."""
        for tower in self.towers:
            assert isinstance(tower, Tower)
            tower.bf16 = wanted

    def power_iterations(self) -> None:
        """Refreshes the estimates of spectral norms; once per optimizer step."""
        power_iterations(self)

    def arrange(self, device: torch.device) -> ActorCritic:
        """Moves the network to `device` and puts its weights into the memory order that is fastest there."""
        self.to(device)
        arrange_weights(self, device)
        return self

    @torch.no_grad()
    def _initialize(self, model_cfg: ModelConfig) -> None:
        """A user's own encoder comes initialized and is left alone."""
        parts: list[nn.Module | None] = [self.heads]
        for tower in self.towers:
            assert isinstance(tower, Tower)
            own = tower.encoder if isinstance(tower.encoder, DictEncoder) else None
            parts += [own, tower.core, tower.decoder]
        for part in parts:
            if part is not None:
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
) -> ActorCritic:
    """Builds and initializes the network on the CPU; a seed makes the weights reproducible without touching
    torch's global generator.

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
        num_towers = 1 if model_cfg.actor_critic_share_weights else 2
        towers = [Tower(make_encoder(env_spec.obs, model_cfg, pixels), model_cfg) for _ in range(num_towers)]
        model = ActorCritic(
            towers,
            ActionFamily(env_spec.actions, tanh_scale=model_cfg.continuous_tanh_scale),
            normalizer,
            RunningMeanStd(()) if normalize_returns else None,
            adaptive_stddev=model_cfg.adaptive_stddev,
        )
        model._initialize(model_cfg)
        if model_cfg.use_spectral_norm:
            # Not the heads: a value must be able to grow beyond the norm of the features.
            add_spectral_norm(model.towers)
    return model.arrange(torch.device("cpu"))
