"""The engines of one match, each with a thread that plays it.

Engines of a match wait for each other's packets, for ever if need be. So every call goes to all of them at once, every
tic begins when all have finished the last one, and whoever waits here for a player has a limit. The engines are killed
where it is passed: then all calls return.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from sf_algo.envs.doom.engine import DoomEngine
from sf_algo.envs.doom.player import EngineState
from sf_algo.errors import EnvCrashedError

STEP_LIMIT_S = 30
EPISODE_LIMIT_S = 60
START_LIMIT_S = 60
"""Together with the time that a match waits for its turn to start, less than --reset_timeout_seconds: then a match that
does not start costs nothing else, and not its worker with all other matches."""
_STOPPED_LIMIT_S = 3
"""An engine that somebody stopped (SIGSTOP) gets this long to be continued."""
_END_LIMIT_S = 10
_LOOK_S = 1.0
_Result = TypeVar("_Result")
_never_started: list[DoomEngine] = []


class Played(NamedTuple):
    """What became of one player in a step."""

    reward: float
    state: EngineState | None
    is_dead: bool


class Lockstep:
    """N engines that begin, advance and end together. Any failure ends all of them and is an EnvCrashedError."""

    def __init__(self, engines: Sequence[DoomEngine]) -> None:
        self._engines = tuple(engines)
        self._calls: list[SimpleQueue[Callable[[], Any] | None]] = []
        self._answers: SimpleQueue[tuple[int, Any, BaseException | None]] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._barrier = threading.Barrier(len(engines))
        self._started = False

    @property
    def host(self) -> DoomEngine:
        """The first: it holds the match, console commands about bots go to it."""
        return self._engines[0]

    def start(self, *, limit_s: int = START_LIMIT_S) -> None:
        """Start the processes and connect them."""
        for player in range(len(self._engines)):
            calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
            thread = threading.Thread(target=self._serve, args=(player, calls), name=f"doom player {player}")
            thread.daemon = True
            thread.start()
            self._calls.append(calls)
            self._threads.append(thread)
        self._all([engine.start_in_place for engine in self._engines], limit_s, "start")
        self._started = True

    def _serve(self, player: int, calls: SimpleQueue[Callable[[], Any] | None]) -> None:
        while (call := calls.get()) is not None:
            try:
                answer = call()
            except BaseException as error:
                self._barrier.abort()
                self._answers.put((player, None, error))
            else:
                self._answers.put((player, answer, None))

    def new_episode(self, seed: int, recordings: Sequence[Path | None]) -> list[Played]:
        """Begin an episode in all engines; the first state of every player."""

        def begin(engine: DoomEngine, recording: Path | None) -> Played:
            engine.new_episode(seed, recording)
            return Played(0.0, engine.observe(), engine.is_dead)

        calls = [_call(begin, engine, recording) for engine, recording in zip(self._engines, recordings, strict=True)]
        return self._all(calls, EPISODE_LIMIT_S, "begin an episode")

    def begin_step(self, buttons: Sequence[Sequence[float]], tics: int) -> None:
        """Every player holds its buttons for that many tics; `end_step` tells what became of it."""
        self._ask([_call(self._play, engine, held, tics) for engine, held in zip(self._engines, buttons, strict=True)])

    def end_step(self) -> list[Played]:
        """Wait for the step that was begun."""
        return self._answered(STEP_LIMIT_S, "play on")

    def frags(self) -> tuple[list[int], list[int]]:
        """Every player's own number, and the frags of everybody in the match by number."""
        answers = self._all([engine.frags for engine in self._engines], STEP_LIMIT_S, "tell the score")
        return [number for number, _ in answers], answers[0][1]

    def _play(self, engine: DoomEngine, buttons: Sequence[float], tics: int) -> Played:
        reward = 0.0
        for left in range(tics - 1, -1, -1):
            reward += engine.advance(buttons, show=left == 0)
            if left:
                self._barrier.wait()  # one that is a tic ahead would run two at once, and the others wait for ever
        return Played(reward, engine.observe(), engine.is_dead)

    def _all(self, calls: Sequence[Callable[[], _Result]], limit_s: int, doing: str) -> list[_Result]:
        """Every thread makes its call; all answers, in order. The first failure ends the match."""
        self._ask(calls)
        return self._answered(limit_s, doing)

    def _ask(self, calls: Sequence[Callable[[], Any]]) -> None:
        for queue, call in zip(self._calls, calls, strict=True):
            queue.put(call)

    def _answered(self, limit_s: int, doing: str) -> list[Any]:
        answers: dict[int, Any] = {}
        waited, players = 0, range(len(self._engines))
        while len(answers) < len(players):
            try:
                player, answer, error = self._answers.get(timeout=_LOOK_S)
            except Empty:
                waited += 1  # counted, not timed: who was suspended meanwhile must not take the others for dead
                late = [player for player in players if player not in answers]
                self._give_up_if_hopeless(late, waited, limit_s, doing)
                continue
            if error is not None:
                self._fail(f"player {player}: {error}", error)
            answers[player] = answer
        return [answers[player] for player in players]

    def _give_up_if_hopeless(self, late: Sequence[int], waited: int, limit_s: int, doing: str) -> None:
        stopped = [player for player, engine in enumerate(self._engines) if engine.is_stopped]
        if stopped and waited >= _STOPPED_LIMIT_S:
            # one that crashes is stopped, too, by the debugger that it calls
            self._fail(f"the engine of player {stopped[0]} has been stopped (SIGSTOP), or crashed")
        if waited >= limit_s:
            names = ", ".join(map(str, late))
            self._fail(f"player {names} did not {doing} within {limit_s} s")

    def _fail(self, why: str, error: BaseException | None = None) -> None:
        self.close()
        raise EnvCrashedError(f"the match ended: {why}") from error

    def close(self) -> None:
        """Ends all engines and threads; may be called twice. Players that wait for others are not waited for."""
        self._barrier.abort()
        if not self._started:
            # vizdoom takes its process along when an engine ends that has not started yet, or is closed then. So those
            # whose match never began stay, stopped, which costs no time; they end with this process.
            for engine in self._engines:
                engine.leave_starting()
            _never_started.extend(self._engines)
            self._engines, self._calls, self._threads = (), [], []
            return
        for engine in self._engines:
            engine.kill()
        for calls in self._calls:
            calls.put(None)
        for thread in self._threads:
            thread.join(_END_LIMIT_S)
        for engine in self._engines:
            engine.close()
        self._calls, self._threads = [], []


class SingleEngine:
    """The same for a match of one agent against bots: nobody else is waited for, so no thread is needed."""

    def __init__(self, engine: DoomEngine) -> None:
        self.host = engine
        self._begun: tuple[Sequence[float], int] = ((), 0)

    def start(self, *, limit_s: int = START_LIMIT_S) -> None:
        """As `Lockstep.start`."""
        self.host.start_in_place()

    def new_episode(self, seed: int, recordings: Sequence[Path | None]) -> list[Played]:
        """As `Lockstep.new_episode`."""
        self.host.new_episode(seed, recordings[0])
        return [Played(0.0, self.host.observe(), self.host.is_dead)]

    def begin_step(self, buttons: Sequence[Sequence[float]], tics: int) -> None:
        """As `Lockstep.begin_step`; nothing happens yet."""
        self._begun = buttons[0], tics

    def end_step(self) -> list[Played]:
        """As `Lockstep.end_step`."""
        reward = self.host.act(*self._begun)
        return [Played(reward, self.host.observe(), self.host.is_dead)]

    def frags(self) -> tuple[list[int], list[int]]:
        """As `Lockstep.frags`."""
        number, frags = self.host.frags()
        return [number], frags

    def close(self) -> None:
        """As `Lockstep.close`."""
        self.host.close()


def _call(function: Callable[..., _Result], *args: Any) -> Callable[[], _Result]:
    return lambda: function(*args)
