"""`python -m sf_algo.envs.doom.join_match --env=doom_duel --match_port=5029`: play against a trained policy.

The match waits for people where it was started with `--num_humans`, by `enjoy_appo` as a rule. A window opens; keys are
the engine's: W A S D, arrows, the mouse or Ctrl to fire, 1-7 for weapons, E or space to open. The game runs at its own
35 frames per second, and the agents keep up with it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from sf_algo.config import DoomConfig
from sf_algo.envs.doom import launcher, maps, start_lock
from sf_algo.envs.doom.make import scenario_of
from sf_algo.errors import EnvError, SfAlgoError

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


def join(env: str, port: int, *, host: str, name: str, doom_cfg: DoomConfig, screen: str) -> None:
    """Plays until the match is over, the window is closed or Ctrl-C. Raises EnvError where it cannot begin."""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise EnvError("there is no display to play on; run this where you sit, with --host=<address of the match>")
    game = _game(env, doom_cfg, screen)
    import vizdoom

    game.add_game_args(f"-join {host} -port {port} +name {name} +use_mouse 1")
    with launcher.guarded(maps.vizdoom_dir() / "vizdoom", working_dir=start_lock.scratch_dir(), silent=True) as path:
        game.set_vizdoom_path(path)
        print(f"joining the match at {host}:{port}", flush=True)
        game.init()
    for key, command in _KEYS.items():
        game.send_game_command(f"bind {key} {command}")
    try:
        _play(game)
    except (vizdoom.ViZDoomUnexpectedExitException, vizdoom.ViZDoomErrorException):
        pass  # the window was closed
    finally:
        game.close()
    print("the match is over")


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
    game.set_screen_resolution(getattr(vizdoom.ScreenResolution, f"RES_{screen.upper()}"))
    game.set_window_visible(True)
    game.set_render_all_frames(True)
    game.set_mode(vizdoom.Mode.ASYNC_SPECTATOR)
    game.set_episode_timeout(0)
    game.set_doom_config_path(os.devnull)
    return game


def _play(game: Any) -> None:
    """Follows the game, which goes on by itself, match after match, until nobody else is left."""
    others_seen = False
    while True:
        game.advance_action()
        if game.is_episode_finished():
            game.new_episode()  # leaves the score that is shown between two matches
        players = sum(game.get_server_state().players_in_game)
        others_seen |= players > 1
        if others_seen and players < 2:
            return


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
    return 0


if __name__ == "__main__":
    sys.exit(main())
