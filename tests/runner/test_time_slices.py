"""The runner asks for short time slices, its experiments get usual ones."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

from sf_runner.linux.time_slices import _SYS_SCHED_SETATTR

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in _SYS_SCHED_SETATTR,
    reason="the number of the system call is not known here",
)

PROGRAM = """\
import ctypes, json, os, platform, struct, subprocess, sys
from sf_runner.linux.time_slices import ask_for_short_time_slices

number = {"x86_64": 315, "aarch64": 275, "riscv64": 275}[platform.machine()]
attributes = struct.Struct("=IIQiIQQQII")


def told(pid):
    answer = ctypes.create_string_buffer(attributes.size)
    ctypes.CDLL(None).syscall(number, pid, answer, attributes.size, 0)
    size, policy, flags, nice, priority, slice_ns, *rest = attributes.unpack(answer.raw)
    return {"policy": policy, "flags": flags, "nice": nice, "slice_ns": slice_ns}


os.nice(int(sys.argv[1]))
before, done, after = told(0), ask_for_short_time_slices(), told(0)
child = subprocess.Popen(["sleep", "60"], start_new_session=True)
inherited = told(child.pid)
child.kill()
child.wait()
print(json.dumps({"done": done, "before": before, "after": after, "child": inherited}))
"""
RESET_ON_FORK = 1


@pytest.mark.parametrize("nice", [0, 5])
def test_what_is_started_is_scheduled_as_if_nothing_had_been_asked_for(nice: int) -> None:
    output = subprocess.run([sys.executable, "-c", PROGRAM, str(nice)], capture_output=True, text=True, check=True)
    said = json.loads(output.stdout)
    assert said["done"]
    assert said["child"] == said["before"]
    assert said["after"] == {**said["before"], "flags": RESET_ON_FORK, "slice_ns": said["after"]["slice_ns"]}
    assert said["after"]["slice_ns"] <= said["before"]["slice_ns"]
