"""Finding RUN_DESCRIPTION by a module's name or a file's path, and one clear line when that fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sf_runner.basics.errors import DescriptionError, SfRunnerError, UsageError
from sf_runner.describe.loading import load_description
from sf_runner.describe.plan import make_plan

GOOD = """
from sf_runner import Experiment, RunDescription
RUN_DESCRIPTION = RunDescription("{name}", [Experiment("e", "true")])
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current directory of its own; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def failure(run: str) -> SfRunnerError:
    with pytest.raises(SfRunnerError) as caught:
        load_description(run)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return caught.value


@pytest.mark.parametrize("run", ["studies.doom_basic", "studies/doom_basic.py", "./studies/doom_basic.py"])
def test_a_module_or_a_path(project: Path, run: str) -> None:
    write(project / "studies/doom_basic.py", GOOD.format(name="doom"))
    assert load_description(run).run_name == "doom"


def test_an_absolute_path_with_a_name_no_module_could_have(project: Path) -> None:
    path = write(project / "elsewhere/10-seeds v2.py", GOOD.format(name="ten"))
    assert load_description(str(path)).run_name == "ten"


def test_a_file_sees_its_neighbours_and_a_package_its_relatives(project: Path) -> None:
    write(project / "flat/common.py", "NAME = 'flat'\n")
    write(project / "flat/study.py", "from common import NAME\n" + GOOD.replace('"{name}"', "NAME"))
    assert load_description("flat/study.py").run_name == "flat"
    write(project / "pkg/__init__.py", "")
    write(project / "pkg/sub/__init__.py", "")
    write(project / "pkg/base.py", "NAME = 'packaged'\n")
    write(project / "pkg/sub/study.py", "from ..base import NAME\n" + GOOD.replace('"{name}"', "NAME"))
    assert load_description("pkg/sub/study.py").run_name == "packaged"
    assert load_description("pkg.sub.study").run_name == "packaged"


def test_a_changed_file_is_read_again(project: Path) -> None:
    path = write(project / "study.py", GOOD.format(name="before"))
    assert load_description("study.py").run_name == "before"
    write(path, GOOD.format(name="after"))
    assert load_description("study.py").run_name == "after"


def test_a_missing_module_gets_the_nearest_one(project: Path) -> None:
    write(project / "studies/__init__.py", "")
    write(project / "studies/doom_basic.py", GOOD.format(name="doom"))
    error = failure("studies.doom_basik")
    assert isinstance(error, UsageError)
    assert f"no module 'studies.doom_basik' (searched from {project}). Did you mean 'doom_basic'?" in str(error)
    assert "Did you mean 'studies'?" in str(failure("studeis.doom_basic"))


def test_a_missing_file_gets_the_nearest_one(project: Path) -> None:
    write(project / "studies/doom_basic.py", GOOD.format(name="doom"))
    assert "Did you mean 'doom_basic.py'?" in str(failure("studies/doom_basc.py"))
    assert "Did you mean 'studies/doom_basic.py'?" in str(failure("studies/doom_basic"))
    assert "Did you mean the module 'studies.doom_basic'?" in str(failure("studies.doom_basic.py"))
    assert "There is no directory" in str(failure("nowhere/doom_basic.py"))


@pytest.mark.parametrize("run", ["", "a b", "a-b", ".", "--num_gpus"])
def test_what_can_be_neither_module_nor_file(project: Path, run: str) -> None:
    assert isinstance(failure(run), UsageError)


def test_an_import_that_fails_inside_shows_the_users_line(project: Path) -> None:
    write(project / "study.py", "import os\nimport no_such_package.thing\n")
    for run in ("study", "study.py"):
        error = failure(run)
        assert isinstance(error, DescriptionError)
        assert str(error) == (
            f"--run={run}: study.py:2: ModuleNotFoundError: No module named 'no_such_package' "
            "[import no_such_package.thing]"
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = [\n  1 / 0,\n]\n", "study.py:2: ZeroDivisionError: division by zero [1 / 0,]"),
        ("def f(:\n", "study.py:1: SyntaxError: invalid syntax"),
        ("import argparse\nargparse.ArgumentParser().error('no')\n", "study.py:2: SystemExit: 2 [argparse.Arg"),
        ("import sys\nsys.exit('stop')\n", "study.py:2: SystemExit: stop [sys.exit('stop')]"),
        ("raise ValueError('two\\nlines')\n", "study.py:1: ValueError: two lines [raise ValueError("),
        (
            "from sf_runner import ParamGrid\n\nParamGrid([('seed', [])])\n",
            "study.py:3: ParamGrid: parameter 'seed' has no values [ParamGrid([('seed', [])])]",
        ),
        ("from sf_runner import Experimnt\n", "study.py:1: ImportError: cannot import name 'Experimnt'"),
        ("x = 1\n", "study.py defines no RUN_DESCRIPTION. Add RUN_DESCRIPTION = RunDescription("),
        (
            GOOD.replace("RUN_DESCRIPTION", "RUN").format(name="n"),
            "study.py defines no RUN_DESCRIPTION. It holds 'RUN': call that RUN_DESCRIPTION.",
        ),
        ("RUN_DESCRIPTION = 3\n", "RUN_DESCRIPTION in study.py must be a RunDescription, not int"),
    ],
)
@pytest.mark.parametrize("run", ["study", "study.py"])
def test_a_module_that_holds_no_description(project: Path, run: str, text: str, message: str) -> None:
    write(project / "study.py", text)
    error = failure(run)
    assert isinstance(error, DescriptionError)
    assert str(error).startswith(f"--run={run}: ")
    assert message in str(error)


def test_a_description_of_sample_factorys_own_class_names_the_remedy(project: Path) -> None:
    write(project / "sample_factory/launcher/run_description.py", "class RunDescription: pass\n")
    write(
        project / "study.py",
        "from sample_factory.launcher.run_description import RunDescription\nRUN_DESCRIPTION = RunDescription()\n",
    )
    assert "in study.py change 'from sample_factory.launcher.run_description import' to 'from sf_runner import'" in str(
        failure("study")
    )


def test_the_tests_own_modules_are_left_alone(project: Path) -> None:
    write(project / "json.py", GOOD.format(name="shadow"))
    json = sys.modules["json"]
    assert load_description("json.py").run_name == "shadow"
    assert sys.modules["json"] is json


OLD_STYLE = """
from {module} import Experiment, ParamGrid, RunDescription
{seeds_import}
version = 7
_common = ParamGrid([
    ('seed', {seeds}),
    ('env', ['maze_small', 'maze_large']),
])

_experiments = [
    Experiment(
        'maze_fs4',
        'python -m mytrainer.train --train_for_env_steps=1000 --algo=APPO --env_frameskip=4 --wandb_tags a b',
        _common.generate_params(randomize=False),
    ),
    Experiment('maze_base', 'python -m mytrainer.train', []),
]

RUN_DESCRIPTION = RunDescription(f'maze_v{{version}}', {arguments})
"""


@pytest.mark.parametrize(
    ("module", "arguments", "directories"),
    [
        ("sf_runner", "experiments=_experiments", ["--train_dir=td", "--experiments_root=maze_v7/maze_fs4_"]),
        (
            "sf_runner.run_description",
            "experiments=_experiments, use_gpus=2, experiments_per_gpu=2, max_parallel=4, pause_between_experiments=10",
            ["--train_dir=td", "--experiments_root=maze_v7/maze_fs4_"],
        ),
        ("sf_runner.runner.run_description", "_experiments, False", ["--train_dir=td/maze_v7/maze_fs4_"]),
        ("sf_runner.launcher.run_description", "experiments=_experiments", ["--train_dir=td/maze_v7/maze_fs4_"]),
        (
            "sf_runner.launcher.run_description",
            "_experiments, '--name', '--dir', False",
            ["--dir=td/maze_v7/maze_fs4_"],
        ),
    ],
)
def test_descriptions_in_the_old_shape_load_after_changing_the_import(
    project: Path, module: str, arguments: str, directories: list[str]
) -> None:
    text = OLD_STYLE.format(module=module, arguments=arguments, seeds="[00, 1111]", seeds_import="")
    write(project / "study.py", text)
    plan = make_plan(load_description("study"), "td")
    assert len(plan.jobs) == 5
    job = plan.jobs[3]
    name = "03_maze_fs4" if "--name" in arguments else "03_maze_fs4_see_1111_env_maze_large"
    assert job.job_id == f"maze_fs4_/{name}"
    name_argument = "--name" if "--name" in arguments else "--experiment"
    assert list(job.argv) == [
        "python",
        "-m",
        "mytrainer.train",
        "--train_for_env_steps=1000",
        "--algo=APPO",
        "--env_frameskip=4",
        "--wandb_tags",
        "a",
        "b",
        "--seed=1111",
        "--env=maze_large",
        f"{name_argument}={name}",
        *directories,
    ]
    assert plan.jobs[4].job_id == "maze_base_/00_maze_base"


def test_the_seeds_helper_of_2x_descriptions_is_found(project: Path) -> None:
    text = OLD_STYLE.format(
        module="sf_runner.launcher.run_description",
        seeds_import="from sf_runner.launcher.launcher_utils import seeds",
        seeds="seeds(3)",
        arguments="experiments=_experiments",
    )
    write(project / "study.py", text)
    assert len(make_plan(load_description("study"), "td").jobs) == 7


def test_the_example_of_the_project_loads() -> None:
    plan = make_plan(load_description("run_descriptions.example_grid"), "train_dir")
    assert len(plan.jobs) == 12
    assert plan.jobs[0].argv[-1] == "--train_dir=train_dir/example_grid/cliff_walk_"
