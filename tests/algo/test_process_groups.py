"""Who of a process group is still alive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Collection

import pytest

from sf_algo.processes import child, groups

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc elsewhere")

LEADER = """
import os, subprocess, sys
os.setpgid(0, 0)
print(subprocess.Popen(["sleep", "600"]).pid, flush=True)
sys.stdin.readline()
"""


def test_a_group_lives_as_long_as_one_of_it_and_zombies_are_dead() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LEADER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as leader:
        assert leader.stdout is not None
        sleeper = int(leader.stdout.readline())
        assert sorted(groups.members([leader.pid])) == sorted([leader.pid, sleeper])
        assert groups.members([]) == []
        os.kill(leader.pid, signal.SIGKILL)
        os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOWAIT)  # a zombie from now on
        assert groups.members([leader.pid]) == [sleeper]
        assert not groups.wait_until_gone([leader.pid], 0.0)
        os.killpg(leader.pid, signal.SIGKILL)
        assert groups.wait_until_gone([leader.pid], 20.0)


def test_whoever_kills_a_child_waits_for_all_that_it_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL takes effect some time later, and what a dying engine has mapped is not free before."""
    seen: list[Collection[int]] = []

    def dying(asked: Collection[int]) -> list[int]:
        seen.append(asked)
        return [4711] if len(seen) < 4 else []

    monkeypatch.setattr(groups, "members", dying)
    process = child.ChildProcess("json.tool", lambda messages, trace: Nothing())
    process.close()
    assert seen == [[process.pid]] * 4


class Nothing:
    """Settings of a child that does not need any."""

    single_thread = False

    def to_json(self) -> str:
        return ""

    def inherited_fds(self) -> set[int]:
        return set()
