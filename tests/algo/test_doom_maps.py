"""Where maps come from: search order, what is said when one is missing, and the download command."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from sf_algo.config import DoomConfig, EnvConfig
from sf_algo.envs.doom import download_scenarios, map_files, maps
from sf_algo.envs.factory import EnvSections, make_env
from sf_algo.errors import EnvError, MissingDependencyError

MAPS = {"one.wad": b"PWAD one", "two.wad": b"PWAD two, longer"}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(maps.SCENARIOS_DIR_VARIABLE, raising=False)
    return tmp_path / "cache" / "sf_algo" / "doom"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with two maps, and the expectations to go with it."""
    path = tmp_path / map_files.WHEEL_NAME
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in MAPS.items():
            archive.writestr(map_files.FOLDER_IN_WHEEL + name, data)
        archive.writestr("sample_factory/__init__.py", "not wanted")
    monkeypatch.setattr(map_files, "MAP_SHA256", {name: digest(data) for name, data in MAPS.items()})
    monkeypatch.setattr(map_files, "WHEEL_SHA256", digest(path.read_bytes()))
    return path


@pytest.fixture
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> Path:
        raise AssertionError("nothing is to be downloaded")

    monkeypatch.setattr(download_scenarios, "download_wheel", refuse)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_cache_honours_xdg_and_ignores_relative_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert maps.cache_dir() == Path("/some/where/sf_algo/doom")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert maps.cache_dir() == Path.home() / ".cache/sf_algo/doom"


@pytest.mark.usefixtures("no_download")
def test_maps_are_taken_from_the_wheel_once(wheel: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert download_scenarios.main([f"--wheel={wheel}"]) == 0
    assert names(cache) == ["one.wad", "two.wad"]
    assert (cache / "two.wad").read_bytes() == MAPS["two.wad"]
    assert "fetched 2 maps" in capsys.readouterr().out
    wheel.unlink()
    assert download_scenarios.main([]) == 0, "all there: no wheel and no connection needed"
    assert "already" in capsys.readouterr().out


def test_an_interrupted_or_damaged_map_is_fetched_again(wheel: Path, cache: Path) -> None:
    download_scenarios.fetch(cache, wheel)
    (cache / "one.wad").write_bytes(b"PWAD o")
    assert download_scenarios.fetch(cache, wheel) == ["one.wad"]
    assert (cache / "one.wad").read_bytes() == MAPS["one.wad"]


def test_another_wheel_is_refused(wheel: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with wheel.open("ab") as file:
        file.write(b"x")
    assert download_scenarios.main([f"--wheel={wheel}"]) == 1
    assert "not the file it should be" in capsys.readouterr().err
    assert names(cache) == []


def test_a_map_of_other_content_is_refused(wheel: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_files, "MAP_SHA256", {"one.wad": digest(MAPS["one.wad"]), "two.wad": "0" * 64})
    with pytest.raises(EnvError, match=r"two\.wad is not the file it should be"):
        download_scenarios.fetch(cache, wheel)
    assert names(cache) == ["one.wad"], "nothing half-written"


@pytest.mark.usefixtures("cache", "wheel")
def test_without_a_connection_one_line_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert download_scenarios.main([f"--dest={tmp_path / 'maps'}"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: pip could not download sample-factory==2.1.1")
    assert "--wheel" in said
    assert said.count("\n") == 1


def test_an_unwritable_folder_is_named(wheel: Path) -> None:
    with pytest.raises(EnvError, match="cannot write maps to /proc/none"):
        download_scenarios.fetch(Path("/proc/none"), wheel)


def test_the_recorded_hashes_look_like_hashes() -> None:
    for value in (map_files.WHEEL_SHA256, *map_files.MAP_SHA256.values()):
        assert len(value) == 64
        int(value, 16)


def test_a_missing_map_names_the_command(cache: Path) -> None:
    pytest.importorskip("vizdoom")
    for name in ("doom_battle", "doom_health_gathering_supreme"):
        with pytest.raises(MissingDependencyError, match=r"python -m sf_algo\.envs\.doom\.download_scenarios"):
            make_env(name, EnvSections())
    make_env("doom_health_gathering", EnvSections())


def test_the_users_folder_comes_first(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vizdoom")
    own = tmp_path / "own"
    own.mkdir()
    cache.mkdir(parents=True)
    assert maps.find_wad("basic.wad", own, is_downloaded=False).parent == maps.vizdoom_dir() / "scenarios"
    (cache / "basic.wad").touch()
    assert maps.find_wad("basic.wad", own, is_downloaded=True) == cache / "basic.wad"
    (own / "basic.wad").touch()
    assert maps.find_wad("basic.wad", own, is_downloaded=True) == own / "basic.wad"
    assert maps.find_cfg("basic.cfg", own) == maps.OWN_SCENARIOS / "basic.cfg"
    (own / "basic.cfg").touch()
    assert maps.find_cfg("basic.cfg", own) == own / "basic.cfg"
    monkeypatch.setenv(maps.SCENARIOS_DIR_VARIABLE, str(own))
    assert maps.user_dir(None) == own


@pytest.mark.parametrize("flag", ["/no/such/folder", None])
def test_a_users_folder_that_is_none_is_named(flag: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(maps.SCENARIOS_DIR_VARIABLE, "/no/such/either")
    with pytest.raises(EnvError, match="is not a folder"):
        make_env("doom_mine", EnvSections(doom=DoomConfig(doom_scenarios_dir=flag)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("available_buttons = { ATTACK }\nno_such_key = 3\n", "does not understand"),
        ("doom_scenario_path = basic.wad\n", "no available_buttons"),
        ("doom_scenario_path = lost.wad\navailable_buttons = { ATTACK }\n", "lost.wad"),
        ("doom_scenario_path = mine.cfg\navailable_buttons = { ATTACK }\n", "not a Doom map"),
    ],
)
def test_a_faulty_scenario_file_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    pytest.importorskip("vizdoom")
    (tmp_path / "mine.cfg").write_text(text)
    sections = EnvSections(doom=DoomConfig(doom_scenarios_dir=str(tmp_path)))
    with pytest.raises((EnvError, MissingDependencyError), match=message):
        make_env("doom_mine", sections)


def test_a_stack_of_frames_is_refused_with_a_remedy() -> None:
    pytest.importorskip("vizdoom")
    with pytest.raises(EnvError, match="--env_framestack"):
        make_env("doom_basic", EnvSections(env=EnvConfig(env_framestack=4)))
