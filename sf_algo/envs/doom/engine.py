"""One VizDoom engine: configured, started, played, and never left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.doom import launcher, maps, packet_wait, shm, start_lock
from sf_algo.envs.doom.watch import EngineWatch, engine_pids, instance_of, process_state
from sf_algo.errors import EnvCrashedError, EnvError

_START_SEED = 1
"""Always the same: with it, an episode depends on the episode's own seed alone, down to the last pixel."""
_NO_CONFIG = os.devnull  # else all engines of a folder read and rewrite one _vizdoom.ini
_MIN_FREE_SHM = 16 << 20
_MAX_RECORDING_PATH = 100  # the engine cuts longer ones off and records nothing
_RESULT = TypeVar("_RESULT")
_marks = count()
"""Tells the processes of one match apart while they start: their ids are known only afterwards."""


class DoomEngine:
    """A scenario in the engine. Construction reads the scenario file only; `start` starts the process.

    Raises EnvError where the scenario file or map is unusable, MissingDependencyError without vizdoom or the
    map, and EnvCrashedError as soon as the running engine is found dead.
    """

    def __init__(
        self,
        *,
        name: str,
        cfg: Path,
        wad: Path | None,
        screen_wh: tuple[int, int],
        window: bool = False,
        asynchronous: bool = False,
        game_args: str = "",
    ) -> None:
        """`wad` None: the one that the scenario file names. `asynchronous`: the game does not wait for
        actions. `game_args`: what makes the process a player of a match.
        """
        self._binary = maps.vizdoom_dir() / "vizdoom"
        import vizdoom

        self._name = name
        self._game: Any = vizdoom.DoomGame()
        if not self._game.load_config(str(cfg)):
            raise EnvError(f"{cfg} has lines that vizdoom does not understand (see its warnings); correct them")
        self._set_wad(wad)
        width, height = screen_wh
        resolution = getattr(vizdoom.ScreenResolution, f"RES_{width}X{height}")
        self._game.set_screen_resolution(resolution)
        self._game.set_screen_format(vizdoom.ScreenFormat.CRCGCB)
        self._game.set_window_visible(window)
        self._needs_display = window
        self._game.set_mode(vizdoom.Mode.ASYNC_PLAYER if asynchronous else vizdoom.Mode.PLAYER)
        self._game.set_doom_config_path(_NO_CONFIG)
        self._game.set_seed(_START_SEED)
        self._mark = ""
        self._several = "-port" in game_args  # it talks to other engines
        if game_args:
            self._mark = f"sf{os.getpid()}_{next(_marks)}"
            self._game.add_game_args(f"{game_args} -mark {self._mark}")
        # The engine would end the episode without showing its last frame, which a time limit must bootstrap
        # from, so the limit is kept by the caller.
        self.frame_limit: int | None = self._game.get_episode_timeout() or None
        self._game.set_episode_timeout(0)
        self.buttons = tuple(button.name for button in self._game.get_available_buttons())
        self.variables = tuple(variable.name for variable in self._game.get_available_game_variables())
        if not self.buttons:
            raise EnvError(f"{cfg} names no available_buttons; the agent could do nothing")
        self._player_number = vizdoom.GameVariable.PLAYER_NUMBER
        self.screen_shape = (3, height, width)
        self._running = False
        self._pid: int | None = None
        self._watch: EngineWatch | None = None

    def _set_wad(self, wad: Path | None) -> None:
        if wad is None:
            named = self._game.get_doom_scenario_path()
            if not named:
                return
            wad = Path(named)
            if not wad.is_file():
                wad = maps.find_wad(wad.name, wad.parent, is_downloaded=False)
        try:
            with wad.open("rb") as file:
                magic = file.read(4)
        except OSError as error:
            raise EnvError(f"cannot read the map {wad}: {error.strerror}") from error
        if magic not in (b"PWAD", b"IWAD"):  # the engine would exit and take its player along
            raise EnvError(f"{wad} is not a Doom map (.wad): it begins with {magic!r}; replace the file")
        self._game.set_doom_scenario_path(str(wad))

    @property
    def is_running(self) -> bool:
        return self._running

    def start(self) -> None:
        """Start the process; about 0.15 s. It dies when this process does."""
        with start_lock.start_place(start_lock.scratch_dir(), places=start_lock.default_places()):
            self.start_in_place()

    def start_in_place(self) -> None:
        """As `start`, for a caller that holds a start place."""
        _check_shared_memory()
        if self._needs_display and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise EnvError(f"there is no display to show {self._name} on; add --no_render or --save_video")
        preload = packet_wait.library() if self._several else None
        scratch = start_lock.scratch_dir()
        with launcher.guarded(self._binary, working_dir=scratch, preload=preload, silent=True) as path:
            self._game.set_vizdoom_path(path)
            self._guard(self._game.init)
        self._running = True
        segments = shm.segments_of(instance_id := self._game.get_instance_id())
        self._watch = self._start_watch(instance_id, [path for path in segments if "MQ" in path.name])
        # Player and engine have mapped them and need no names any more. So whoever is killed now leaves none behind.
        for segment in segments:
            segment.unlink(missing_ok=True)

    def _start_watch(self, instance_id: str, queues: Sequence[Path]) -> EngineWatch | None:
        pids = engine_pids(instance_id)
        self._pid = pid = pids[0] if pids else None
        if pid is not None:
            with suppress(OSError, AttributeError):  # a kernel without pidfds
                return EngineWatch(pid, queues)
        return None

    def add_args(self, args: str) -> None:
        """Further arguments of the process; before it is started."""
        self._game.add_game_args(args)

    @property
    def is_stopped(self) -> bool:
        """Somebody stopped the process (SIGSTOP), and it does nothing until it is continued."""
        pids = [self._pid] if self._pid is not None else self._starting_pids()
        return any(process_state(pid) in ("T", "t") for pid in pids)

    def _starting_pids(self) -> list[int]:
        """Processes that may be this engine before it is known which one it is."""
        return engine_pids(self._mark) if self._mark else []

    def leave_starting(self) -> None:
        """Stops a process that has not started yet, for good, and removes its names in /dev/shm. vizdoom takes its own
        process along when an engine ends that is starting, so this is how one is given up: it ends with us."""
        for pid in self._starting_pids():
            with suppress(OSError):
                os.kill(pid, signal.SIGSTOP)
            for segment in shm.segments_of(instance_of(pid)):
                segment.unlink(missing_ok=True)

    def kill(self) -> None:
        """End the started process at once, also in the middle of a call in another thread, which then fails."""
        if self._watch:
            self._watch.kill()

    def new_episode(self, seed: int, recording: Path | None = None) -> None:
        """Begin an episode that depends on `seed` (32 bits) and the actions only; about 1 ms."""
        self._game.set_seed(seed)
        if recording is None:
            self._guard(self._game.new_episode)
            return
        if len(str(recording)) > _MAX_RECORDING_PATH:
            raise EnvError(
                f"--record_to: the engine cannot record to {recording}, which is longer than "
                f"{_MAX_RECORDING_PATH} characters; choose a shorter folder"
            )
        self._guard(lambda: self._game.new_episode(str(recording)))

    def act(self, buttons: Sequence[float], tics: int) -> float:
        """Hold the buttons for that many tics; the sum of the scenario's rewards."""
        try:
            return float(self._game.make_action(buttons, tics))
        except Exception as error:
            raise self._crashed(error) from error

    def advance(self, buttons: Sequence[float], *, show: bool) -> float:
        """Hold the buttons for one tic; the scenario's reward. `show`: the screen will be looked at."""
        try:
            self._game.set_action(buttons)
            self._game.advance_action(1, show)
            return float(self._game.get_last_reward())
        except Exception as error:
            raise self._crashed(error) from error

    def command(self, text: str) -> None:
        """A command for the engine's console; carried out with the next tic."""
        self._guard(lambda: self._game.send_game_command(text))

    @property
    def is_dead(self) -> bool:
        """The player waits to respawn."""
        return bool(self._guard(self._game.is_player_dead))

    def frags(self) -> tuple[int, list[int]]:
        """The player's own place in the list that follows: the frags of all players of a match, bots included."""

        def ask() -> tuple[int, list[int]]:
            server = self._game.get_server_state()
            number = int(self._game.get_game_variable(self._player_number))
            there = [bool(playing) for playing in server.players_in_game]
            in_game = zip(there, server.players_frags, strict=True)
            # Numbers count the places of players who have left, too.
            return sum(there[:number]), [int(frags) for playing, frags in in_game if playing]

        return self._guard(ask)

    def observe(self) -> tuple[NDArray[np.uint8], NDArray[np.float64]] | None:
        """The screen [3, H, W] and the game variables [V], fresh copies; None after the episode's end."""
        try:
            state = self._game.get_state()
        except Exception as error:
            raise self._crashed(error) from error
        if state is None:
            return None
        variables = state.game_variables  # None where the scenario file names none
        return state.screen_buffer, np.zeros(0) if variables is None else variables

    def _guard(self, call: Callable[[], _RESULT]) -> _RESULT:
        try:
            return call()
        except Exception as error:
            raise self._crashed(error) from error

    def _crashed(self, error: Exception) -> EnvCrashedError:
        self.close()
        return EnvCrashedError(f"the VizDoom engine of {self._name} died: {error}")

    def close(self) -> None:
        """Ends the process; may be called twice and after a crash."""
        self._running = False
        if self._watch:
            self._watch.stop()
            self._watch = None
        self._pid = None
        with suppress(Exception):  # a dead engine cannot be asked to end
            self._game.close()


def _check_shared_memory() -> None:
    with suppress(FileNotFoundError):
        status = os.statvfs(shm.SHM_DIR)
        free = status.f_bavail * status.f_frsize
        if free < _MIN_FREE_SHM:
            raise EnvError(
                f"{shm.SHM_DIR} has {free >> 20} MB left and a VizDoom engine may need "
                f"{_MIN_FREE_SHM >> 20}; free it or enlarge it (docker run --shm-size=1g)"
            )
