"""Whether the weights of a checkpoint or of another policy are those of a network like one's own."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sf_algo.errors import CheckpointMismatchError


def check_fit(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Raises CheckpointMismatchError, naming the tensors, where `saved` is not of a network like `own`."""
    faults = [f"{name} is missing" for name in own if name not in saved]
    faults += [f"{name} is unknown" for name in saved if name not in own]
    faults += [
        f"{name} is {tuple(saved[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in saved and saved[name].shape != value.shape
    ]
    if faults:
        shown = "; ".join(faults[:4]) + (f"; and {len(faults) - 4} more" if len(faults) > 4 else "")
        raise CheckpointMismatchError(
            f"the checkpoint belongs to another network than the flags describe ({shown}); use the flags it "
            "was trained with, or another --experiment"
        )
