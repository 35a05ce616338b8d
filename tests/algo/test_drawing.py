"""Watching needs a display, or something that draws without one; otherwise one line says so."""

from __future__ import annotations

import os

import pytest

from sf_algo.config import Config
from sf_algo.config.resolve import parse_args
from sf_algo.errors import ConfigError, EnvError
from sf_algo.watching.drawing import drawing, prepare_drawing


@pytest.fixture(autouse=True)
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("SDL_VIDEODRIVER", "MUJOCO_GL"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


def watching(env: str, *flags: str) -> Config:
    return parse_args([f"--env={env}", *flags]).config


@pytest.mark.parametrize("env", ["CartPole-v1", "atari_pong", "mujoco_hopper", "doom_basic"])
def test_a_window_needs_a_display(env: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvError, match=f"no display to show {env} on; add --no_render or --save_video"):
        prepare_drawing(watching(env))
    prepare_drawing(watching(env, "--no_render"))
    monkeypatch.setenv("DISPLAY", ":0")
    prepare_drawing(watching(env))


def test_an_environment_of_ones_own_may_draw_without_a_display() -> None:
    prepare_drawing(watching("my_env:make_env"))


def test_videos_are_drawn_without_a_display() -> None:
    prepare_drawing(watching("mujoco_hopper", "--save_video"))
    assert (os.environ["SDL_VIDEODRIVER"], os.environ["MUJOCO_GL"]) == ("dummy", "egl")


def test_what_the_user_chose_to_draw_with_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    prepare_drawing(watching("mujoco_hopper", "--save_video"))
    assert os.environ["MUJOCO_GL"] == "osmesa"


def test_a_failure_to_draw_is_one_line() -> None:
    with pytest.raises(EnvError) as caught, drawing("mujoco_hopper"):
        raise RuntimeError("no OpenGL\nat all")
    assert "\n" not in str(caught.value)
    assert "mujoco_hopper cannot be drawn (RuntimeError: no OpenGL)" in str(caught.value)
    assert "MUJOCO_GL" in str(caught.value)


def test_errors_that_are_clear_already_come_through() -> None:
    with pytest.raises(ConfigError, match="clear"), drawing("CartPole-v1"):
        raise ConfigError("clear")
