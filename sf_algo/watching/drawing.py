"""Drawing environments while their policy is watched: what it needs, and one line where it cannot be had."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from sf_algo.config import Config
from sf_algo.config.env_family import EnvFamily, family_of
from sf_algo.errors import EnvError, SfAlgoError


def prepare_drawing(config: Config) -> None:
    """Looks whether a window can be opened where one is wanted; lets libraries draw without one otherwise.

    Raises EnvError where there is no display. An environment of the user's own may draw anywhere.
    """
    evaluation, env = config.evaluation, config.run.env
    has_display = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if evaluation.save_video:
        # pygame complains of a missing XDG_RUNTIME_DIR unless it is told that no window is wanted.
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        if not has_display:
            os.environ.setdefault("MUJOCO_GL", "egl")
    elif not evaluation.no_render and not has_display and config.env_family is not EnvFamily.CUSTOM:
        raise EnvError(f"there is no display to show {env} on; add --no_render or --save_video")


@contextmanager
def drawing(env: str | None) -> Iterator[None]:
    """Around code of an environment that draws: what goes wrong there becomes an EnvError of one line."""
    try:
        yield
    except SfAlgoError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        what = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        if family_of(env) is EnvFamily.MUJOCO:
            remedy = f"MuJoCo draws through MUJOCO_GL={os.environ.get('MUJOCO_GL', 'glfw')}; try egl, osmesa or glfw"
        else:
            remedy = "check that it can draw here"
        raise EnvError(f"{env} cannot be drawn ({what}); {remedy}, or use --no_render without --save_video") from error
