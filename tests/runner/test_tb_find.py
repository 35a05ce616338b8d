"""Which experiments are found under a directory, and which of them masks select."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_runner.basics.errors import UsageError
from sf_runner.board.find import Scan, event_dirs_of, nearest, normalize, scan, select, unmatched


def events(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "events.out.tfevents.1.host.1.0").touch()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two runs of ours, one of a program with plain event files, and things to leave alone."""
    for name in ("00_basic_see_0", "01_basic_see_1"):
        events(tmp_path / "doom_study/basic_" / name / ".summary/0")
    (tmp_path / "doom_study/.runner").mkdir()
    events(tmp_path / "doom_study/battle_v2/00_battle/.summary/0")
    events(tmp_path / "doom_study/battle_v2/00_battle/.summary/1")
    waiting = tmp_path / "atari/pong_/00_pong/job"
    waiting.mkdir(parents=True)
    (waiting / "attempt_1.log").touch()
    (tmp_path / "empty_run/.runner").mkdir(parents=True)
    events(tmp_path / "other/deep/er/PPO_1")
    events(tmp_path / "other/deep/er/PPO_1/hparams")
    events(tmp_path / "doom_study/basic_/00_basic_see_0/checkpoint_p0")
    events(tmp_path / "doom_study/basic_/00_basic_see_0/wandb/run-1")
    events(tmp_path / ".hidden/x")
    (tmp_path / "other/notes").mkdir()
    return tmp_path


def paths(found: Scan, *masks: str) -> list[str]:
    return [experiment.path for experiment in select(found, masks)]


def test_experiments_are_found_at_any_depth(tree: Path) -> None:
    found = {experiment.path: experiment.event_dirs for experiment in scan(tree).experiments}
    assert found == {
        "doom_study/basic_/00_basic_see_0": ("doom_study/basic_/00_basic_see_0/.summary/0",),
        "doom_study/basic_/01_basic_see_1": ("doom_study/basic_/01_basic_see_1/.summary/0",),
        "doom_study/battle_v2/00_battle": (
            "doom_study/battle_v2/00_battle/.summary/0",
            "doom_study/battle_v2/00_battle/.summary/1",
        ),
        "atari/pong_/00_pong": (),
        "other/deep/er/PPO_1": ("other/deep/er/PPO_1",),
        "other/deep/er/PPO_1/hparams": ("other/deep/er/PPO_1/hparams",),
    }


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("doom_study", ["basic_/00_basic_see_0", "basic_/01_basic_see_1", "battle_v2/00_battle"]),
        ("*see_1*", ["basic_/01_basic_see_1"]),
        ("*battle*", ["battle_v2/00_battle"]),
        ("doom*/*see_0", ["basic_/00_basic_see_0"]),
        ("doom_study/basic_", ["basic_/00_basic_see_0", "basic_/01_basic_see_1"]),
        ("0[1-9]_*", ["basic_/01_basic_see_1"]),
        ("doom", []),
        ("*DOOM*", []),
    ],
)
def test_masks_apply_to_paths_and_to_each_folders_name(tree: Path, mask: str, expected: list[str]) -> None:
    assert paths(scan(tree), mask) == [f"doom_study/{path}" for path in expected]


def test_several_masks_select_each_experiment_once(tree: Path) -> None:
    assert paths(scan(tree), "*pong*", "*PPO*", "atari") == [
        "atari/pong_/00_pong",
        "other/deep/er/PPO_1",
        "other/deep/er/PPO_1/hparams",
    ]


def test_names_with_wildcard_characters_select_themselves(tmp_path: Path) -> None:
    events(tmp_path / "run/a[1]/.summary/0")
    events(tmp_path / "run/a1/.summary/0")
    assert paths(scan(tmp_path), "a[1]") == ["run/a1", "run/a[1]"]


def test_masks_may_be_paths_that_a_shell_completed(tree: Path) -> None:
    for typed in ("doom_study/", f"{tree}/doom_study/", "./doom_study"):
        assert normalize(typed, tree) == "doom_study"
    assert normalize("train_dir/doom_study/", Path("./train_dir")) == "doom_study"
    assert normalize("./train_dir/x", Path("./train_dir")) == "x"
    assert normalize("*see_0*", tree) == "*see_0*"


def test_a_mask_that_selects_a_run_without_experiments_is_no_mistake(tree: Path) -> None:
    found = scan(tree)
    assert unmatched(found, ["empty_run", "*nothing*", "*pong*"]) == ["*nothing*"]
    assert paths(found, "empty_run") == []


@pytest.mark.parametrize(
    ("mask", "hint"),
    [
        ("*doom_stdy*", " Did you mean 'doom_study'?"),
        ("*BASIC*", " Did you mean 'doom_study/basic_'?"),
        ("00_basic_se_0", " Did you mean '00_basic_see_0'?"),
    ],
)
def test_the_nearest_name_is_told(tree: Path, mask: str, hint: str) -> None:
    assert nearest(scan(tree), mask) == hint


def test_symlinks_are_followed_but_not_in_circles(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    events(elsewhere / "run_b/e/.summary/0")
    (tree / "linked").symlink_to(elsewhere)
    (tree / "doom_study/basic_/loop").symlink_to(tree)
    found = scan(tree)
    assert paths(found, "linked") == ["linked/run_b/e"]
    assert len(found.experiments) == 7


def test_an_experiment_reached_twice_is_shown_once(tree: Path) -> None:
    (tree / "a_latest").symlink_to(tree / "doom_study")
    found = scan(tree)
    assert len(paths(found, "a_latest")) == 3
    assert paths(found, "a_latest", "doom_study") == paths(found, "doom_study")


def test_our_own_temporary_directories_are_not_shown(tmp_path: Path) -> None:
    events(tmp_path / "sf_runner_tb_abc/runs/x")
    assert scan(tmp_path).experiments == ()


def test_event_folders_of_one_experiment(tree: Path) -> None:
    experiment = tree / "doom_study/battle_v2/00_battle"
    assert [str(p.relative_to(experiment)) for p in event_dirs_of(experiment)] == [".summary/0", ".summary/1"]
    assert event_dirs_of(tree / "atari/pong_/00_pong") == []


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--dir=.*absent is not a directory"):
        scan(tmp_path / "absent")
