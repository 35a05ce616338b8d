"""The symlinks that tensorboard is shown: names, changes, temporary directories."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_runner.board.find import FoundExperiment, scan
from sf_runner.board.link_tree import LinkTree, Workspace, event_dirs, sweep, unique_name, wanted_name
from tests.runner.test_tb_find import events


def experiment(path: str, *dirs: str) -> FoundExperiment:
    return FoundExperiment(path=path, event_dirs=dirs)


@pytest.mark.parametrize(
    ("path", "event_dir", "name"),
    [
        ("study/basic_/00_basic_see_0", ".summary/0", "study/00_basic_see_0"),
        ("study/basic_/00_basic", ".summary/0", "study/00_basic"),
        ("study/basic_v2/00_basic_see_0", ".summary/0", "study/basic_v2/00_basic_see_0"),
        ("study/basic_/other", ".summary/0", "study/basic_/other"),
        ("study/basic_/00_basic_see_0", ".summary/3", "study/00_basic_see_0_p3"),
        ("study/x", ".summary", "study/x"),
        ("study/x", "", "study/x"),
        ("study/x", "logs/PPO_1", "study/x/logs/PPO_1"),
    ],
)
def test_names_leave_out_what_says_nothing(path: str, event_dir: str, name: str) -> None:
    folder = f"{path}/{event_dir}".rstrip("/")
    assert wanted_name(folder, experiment(path, folder)) == name


def test_a_name_in_use_gives_way_to_the_full_path_then_to_a_number() -> None:
    assert unique_name(["a/b", "a/x/b"], ["a/b"]) == "a/x/b"
    assert unique_name(["a/b", "a/x/b"], ["a/b", "a/x/b"]) == "a~x~b"
    assert unique_name(["a"], ["a"]) == "a~2"
    assert unique_name(["a"], ["a", "a~2"]) == "a~3"


def test_no_name_is_inside_another_one() -> None:
    assert unique_name(["a/b"], ["a"]) == "a~b"
    assert unique_name(["a"], ["a/b"]) == "a~2"


_names = st.lists(st.sampled_from(["a", "b", "a~b", "ä", "x" * 200]), min_size=1, max_size=3).map("/".join)


@settings(max_examples=50, deadline=None)
@given(st.lists(_names, max_size=8))
def test_any_names_become_links_side_by_side(wanted: list[str]) -> None:
    taken: list[str] = []
    for name in wanted:
        taken.append(unique_name([name], taken))
    assert len(set(taken)) == len(taken)
    assert not any(other.startswith(f"{name}/") for name in taken for other in taken)
    assert all(len(part.encode()) <= 255 for name in taken for part in name.split("/"))


def test_folders_inside_a_linked_one_need_no_link() -> None:
    inner = experiment("r/x/hparams", "r/x/hparams")
    outer = experiment("r/x", "r/x")
    sibling = experiment("r/x-2", "r/x-2")
    assert list(event_dirs([inner, sibling, outer])) == ["r/x", "r/x-2"]


def links(farm_dir: Path) -> dict[str, Path]:
    return {
        str(path.relative_to(farm_dir)): path.readlink() for path in sorted(farm_dir.rglob("*")) if path.is_symlink()
    }


def test_the_farm_follows_what_is_selected(tmp_path: Path) -> None:
    root, farm_dir = tmp_path / "td", tmp_path / "tree"
    farm_dir.mkdir()
    events(root / "one/b_/00_b_x: 1, y/.summary/0")
    events(root / "two/e/.summary/0")
    tree = LinkTree(farm_dir, root)
    assert tree.sync(scan(root).experiments).added == ("one/00_b_x: 1, y", "two/e")
    assert links(farm_dir) == {
        "one/00_b_x: 1, y": root / "one/b_/00_b_x: 1, y/.summary/0",
        "two/e": root / "two/e/.summary/0",
    }
    events(root / "two/new/.summary/0")
    (root / "two/e/.summary/0/events.out.tfevents.1.host.1.0").unlink()
    change = tree.sync(scan(root).experiments)
    assert (change.added, change.removed) == (("two/new",), ("two/e",))
    assert sorted(links(farm_dir)) == ["one/00_b_x: 1, y", "two/new"]
    assert tree.sync(scan(root).experiments).added == ()
    assert tree.sync([]).removed == ("one/00_b_x: 1, y", "two/new")
    assert list(farm_dir.iterdir()) == []


def test_a_single_runs_name_is_left_out_until_another_run_comes(tmp_path: Path) -> None:
    root, farm_dir = tmp_path / "td", tmp_path / "tree"
    farm_dir.mkdir()
    tree = LinkTree(farm_dir, root)
    assert tree.sync([]).added == ()
    events(root / "one/a/.summary/0")
    assert tree.sync(scan(root).experiments).added == ("a",)
    events(root / "two/a/.summary/0")
    events(root / "one/b/.summary/0")
    assert tree.sync(scan(root).experiments).added == ("b", "two/a")


def test_a_workspace_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    target = tmp_path / "target"
    events(target)
    with Workspace() as workspace:
        (workspace.runs / "x").symlink_to(target)
        assert sweep() == 0, "one in use is left alone"
        assert workspace.runs.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert list(target.iterdir()), "what links point to is left alone"


def test_workspaces_of_killed_processes_are_swept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "from sf_runner.board.link_tree import Workspace; import os; w = Workspace(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)})
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / "sf_runner_tb_foreign").mkdir()
    assert sweep() == 1
    assert [path.name for path in tmp_path.iterdir()] == ["sf_runner_tb_foreign"], "without our lock it is not ours"
