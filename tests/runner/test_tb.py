"""The tensorboard helper as a command, with a real tensorboard asked over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sf_runner.tb import main
from tests.runner.result_runs import write_curve

_DEADLINE_S = 200.0
_STRANGE = "00_basic_see_0_x: 1, y"


@pytest.fixture
def train_dir(tmp_path: Path) -> Path:
    for experiment in ("study/basic_/" + _STRANGE, "study/basic_/01_basic_see_1", "atari/pong/a", "third/x"):
        write_curve(tmp_path / "td" / experiment / ".summary/0", "policy_stats/avg_reward", [(0, 1.0), (10, 2.0)])
    return tmp_path / "td"


class Helper:
    """`python -m sf_runner.tb` in a process group of its own, with its own temporary directory."""

    def __init__(self, train_dir: Path, *arguments: str) -> None:
        self.tmp = train_dir.parent / "tmp"
        self.tmp.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sf_runner.tb", f"--dir={train_dir}", "--reload_interval=1", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TMPDIR": str(self.tmp), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        self.said = ""

    def read_until(self, text: str) -> str:
        """The first line that holds `text`; fails at once when the process ends without it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if text in line:
                return line
        raise AssertionError(f"ended without saying {text!r}:\n{self.said}")

    def port(self) -> int:
        return int(self.read_until("tensorboard: http").split(":")[3].split("/")[0])

    def tensorboard_pid(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def leaves_nothing(self) -> bool:
        return not list(self.tmp.iterdir())


@pytest.fixture
def helper(train_dir: Path) -> Iterator[Callable[..., Helper]]:
    started: list[Helper] = []

    def start(*arguments: str) -> Helper:
        started.append(Helper(train_dir, *arguments))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGTERM)
        one.process.communicate()


def get_runs(port: int) -> set[str]:
    connection = http.client.HTTPConnection("localhost", port, timeout=20)
    try:
        connection.request("GET", "/data/runs")
        return set(json.loads(connection.getresponse().read()))
    finally:
        connection.close()


def wait_for(condition: Callable[[], bool], what: str, helper: Helper | None = None) -> None:
    """Asks again and again: there is nothing to be woken by. Fails at once when the helper ends meanwhile."""
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {_DEADLINE_S} s"
        assert helper is None or helper.process.poll() is None, f"ended before {what}"
        time.sleep(0.1)


def is_gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody has waited for yet counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_browser_sees_exactly_what_the_masks_select(helper: Callable[..., Helper], train_dir: Path) -> None:
    tb = helper("study", "*pong*", "--port=0")
    port = tb.port()
    assert "3 experiments of 2 runs" in tb.said
    expected = {"study/" + _STRANGE, "study/01_basic_see_1", "atari/pong/a"}
    wait_for(lambda: get_runs(port) == expected, "the runs' appearance", tb)

    second = helper("study", f"--port={port}")
    assert f"--port={port} is in use" in second.read_until("error:")
    assert second.process.wait() == 1

    for name in ("third/other", "third/pong_2"):
        write_curve(train_dir / name / ".summary/0", "policy_stats/avg_reward", [(0, 1.0)])
    assert tb.read_until("+") == "+ third/pong_2\n"
    wait_for(lambda: get_runs(port) == {*expected, "third/pong_2"}, "the new run's appearance", tb)

    pid = tb.tensorboard_pid()
    tb.process.send_signal(signal.SIGINT)
    assert tb.process.wait() == 0
    assert is_gone(pid)
    assert tb.leaves_nothing()


def test_the_slow_loader_shows_the_same_and_a_killed_helper_leaves_nothing(helper: Callable[..., Helper]) -> None:
    tb = helper("study", "--port=0", "--load_fast=false")
    port, pid = tb.port(), tb.tensorboard_pid()
    wait_for(lambda: get_runs(port) == {_STRANGE, "01_basic_see_1"}, "the runs' appearance", tb)
    tb.process.kill()
    wait_for(lambda: is_gone(pid), "tensorboard's end")
    wait_for(tb.leaves_nothing, "the removal of the temporary directory")


def test_a_killed_tensorboard_ends_the_helper(helper: Callable[..., Helper]) -> None:
    tb = helper("study", "--port=0")
    tb.port()
    os.kill(tb.tensorboard_pid(), signal.SIGKILL)
    assert tb.read_until("error:") == "error: tensorboard was ended by signal 9\n"
    assert tb.process.wait() == 1
    assert tb.leaves_nothing()


def test_tensorboards_own_complaint_is_told(helper: Callable[..., Helper]) -> None:
    tb = helper("study", "--port=0", "--quiet", "--", "--no_such_flag=1")
    assert tb.process.wait() == 1
    assert tb.read_until("error:").endswith("unrecognized arguments: --no_such_flag=1\n")
    assert tb.leaves_nothing()


def test_the_list_names_what_is_matched(train_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (train_dir / "study/basic_/02_basic/job").mkdir(parents=True)
    (train_dir / "study/basic_/02_basic/job/attempt_1.log").touch()
    assert main(["study", "*nothing*", "a", f"--dir={train_dir}", "--list"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        f"4 experiments of 2 runs under {train_dir}:",
        "  atari: 1",
        "    pong/a",
        "  study: 3",
        f"    basic_/{_STRANGE}",
        "    basic_/01_basic_see_1",
        "    basic_/02_basic  (no summaries yet)",
    ]
    assert told.err.startswith(f"warning: '*nothing*' matches nothing under {train_dir}. Known: atari, study, third.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["*stdy*"], "nothing under --dir={dir} matches '*stdy*'. Did you mean 'study'?"),
        (["study", "--dir={dir}/absent"], "--dir={dir}/absent is not a directory"),
        (["--dir={dir}/study/basic_/01_basic_see_1/.summary/0"], "is itself an experiment; give the folder above it"),
        (["--prot=1"], "unknown argument '--prot'. Did you mean '--port'?"),
        (["--load_fast=maybe"], "--load_fast"),
    ],
)
def test_mistakes_are_told_in_one_line(
    train_dir: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([f"--dir={train_dir}", *(argument.format(dir=train_dir) for argument in arguments)]) == 2
    told = capsys.readouterr()
    assert message.format(dir=train_dir) in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""


def test_an_empty_directory_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--dir={tmp_path}"]) == 2
    assert f"no experiments under --dir={tmp_path}" in capsys.readouterr().err
