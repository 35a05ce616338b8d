"""Running mean and standard deviation, of observations and of returns.

Moments are kept in float64 and merged batch by batch (Chan et al. 1979, the parallel form of Welford's
method). What the forward pass needs is kept beside them in float32, as buffers: copying a model's buffers
copies its normalization.

Shape letters: N rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sf_algo.envs.dmlab.instructions import INSTRUCTIONS
from sf_algo.envs.spec import ACTION_MASK, PLAIN_OBS, ObsSpec
from sf_algo.errors import ModelError

EPSILON = 1e-5
"""Added to the variance."""
CLIP = 5.0
"""Normalized values are clipped to [-CLIP, CLIP]."""
_ROWS_AT_ONCE = 256


class RunningMeanStd(nn.Module):
    """Mean and variance of everything seen, element by element."""

    mean: Tensor
    variance: Tensor
    count: Tensor
    mean32: Tensor
    std32: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(tuple(shape), dtype=torch.float64))
        self.register_buffer("variance", torch.ones(tuple(shape), dtype=torch.float64))
        # One imaginary row of mean 0 and variance 1 until real ones outweigh it.
        self.register_buffer("count", torch.ones((), dtype=torch.float64))
        self.register_buffer("mean32", torch.zeros(tuple(shape)))
        self.register_buffer("std32", torch.ones(tuple(shape)))
        self._refresh()

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Takes in the rows of x [N, *shape], of any dtype. No rows change nothing, and neither do rows among which
        a number is not finite: it would stay for ever."""
        if x.dim() > 2:
            # Images: the moments of few rows in float32 are exact enough and far cheaper than in float64.
            for rows in torch.split(x, _ROWS_AT_ONCE):
                self._merge(rows.to(torch.float32))
        else:
            self._merge(x.to(torch.float64))
        self._refresh()

    def _merge(self, rows: Tensor) -> None:
        if not len(rows):
            return
        variance, mean = torch.var_mean(rows, 0, correction=0)
        # On the device: nothing waits for a GPU.
        sound = torch.isfinite(variance).all() & torch.isfinite(mean).all()
        added = len(rows) * sound.to(self.count.dtype)
        variance, mean = torch.where(sound, variance, self.variance), torch.where(sound, mean, self.mean)
        total = self.count + added
        delta = mean - self.mean
        between = delta.square() * (self.count * added / total)
        self.variance.copy_((self.variance * self.count + variance * added + between) / total)
        self.mean += delta * (added / total)
        self.count.copy_(total)

    def _refresh(self) -> None:
        self.mean32.copy_(self.mean)
        self.std32.copy_((self.variance + EPSILON).sqrt())

    def standardize(self, x: Tensor) -> Tensor:
        """(x - mean) / std for float x [N, *shape]."""
        return (x - self.mean32) / self.std32

    def normalize(self, x: Tensor) -> Tensor:
        """(x - mean) / std, clipped, for float x [N, *shape]."""
        return self.standardize(x).clamp_(-CLIP, CLIP)

    def denormalize(self, x: Tensor) -> Tensor:
        """The inverse of `standardize`."""
        return x * self.std32 + self.mean32


class ObsNormalizer(nn.Module):
    """Prepares observations: a fixed shift and scale, then (where asked for) running normalization.

    The fixed ones concern the observation "obs" and every image. Images with nothing but a fixed shift and
    scale are left to the first convolution, which folds them into its weights (`pixel_shift_scale`).
    """

    def __init__(
        self,
        obs: Mapping[str, ObsSpec],
        *,
        subtract_mean: float,
        scale: float,
        running: bool,
        running_keys: Sequence[str] = (),
    ) -> None:
        """`running_keys` limits running normalization to these observations; empty: all.

        Raises:
            ModelError: a running key names no observation.
        """
        super().__init__()
        seen = [name for name in obs if name != ACTION_MASK]
        if unknown := [key for key in running_keys if key not in seen]:
            raise ModelError(
                f"--normalize_input_keys names {', '.join(unknown)}, but the observations are {', '.join(seen)}"
            )
        numbers = [name for name in seen if name != INSTRUCTIONS]  # words are no quantities
        self._running_names = [n for n in numbers if running and (not running_keys or n in running_keys)]
        self.running = nn.ModuleList([RunningMeanStd(obs[n].shape) for n in self._running_names])
        self._fixed = {
            name: (subtract_mean, scale)
            for name in seen
            if (name == PLAIN_OBS or obs[name].is_image) and (subtract_mean, scale) != (0.0, 1.0)
        }

    def pixel_shift_scale(self, name: str) -> tuple[float, float]:
        """What is to be subtracted from image `name`, and what it is then to be divided by, if it is given to
        the encoder as it came: (0, 1) where `forward` does it."""
        return (0.0, 1.0) if name in self._running_names else self._fixed.get(name, (0.0, 1.0))

    def update(self, obs: Mapping[str, Tensor], rows: Tensor | None = None) -> None:
        """Takes in observations, name -> [N, ...]: those `rows` (int64, where the observations are), or all."""
        for name, running in zip(self._running_names, self.running, strict=True):
            assert isinstance(running, RunningMeanStd)
            x = obs[name]
            running.update(self._shifted(name, x if rows is None else x.index_select(0, rows)))

    def forward(self, obs: Mapping[str, Tensor], keep_pixels: frozenset[str]) -> dict[str, Tensor]:
        """Normalized float32 observations; those in `keep_pixels` that only need a fixed shift and scale
        come out as they went in."""
        out: dict[str, Tensor] = {}
        for name, x in obs.items():
            running = name in self._running_names
            if name == ACTION_MASK:
                continue
            if name in keep_pixels and not running:
                out[name] = x
            elif running:
                module = self.running[self._running_names.index(name)]
                assert isinstance(module, RunningMeanStd)
                out[name] = module.normalize(self._shifted(name, x))
            else:
                out[name] = self._shifted(name, x)
        return out

    def _shifted(self, name: str, x: Tensor) -> Tensor:
        x = x.to(torch.float32) if not x.is_floating_point() else x
        mean, scale = self._fixed.get(name, (0.0, 1.0))
        if mean != 0.0:
            x = x - mean
        return x / scale if scale != 1.0 else x
