"""The network: encoder, recurrent core, action distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sf_algo.config.flag import flag

EncoderType = Literal["auto", "conv", "resnet", "mlp"]
EncoderSubtype = Literal[
    "auto", "convnet_simple", "convnet_impala", "convnet_atari", "resnet_impala", "mlp", "mlp_mujoco"
]

INSTRUCTION_ENCODER = "dmlab_instructions"
"""Not a path but ours: the encoder of the other flags, with a reader for instructions in words beside it."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Architecture of the actor-critic."""

    encoder_type: EncoderType = flag(
        "auto", "kind of encoder; auto: conv for images, mlp for vectors, or what encoder_subtype belongs to"
    )
    encoder_subtype: EncoderSubtype = flag(
        "auto",
        "encoder within its kind; auto: convnet_simple, resnet_impala or mlp",
        aliases=("encoder_conv_architecture",),
    )
    encoder_custom: str | None = flag(
        None,
        f"your own encoder as package.module:make_encoder; {INSTRUCTION_ENCODER}: the usual one, which also reads "
        "instructions in words",
    )
    core_custom: str | None = flag(None, "your own core between encoder and decoder, as package.module:make_core")
    decoder_custom: str | None = flag(None, "your own layers between the core and the heads, as package.module:make")
    actor_critic_custom: str | None = flag(
        None, "your own network of policy and value, in place of all of these, as package.module:make_network"
    )
    encoder_extra_fc_layers: int = flag(1, "fully connected layers after the convolutions", at_least=0)
    encoder_conv_mlp_layers: tuple[int, ...] = flag(
        (),
        "widths of the layers after the convolutions; empty: encoder_extra_fc_layers x hidden_size",
    )
    encoder_mlp_layers: tuple[int, ...] = flag(
        (), "widths of the layers of an mlp encoder; empty: 2 x hidden_size (mlp_mujoco: 2 x 64)"
    )
    decoder_mlp_layers: tuple[int, ...] = flag((), "widths of the layers between the core and the heads; empty: none")
    hidden_size: int = flag(
        512,
        "width of the encoder's output and of the recurrent core",
        aliases=("rnn_size",),
        at_least=1,
        why="a layer has at least one unit",
    )
    precision: Literal["float32", "tf32", "bf16"] = flag(
        "float32",
        "of products, for acting and learning alike. tf32: float32 with 10 bits, GPUs only; bf16: the encoder in 8 "
        "bits, for GPUs and CPUs with AMX (up to 6 times slower on others)",
    )
    nonlinearity: Literal["elu", "relu", "tanh"] = flag("elu", "activation function")
    policy_initialization: Literal["orthogonal", "xavier_uniform", "torch_default"] = flag(
        "orthogonal", "how weights start"
    )
    policy_init_gain: float = flag(1.0, "gain of the initialization", above=0, why="weights of gain 0 never learn")
    actor_critic_share_weights: bool = flag(True, "one body for policy and value instead of two")
    use_spectral_norm: bool = flag(False, "spectral normalization of the layers")
    adaptive_stddev: bool = flag(
        True,
        "the standard deviation of continuous actions depends on the state instead of being one parameter",
    )
    initial_stddev: float = flag(1.0, "standard deviation of continuous actions at the start", above=0)
    continuous_tanh_scale: float = flag(
        0.0, "means of continuous actions are scale * tanh(mean / scale); 0: not squashed", at_least=0
    )

    use_rnn: bool = flag(True, "recurrent core")
    rnn_type: Literal["gru", "lstm"] = flag("gru", "kind of the recurrent core")
    rnn_num_layers: int = flag(1, "layers of the recurrent core", at_least=1, why="use_rnn=False means no layer")
