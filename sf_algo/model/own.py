"""Parts of the network that users bring, by import path: how they are called, and what they must offer.

Shape letters: N agents acting now, T steps, B trajectories, F features, S numbers of recurrent state, P action
parameters.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from sf_algo.errors import ModelError, SfAlgoError
from sf_algo.model.uploading import uploaded
from sf_algo.own.loading import failed, load_object


class OwnCore(Protocol):
    """What a core offers. It is an `nn.Module`."""

    out_size: int
    """Number of features behind it."""
    state_size: int
    """S, the width of one agent's state; 0 for a core that remembers nothing."""

    def step(self, x: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """One step of N agents: features [N, F], states [N, S] -> features [N, out_size], states [N, S]."""

    # A core may also have sequence(x_TBF, states_BS, reset_after_TB), as `sf_algo.model.recurrent.RecurrentCore`.


class SteppedCore(nn.Module):
    """A core that goes through sequences step by step; states are zeroed behind rows after which a new episode
    begins."""

    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.core = core
        self.out_size = int(cast(Any, core).out_size)
        self.state_size = int(cast(Any, core).state_size)

    def step(self, x: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """As `OwnCore.step`."""
        return cast("tuple[Tensor, Tensor]", cast(Any, self.core).step(x, states))

    def sequence(self, x_TBF: Tensor, states_BS: Tensor, reset_after_TB: Tensor) -> tuple[Tensor, Tensor]:
        """Features [T, B, F], states [B, S], reset_after [T, B] bool -> features [T, B, out_size], states [B, S]."""
        if hasattr(self.core, "sequence"):
            return cast("tuple[Tensor, Tensor]", cast(Any, self.core).sequence(x_TBF, states_BS, reset_after_TB))
        T, B = x_TBF.shape[:2]
        if self.state_size == 0:
            out, _ = self.step(x_TBF.flatten(0, 1), states_BS.new_zeros(T * B, 0))
            return out.view(T, B, -1), states_BS
        keep = uploaded((~reset_after_TB).to(x_TBF.dtype), x_TBF.device).unsqueeze(-1)
        outputs = []
        for t in range(T):
            x, states_BS = self.step(x_TBF[t], states_BS)
            states_BS = states_BS * keep[t]
            outputs.append(x)
        return torch.stack(outputs), states_BS


def make_own(
    flag: str, path: str, positional: Sequence[Any], by_name: Mapping[str, Any], *, sizes: Sequence[str]
) -> nn.Module:
    """Calls the maker at an import path. Parameters that are called like something in `by_name` get that, others what
    is in `positional` at their place. `sizes`: integer attributes that the module must have.

    Raises:
        ModelError: naming the flag: it cannot be imported, raises, or makes no such module.
    """
    maker = load_own(flag, path)
    arguments, keywords = arguments_for(maker, positional, by_name)
    try:
        module = maker(*arguments, **keywords)
    except SfAlgoError:
        raise
    except Exception as error:
        raise ModelError(str(failed(f"--{flag}={path}", error))) from error
    wrong = [name for name in sizes if not isinstance(getattr(module, name, None), int)]
    if not isinstance(module, nn.Module) or wrong:
        what = {"out_size": "the number of its features", "state_size": "the numbers of state of one agent"}
        needs = " and ".join(f"an integer attribute {name}, {what[name]}" for name in sizes)
        raise ModelError(f"--{flag}={path}: must return a torch.nn.Module with {needs}")
    return module


def load_own(flag: str, path: str) -> Callable[..., Any]:
    """What a flag names by its import path. Raises ModelError."""
    try:
        found = load_object(path, f"--{flag}")
    except SfAlgoError as error:
        reason, _, details = str(error).removeprefix(f"--{flag}={path}: ").partition("\n")
        raise ModelError(f"--{flag}={path}: cannot be imported ({reason})\n{details}".rstrip()) from error
    if not callable(found):
        raise ModelError(f"--{flag}={path}: is a {type(found).__name__}, nothing that can be called")
    return cast("Callable[..., Any]", found)


def arguments_for(
    maker: Callable[..., Any], positional: Sequence[Any], by_name: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments for a function of the user's; see `make_own`."""
    try:
        parameters = list(inspect.signature(maker).parameters.values())
    except (TypeError, ValueError):
        return list(positional), {}
    front = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    arguments: list[Any] = []
    for parameter, value in zip(front, positional, strict=False):
        if parameter.default is not parameter.empty and parameter.name not in by_name:
            break
        arguments.append(by_name.get(parameter.name, value))
    if any(p.kind is p.VAR_POSITIONAL for p in parameters) and len(arguments) == len(front):
        arguments += positional[len(arguments) :]
    wanted = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    given = {p.name for p in front[: len(arguments)]}
    return arguments, {n: v for n, v in by_name.items() if (n in wanted or takes_all) and n not in given}
