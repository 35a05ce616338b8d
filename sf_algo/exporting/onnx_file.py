"""A policy as one ONNX file: normalizers, masks, recurrent state and the drawing of actions inside.

Shape letters: N agents acting now, S numbers of recurrent state, K numbers of noise.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sf_algo.envs.spec import ACTION_MASK
from sf_algo.errors import MissingDependencyError, ModelError
from sf_algo.exporting.form import METADATA, NOISE, STATE, PolicyForm
from sf_algo.files import write_bytes_atomically
from sf_algo.model.base import ActorCritic

OPSET = 18
"""Version of ONNX's operators: the oldest that torch's exporter writes without translating."""
_EXAMPLE_ROWS = 3
"""A number of rows that is no size of anything else, so that it is seen to be free."""


class PolicyGraph(nn.Module):
    """From the inputs of `PolicyForm` to its outputs."""

    def __init__(self, model: ActorCritic, form: PolicyForm) -> None:
        super().__init__()
        self.model = model
        self._form = form

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Tensors in the order of `PolicyForm.inputs`."""
        named = dict(zip(self._form.inputs, inputs, strict=True))
        obs = {name: named[f"obs/{name}"] for name in self._form.obs_names}
        noise = named[NOISE]
        state = named[STATE] if self._form.state_size else noise.new_zeros(noise.shape[0], 0)
        params, values, new_state = self.model.act(obs, state)
        actions = self.model.distribution(params, obs.get(ACTION_MASK)).with_noise(noise)
        return (actions, values, new_state) if self._form.state_size else (actions, values)


def example_inputs(form: PolicyForm, rows: int) -> tuple[Tensor, ...]:
    """Zeros of the right shapes and dtypes; action masks allow everything."""
    obs = {name: torch.from_numpy(spec.zeros(rows)) for name, spec in form.spec.obs.items()}
    if ACTION_MASK in obs:
        obs[ACTION_MASK].fill_(1)
    state = (torch.zeros(rows, form.state_size),) if form.state_size else ()
    return (*obs.values(), torch.zeros(rows, form.noise_size), *state)


def export_onnx(model: ActorCritic, form: PolicyForm, path: Path, **described: object) -> None:
    """Writes the policy to `path`. `described` goes into the description that the file carries.

    Raises:
        MissingDependencyError: the packages that write ONNX are not installed.
        ModelError: the network (one of the user's own) has parts that ONNX does not know.
        StorageError: the file cannot be written.
    """
    for name in ("onnx", "onnxscript"):
        _require(name)
    # A copy: tracing must not touch the parameters of a model that somebody else plays with.
    graph = PolicyGraph(copy.deepcopy(model).cpu(), form).eval()
    rows = torch.export.Dim("agents", min=1)
    shapes = tuple({0: rows} for _ in form.inputs)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph,
                example_inputs(form, _EXAMPLE_ROWS),
                input_names=list(form.inputs),
                output_names=list(form.outputs),
                dynamic_shapes=(shapes,),
                dynamo=True,
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:  # torch raises many kinds, with pages of text
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise ModelError(f"the network cannot be written as ONNX: {reason}") from error
    assert program is not None
    proto: Any = program.model_proto
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA, form.description(**described)
    write_bytes_atomically(path, proto.SerializeToString(), what="policy")


def _require(name: str) -> None:
    import importlib

    try:
        importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"exporting needs the package {error.name or name}: pip install 'sf-runner[onnx]'"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter says about itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
