"""How numerical libraries use threads; to be settled before torch is imported, so this module does not."""

from __future__ import annotations

import os
from collections.abc import MutableMapping


def prepare_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Lets idle OpenMP threads sleep instead of spin, unless the user has chosen.

    Spinning threads gain a little on an idle machine. Where cores are shared with rollout workers or other
    experiments they take the time that the others need: measured on 2 busy cores, a training was 7 times
    slower.
    """
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    environment.setdefault("KMP_BLOCKTIME", "0")
