"""`python -m sf_algo.envs.doom.join_match --env=doom_duel --match_port=5029`: play against a trained policy.

The match waits for people where it was started with `--num_humans`, by `enjoy_appo` as a rule. A window opens; keys are
the engine's: W A S D, arrows, the mouse or Ctrl to fire, 1-7 for weapons, E or space to open. The game runs at its own
35 frames per second, and the agents keep up with it.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sf_algo.config import DoomConfig
from sf_algo.envs.doom import launcher, maps, shm, start_lock
from sf_algo.envs.doom.make import scenario_of
from sf_algo.errors import EnvError, SfAlgoError

_STALLED_LIMIT_S = 10.0
_LOOK_S = 0.2
_KEYS = {
    "w": "+forward",
    "s": "+back",
    "a": "+moveleft",
    "d": "+moveright",
    "uparrow": "+forward",
    "downarrow": "+back",
    "leftarrow": "+left",
    "rightarrow": "+right",
    "ctrl": "+attack",
    "mouse1": "+attack",
    "shift": "+speed",
    "e": "+use",
    "space": "+use",
    **{str(slot): f'"slot {slot}"' for slot in range(1, 8)},
}


class Joined:
    """A person's game, in a thread: the engine waits for the other players for ever, and is asked nothing meanwhile."""

    def __init__(self, game: Any) -> None:
        self._game = game
        self.tics = 0
        """How often the game has gone on so far."""
        self.failure = ""
        """Why the game could not begin; read after the thread's end."""
        self.thread = threading.Thread(target=self._run, name="doom person", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        import vizdoom

        scratch = start_lock.scratch_dir()
        try:
            with launcher.guarded(maps.vizdoom_dir() / "vizdoom", working_dir=scratch, silent=True) as path:
                self._game.set_vizdoom_path(path)
                self._game.init()
        except Exception as error:
            self.failure = " ".join(str(error).split()) or type(error).__name__
            return
        for key, command in _KEYS.items():
            self._game.send_game_command(f"bind {key} {command}")
        with suppress(vizdoom.ViZDoomUnexpectedExitException, vizdoom.ViZDoomErrorException):  # a closed window
            while True:
                self._game.advance_action()
                self.tics += 1
                if self._game.is_episode_finished():
                    self._game.new_episode()  # leaves the score that is shown between two matches


def join(env: str, port: int, *, host: str, name: str, doom_cfg: DoomConfig, screen: str) -> None:
    """Plays until the match is over, the window is closed or Ctrl-C. Raises EnvError where it cannot begin.

    The engine ends with this process only, and what it left in shared memory has to be removed then.
    """
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise EnvError("there is no display to play on; run this where you sit, with --host=<address of the match>")
    game = _game(env, doom_cfg, screen)
    game.add_game_args(f"-join {host} -port {port} +name {name} +use_mouse 1")
    print(f"joining the match at {host}:{port}; Ctrl-C leaves it", flush=True)
    joined = Joined(game)
    seen, stalled_s = 0, 0.0
    while joined.thread.is_alive() and stalled_s < _STALLED_LIMIT_S:
        joined.thread.join(_LOOK_S)
        stalled_s = stalled_s + _LOOK_S if joined.tics == seen and seen else 0.0
        seen = joined.tics
    if joined.failure:
        raise EnvError(f"--match_port={port}, --host={host}: the match could not be joined: {joined.failure}")
    print("the match is over", flush=True)


def _game(env: str, doom_cfg: DoomConfig, screen: str) -> Any:
    """An engine with the map of that environment, to be played by hand."""
    scenario = scenario_of(env, doom_cfg)
    own_dir = maps.user_dir(doom_cfg.doom_scenarios_dir)
    cfg = maps.find_cfg(scenario.cfg, own_dir)
    binary_dir = maps.vizdoom_dir()
    import vizdoom

    game: Any = vizdoom.DoomGame()
    if cfg is None or not game.load_config(str(cfg)):
        raise EnvError(f"--env={env}: its scenario file {scenario.cfg} cannot be read")
    wad = scenario.wad or os.path.basename(game.get_doom_scenario_path())  # noqa: PTH119
    is_downloaded = scenario.wad is not None and scenario.wad_is_downloaded
    game.set_doom_scenario_path(str(maps.find_wad(wad, own_dir or binary_dir, is_downloaded=is_downloaded)))
    resolution = getattr(vizdoom.ScreenResolution, f"RES_{screen.upper()}", None)
    if resolution is None:
        raise EnvError(f"--screen={screen} is no size that the engine has; try 800x600")
    game.set_screen_resolution(resolution)
    game.set_window_visible(True)
    game.set_render_all_frames(True)
    game.set_mode(vizdoom.Mode.ASYNC_SPECTATOR)
    game.set_episode_timeout(0)
    game.set_doom_config_path(os.devnull)
    return game


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="join_match", description="Play in a match of agents.", allow_abbrev=False)
    parser.add_argument("--env", required=True, help="the match's environment, for example doom_duel")
    parser.add_argument("--match_port", type=int, required=True, help="as the match was started with, or as it says")
    parser.add_argument("--host", default="127.0.0.1", help="the machine of the match (this one)")
    parser.add_argument("--name", default="human", help="your name on the others' screens")
    parser.add_argument("--screen", default="800x600", help="size of the window (800x600)")
    parser.add_argument("--doom_scenarios_dir", help="folder of your own scenarios")
    args = parser.parse_args(argv)
    doom_cfg = DoomConfig(doom_scenarios_dir=args.doom_scenarios_dir)
    try:
        join(args.env, args.match_port, host=args.host, name=args.name, doom_cfg=doom_cfg, screen=args.screen)
    except SfAlgoError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    finally:
        shm.remove_own_segments()
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the engine may still wait for others, and ends now
