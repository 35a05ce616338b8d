"""Descriptions: what becomes an argument, and that those of Sample Factory give the same commands."""

# Wrong types are given on purpose.
# mypy: disable-error-code="arg-type, list-item, dict-item"

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_runner import Experiment, ParamGrid, ParamList, Resources, RunDescription
from sf_runner.basics.errors import DescriptionError
from sf_runner.describe.command import runtime_argv, split_command
from sf_runner.launcher.run_description import RunDescription as RunDescription2

CMD = "python -m a.b --algo=APPO"


def study() -> list[Experiment]:
    grid = ParamGrid([("seed", [7, 8]), ("lr", [0.1])])
    return [
        Experiment("basic", CMD, grid.generate_params(randomize=False), {"OMP_NUM_THREADS": 1}),
        Experiment("plain", "./run.sh", []),
    ]


def commands(description: RunDescription, suffix: str = "") -> list[tuple[object, ...]]:
    description.experiment_suffix = suffix
    return list(description.generate_experiments("./train_dir", makedirs=False))


def test_the_1x_form_as_observed_from_sample_factory_1_123() -> None:
    roots = "--train_dir=./train_dir --experiments_root=study"
    env = {"OMP_NUM_THREADS": 1}
    assert commands(RunDescription("study", study()), "v2") == [
        (
            f"{CMD} --seed=7 --lr=0.1 --experiment=00_basic_see_7_lr_0.1 {roots}/basic_v2",
            "00_basic_see_7_lr_0.1",
            "study/basic_v2",
            env,
        ),
        (
            f"{CMD} --seed=8 --lr=0.1 --experiment=01_basic_see_8_lr_0.1 {roots}/basic_v2",
            "01_basic_see_8_lr_0.1",
            "study/basic_v2",
            env,
        ),
        (f"./run.sh --experiment=00_plain {roots}/plain_v2", "00_plain", "study/plain_v2", None),
    ]


def test_without_the_1x_form_there_is_one_directory_argument() -> None:
    description = RunDescription("study", study(), False, "--experiment", "--dir")
    assert [row[0] for row in commands(description)] == [
        f"{CMD} --seed=7 --lr=0.1 --experiment=00_basic_see_7_lr_0.1 --dir=./train_dir/study/basic_",
        f"{CMD} --seed=8 --lr=0.1 --experiment=01_basic_see_8_lr_0.1 --dir=./train_dir/study/basic_",
        "./run.sh --experiment=00_plain --dir=./train_dir/study/plain_",
    ]


def test_the_2x_form_as_observed_from_sample_factory_2_1_1() -> None:
    assert commands(RunDescription2("study", study()))[0] == (
        f"{CMD} --seed=7 --lr=0.1 --experiment=00_basic_see_7_lr_0.1 --train_dir=./train_dir/study/basic_",
        "00_basic_see_7_lr_0.1",
        "study/basic_",
        {"OMP_NUM_THREADS": 1},
    )
    hydra = RunDescription2("study", study(), "hydra.job.name", "hydra.run.dir", False, "")
    assert [row[0] for row in commands(hydra)] == [
        f"{CMD} seed=7 lr=0.1 hydra.job.name=00_basic hydra.run.dir=./train_dir/study/basic_",
        f"{CMD} seed=8 lr=0.1 hydra.job.name=01_basic hydra.run.dir=./train_dir/study/basic_",
        "./run.sh hydra.job.name=00_plain hydra.run.dir=./train_dir/study/plain_",
    ]


def test_arguments_that_a_program_does_not_know_can_be_left_out() -> None:
    description = RunDescription("study", study(), False, None, None)
    assert [row[0] for row in commands(description)] == [
        f"{CMD} --seed=7 --lr=0.1",
        f"{CMD} --seed=8 --lr=0.1",
        "./run.sh",
    ]


def test_an_experiment_alone_gives_commands_and_names() -> None:
    assert next(study()[0].generate_experiments("--name", True, "-")) == (
        f"{CMD} -seed=7 -lr=0.1 --name=00_basic_see_7_lr_0.1",
        "00_basic_see_7_lr_0.1",
    )


def test_directories_are_made_where_the_program_expects_them(tmp_path: Path) -> None:
    list(RunDescription("one", study()).generate_experiments(str(tmp_path)))
    list(RunDescription("two", study(), False).generate_experiments(str(tmp_path), makedirs=False))
    assert list(tmp_path.iterdir()) == []
    list(RunDescription("two", study(), False).generate_experiments(str(tmp_path)))
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == ["basic_", "plain_"]


def test_a_generator_that_can_be_read_once_is_expanded_again_and_again() -> None:
    description = RunDescription("r", [Experiment("a", "true", ({"x": i} for i in range(3)))])
    first = commands(description)
    assert len(first) == 3
    assert commands(description) == first


def test_legacy_keywords_become_defaults() -> None:
    description = RunDescription(
        "r", study(), use_gpus=2, experiments_per_gpu=3, max_parallel=12, pause_between_experiments=0.5
    )
    defaults = description.defaults
    assert (defaults.num_gpus, defaults.experiments_per_gpu) == (2, 3)
    assert (defaults.max_parallel, defaults.pause_between_s) == (12, 0.5)
    assert RunDescription("r", study()).defaults.max_parallel is None


HOSTILE = ["two words", "it's", 'say "hi"', "$HOME", "`id`", "a;b", "*", "~", "\\", "", "naïve", "a\nb", "-x", "#", "!"]


def test_hostile_values_reach_a_real_program_unchanged() -> None:
    grid = ParamGrid([("p", [*HOSTILE, None, 0.1, {"a": "b c"}])])
    cmd = ["python", "-c", "import json, sys; print(json.dumps(sys.argv[1:]))", "first arg"]
    for expansion in Experiment("e", cmd, grid).expand("--experiment", True, "--"):
        argv = runtime_argv(expansion.argv)
        assert argv[0] == sys.executable
        shown = subprocess.run(argv, capture_output=True, check=True, text=True).stdout
        expected = ["first arg", f"--p={expansion.params['p']}", f"--experiment={expansion.name}"]
        assert json.loads(shown) == expected
        assert shlex.split(shlex.join(expansion.argv)) == list(expansion.argv)


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
"""Any text that an argument can hold."""


@given(st.dictionaries(TEXT.filter(bool), TEXT | st.integers() | st.floats() | st.none(), max_size=4))
def test_arguments_survive_the_shell_line(params: dict[str, object]) -> None:
    experiment = Experiment("e", "prog 'a b'", [params])
    ((line, name),) = experiment.generate_experiments("--experiment", True, "--")
    (expansion,) = experiment.expand("--experiment", True, "--")
    given_arguments = [f"--{key}={value}" for key, value in params.items()]
    assert list(expansion.argv) == ["prog", "a b", *given_arguments, f"--experiment={name}"]
    assert shlex.split(line) == list(expansion.argv)


@pytest.mark.parametrize(
    ("cmd", "argv"),
    [
        ("python  -m a   --x=1 ", ("python", "-m", "a", "--x=1")),
        ("a --x='two words' \"y z\"", ("a", "--x=two words", "y z")),
        ("a \\\n  --x=1 \\\r\n  --y", ("a", "--x=1", "--y")),
        ("a 'keep \\\nthis'", ("a", "keep \\\nthis")),
        ("a\n  --x=1\n", ("a", "--x=1")),
        ("a --glob=* $HOME ~ '|' \"a && b\" x|y", ("a", "--glob=*", "$HOME", "~", "|", "a && b", "x|y")),
        ("a # no comment", ("a", "#", "no", "comment")),
        (["a b", "", "$c"], ("a b", "", "$c")),
        ((Path("/bin/x"), "y"), ("/bin/x", "y")),
    ],
)
def test_splitting_a_command(cmd: str | list[str], argv: tuple[str, ...]) -> None:
    assert split_command(cmd) == argv


def test_only_a_leading_python_is_replaced() -> None:
    assert runtime_argv(["python3", "-m", "python"], "/opt/python") == ["/opt/python", "-m", "python"]
    assert runtime_argv(("python3.9", "x")) == ["python3.9", "x"]
    assert runtime_argv(("./python", "x")) == ["./python", "x"]


def endless() -> Iterator[dict[str, object]]:
    while True:
        yield {"x": 1}


def read() -> Iterator[dict[str, object]]:
    params = ParamGrid([("x", [1])]).generate_params()
    list(params)
    return params


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Experiment("e", ""), "Experiment 'e': cmd is empty"),
        (lambda: Experiment("e", "a 'b"), "Experiment 'e': cmd cannot be split"),
        (lambda: Experiment("e", "a && b"), "shell operator '&&'"),
        (lambda: Experiment("e", "a > log.txt"), "shell operator '>'"),
        (lambda: Experiment("e", "A=1 python b"), r"starts with 'A=1'; .* env_vars"),
        (lambda: Experiment("e", 3), "cmd must be text or a list of texts, not int"),
        (lambda: Experiment("e", ["a", 3]), "cmd must be text or a list of texts"),
        (lambda: Experiment("e", "a\0b"), "NUL"),
        (lambda: Experiment("", "a"), "name must be"),
        (lambda: Experiment("e", "a", 3), "param_generator must be an iterable of dicts"),
        (lambda: Experiment("e", "a", {"seed": 1}), "param_generator must be an iterable of dicts"),
        (lambda: Experiment("e", "a", [1]), "combination 0 must be a dict"),
        (lambda: Experiment("e", "a", [{}, {2: 1}]), "combination 1: a parameter's name must be text, got 2"),
        (lambda: Experiment("e", "a", read()), "gives no combinations; was it read before"),
        (lambda: Experiment("e", "a", env_vars=["A=1"]), "env_vars must be a dict"),
        (lambda: Experiment("e", "a", env_vars={"A=B": 1}), "is no name of an environment variable"),
        (lambda: Experiment("e", "a", env_vars={"A": "\0"}), "NUL"),
        (lambda: Experiment("e", "a", resources={"gpus": 1}), "resources must be a Resources"),
        (lambda: Resources(gpus=-1), "gpus must be a whole number of at least 0, got -1"),
        (lambda: Resources(cpus=0), "cpus must be"),
        (lambda: Resources(gpu_memory_mb=1.5), "gpu_memory_mb must be"),
        (lambda: Resources(timeout_s=0), "timeout_s must be a positive"),
        (lambda: RunDescription("", study()), "run_name must be"),
        (lambda: RunDescription("a/b", study()), "must not contain '/'"),
        (lambda: RunDescription("..", study()), "start with '.'"),
        (lambda: RunDescription("a\nb", study()), "line breaks"),
        (lambda: RunDescription("x" * 201, study()), "more than 200 bytes"),
        (lambda: RunDescription("r", []), "no experiments"),
        (lambda: RunDescription("r", ["a"]), "must hold Experiments, got 'a'"),
        (lambda: RunDescription("r", 3), "experiments must be a list"),
        (lambda: RunDescription("r", study(), "--experiment"), "experiment_dirs_sf_format must be True or False"),
        (lambda: RunDescription("r", study(), max_parallel=0), "max_parallel must be a number of at least 1"),
        (lambda: RunDescription("r", study(), use_gpus="2"), "use_gpus must be a number"),
        (lambda: RunDescription("r", study(), pause_between_experiments="2"), "pause_between_experiments must be"),
    ],
)
def test_faults_are_told_when_the_description_is_made(make: object, message: str) -> None:
    with pytest.raises(DescriptionError, match=message) as caught:
        make()  # type: ignore[operator]
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_endless_generator_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sf_runner.describe.description._MAX_COMBINATIONS", 1000)
    with pytest.raises(DescriptionError, match="more than 1,000 combinations; does it ever end"):
        Experiment("e", "a", endless())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"x", "bytes cannot become an argument"),
        (object(), "has no stable text"),
        ([lambda: None], "has no stable text"),
        ("a\0", "NUL"),
        ("\ud800", "not valid Unicode"),
        ("x" * 200_000, "200004 bytes long; an argument can have 131071"),
    ],
)
def test_values_that_cannot_be_arguments_are_told(value: object, message: str) -> None:
    description = RunDescription("r", [Experiment("e", "a", ParamList([{"p": value}]))])
    with pytest.raises(DescriptionError, match=f"Experiment 'e': .*{message}"):
        commands(description)


@pytest.mark.parametrize(
    "module",
    ["sf_runner", "sf_runner.run_description", "sf_runner.launcher.run_description", "sf_runner.describe.plan"],
)
def test_importing_a_description_is_cheap(module: str) -> None:
    code = (
        f"import sys, {module}; from sf_runner import Experiment, RunDescription, ParamGrid, seeds\n"
        "print(sorted({'torch', 'numpy', 'rich', 'pynvml', 'sf_algo'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert shown.stdout.strip() == "[]"
