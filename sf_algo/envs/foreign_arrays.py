"""Arrays of other libraries (torch, JAX, CuPy, Warp, ...) as numpy's, without importing any of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_numpy(value: Any) -> NDArray[Any]:
    """`value` as an array; memory is shared where that can be. What lies on a device is copied from there: by the
    library's own conversion, by torch's way to the CPU, or through DLPack.

    Raises what numpy does for what is none, ValueError for ragged lists among it.
    """
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach") and hasattr(value, "cpu"):  # a tensor may need gradients, or lie on a GPU
        return np.asarray(value.detach().cpu())
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    return np.asarray(value)
