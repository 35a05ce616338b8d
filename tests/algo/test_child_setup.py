"""How a child process is scheduled."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import os, sys
from sf_algo.processes.child_setup import let_wakers_finish
if sys.argv[1]:
    os.sched_setscheduler(0, int(sys.argv[1]), os.sched_param(0))
let_wakers_finish()
print(os.sched_getscheduler(0))
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="only Linux schedules like that")
def test_batch_work_unless_somebody_chose_otherwise() -> None:
    for chosen, expected in (("", os.SCHED_BATCH), (str(os.SCHED_IDLE), os.SCHED_IDLE)):
        command = [sys.executable, "-c", _PROGRAM, chosen]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert int(said.stdout) == expected
