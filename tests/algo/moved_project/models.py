from __future__ import annotations

from torch import nn

from sf_algo.compat.sample_factory.algo.utils.torch_utils import calc_num_elements
from sf_algo.compat.sample_factory.model.encoder import Encoder
from sf_algo.compat.sample_factory.model.model_utils import create_mlp, fc_layer, nonlinearity


class FlockEncoder(Encoder):
    def __init__(self, cfg, obs_space):
        super().__init__(cfg)
        size = obs_space["obs"].shape[0]
        self.mlp = create_mlp([cfg.rnn_size], size, nonlinearity(cfg))
        self.head = nn.Sequential(fc_layer(calc_num_elements(self.mlp, (size,)), 16), nonlinearity(cfg))

    def forward(self, obs_dict):
        return self.head(self.mlp(obs_dict["obs"]))

    def get_out_size(self):
        return 16


def make_encoder(cfg, obs_space):
    return FlockEncoder(cfg, obs_space)
