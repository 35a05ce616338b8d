"""One machine in bad weather: the clock is set, the disk is slow, runners are killed and stopped, all at random.

Every experiment appends its name to a file when it has done its work. Whatever happens, each name is there once; twice
only where guardian and runner were killed together, so that nobody could see the end, and the journal says so.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from sf_runner.state import events as ev
from tests.runner.harness import RunUnderTest, wait_until
from tests.runner.killing import WAYS, is_lost, kill, many, not_yet, processes
from tests.runner.weather import Weather, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "available")

Make = Callable[..., RunUnderTest]
EXPERIMENTS = 40
FLAGS = (
    "--max_parallel=4", "--max_retries=3", "--retry_delay=0.3", "--pause_between=0.01", "--max_failures=0",
    "--timeout=120", "--stall_timeout=120", "--grace=5",
)  # fmt: skip
WORK = (
    "echo begins; sleep 0.$(($$ % 5 + 1)); "
    "case $1 in *7) test -e tried_$1 || { touch tried_$1; exit 3; };; esac; echo $1 >> done"
)
"""Those whose number ends with 7 fail at first."""
CLOCK_STEPS_S = (-28_800.0, -600.0, -61.0, -3.0, 3.0, 61.0, 600.0, 28_800.0)


class Storm:
    """What happens to a run, by the dice of a seed."""

    def __init__(self, run: RunUnderTest, weather: Weather, seed: int) -> None:
        self.run, self.weather, self.dice = run, weather, Random(seed)
        self.openings = 0
        self.told: list[str] = []
        self._start()

    def _start(self) -> None:
        self.process = self.run.start(*FLAGS, env=self.weather.environ)

    def blow(self, events: int) -> None:
        """So many events, or fewer if the run is over before."""
        for _ in range(events):
            if self.process.poll() is not None:
                return
            time.sleep(self.dice.uniform(0.0, 0.4))
            what = self.dice.choice([self._clock, self._clock, self._disk, self._kill, self._kill, self._stop])
            what()

    def _clock(self) -> None:
        by_s = self.dice.choice(CLOCK_STEPS_S)
        self.told.append(f"clock {by_s:+g}")
        self.weather.set_clock(by_s)

    def _disk(self) -> None:
        self.told.append("disk")
        self.weather.slow_disk(self.dice.choice([0, 50, 300]), self.dice.choice([0.02, 0.3]))

    def _stop(self) -> None:
        """The whole command does nothing for a moment."""
        if not self._is_there():
            return
        self.told.append("stop")
        pids = list(processes(self.run).values())
        _signal(pids, signal.SIGSTOP)
        time.sleep(self.dice.uniform(0.0, 1.0))
        _signal(pids, signal.SIGCONT)

    def _kill(self) -> None:
        if not self._is_there():
            return
        way = self.dice.choice(list(WAYS))
        self.told.append(f"kill {way}")
        self.openings = len(self.run.state.runners)
        kill(self.run, *WAYS[way])
        if "guardian" in WAYS[way] or "group" in WAYS[way]:
            self.process.wait()
            time.sleep(self.dice.choice([0.0, 0.0, 0.5]))
            if self.dice.random() < 0.3:  # while no runner is there
                self._clock()
            self._start()

    def _is_there(self) -> bool:
        """Wait for the runner that was started last; False when the run was over before."""

        def known() -> bool:
            return self.process.poll() is not None or not not_yet(self.run, self.process.pid, self.openings)

        wait_until("the runner to be there", known)
        return self.process.poll() is None


def _signal(pids: list[int], signum: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)


def check(run: RunUnderTest, told: list[str]) -> None:
    why = f"{told}\n{run.printed()}"
    done = Counter((run.folder / "done").read_text().split())
    assert done.keys() == {f"i={number}" for number in range(EXPERIMENTS)}, why
    assert run.state.count("Succeeded") == EXPERIMENTS, why
    ends = [event for event in run.read_events(ev.AttemptEnded) if isinstance(event, ev.AttemptEnded)]
    unseen = {run.state.jobs[end.job].argv[-1] for end in ends if is_lost(end)}
    assert {name for name, times in done.items() if times > 1} <= unseen, why
    kinds = {end.cause.kind for end in ends if end.cause is not None}
    assert kinds <= {"exit", "lost"}, f"something was ended that was well: {why}"
    assert run.left() == [], why


def weather_test(make: Make, folder: Path, seed: int) -> None:
    run, weather = make(many(EXPERIMENTS, WORK)), Weather(folder / "sky")
    storm = Storm(run, weather, seed)
    storm.blow(14)
    weather.slow_disk(0, 0.0)
    assert run.finish() == 0, f"{storm.told}\n{run.printed()}"
    check(run, storm.told)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_in_bad_weather_each_succeeds_exactly_once(make: Make, tmp_path: Path, seed: int) -> None:
    weather_test(make, tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 21))
def test_in_more_bad_weather(make: Make, tmp_path: Path, seed: int) -> None:
    weather_test(make, tmp_path, seed)
