"""The flags of the run command: values, faults and help."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import pytest

from sf_runner import cancel, logs, run, status
from sf_runner.basics.errors import UsageError
from sf_runner.cli.options import parse
from sf_runner.cli.parser import boolean, device_list, duration_s, memory_mb, whole
from tests.runner.golden import assert_golden


def test_what_is_not_given_is_left_to_the_description_or_the_runner() -> None:
    options = parse(["--run=my.module"])
    assert (options.run, options.backend, options.train_dir, options.ui) == (
        "my.module",
        "processes",
        "./train_dir",
        "auto",
    )
    assert (options.max_parallel, options.pause_between, options.num_gpus, options.gpus) == (None, None, None, None)
    assert (options.max_retries, options.max_failures, options.changed, options.order) == (
        0,
        None,
        "refuse",
        "submission",
    )
    assert (options.retry_delay, options.grace, options.timeout) == (5.0, 30.0, None)
    assert options.retry == ()
    assert not options.dry_run


def test_the_predecessors_command_line() -> None:
    line = (
        "--run=myproject.train_10_seeds --runner=processes --max_parallel=12 --pause_between=10 --experiments_per_gpu=3"
    )
    options = parse([*line.split(), "--num_gpus=4", "--train_dir", "./results"])
    assert (options.max_parallel, options.pause_between) == (12, 10.0)
    assert (options.experiments_per_gpu, options.num_gpus, options.train_dir) == (3, 4, "./results")
    assert parse(["--run=x", "--backend=slurm"]).backend == parse(["--run=x", "--runner=slurm"]).backend == "slurm"


@pytest.mark.parametrize(
    ("argv", "on"),
    [
        ([], False),
        (["--dry_run"], True),
        (["--dry_run=True"], True),
        (["--dry_run=False"], False),
        (["--dry_run", "no"], False),
    ],
)
def test_switches_with_and_without_a_value(argv: list[str], on: bool) -> None:
    assert parse(["--run=x", *argv]).dry_run is on


@pytest.mark.parametrize(
    ("argv", "retry"),
    [
        (["--retry_failed"], ("failed",)),
        (["--retry_cancelled"], ("cancelled",)),
        (["--retry_failed", "--retry_cancelled"], ("failed", "cancelled")),
    ],
)
def test_what_is_to_run_again(argv: list[str], retry: tuple[str, ...]) -> None:
    assert parse(["--run=x", *argv]).retry == retry


def test_gpus_in_order() -> None:
    assert parse(["--run=x", "--gpus=2,0, GPU-ab"]).gpus == ("2", "0", "GPU-ab")


@pytest.mark.parametrize(
    ("convert", "text", "value"),
    [
        (duration_s, "10", 10.0),
        (duration_s, "1.5", 1.5),
        (duration_s, "0", 0.0),
        (duration_s, "90s", 90.0),
        (duration_s, "15m", 900.0),
        (duration_s, "12h", 43200.0),
        (duration_s, "2d", 172800.0),
        (memory_mb, "6144", 6144),
        (memory_mb, "6G", 6144),
        (memory_mb, "6g", 6144),
        (memory_mb, "6GiB", 6144),
        (memory_mb, "1.5GB", 1536),
        (memory_mb, "500M", 500),
        (whole(0), "0", 0),
        (whole(-1), "-1", -1),
        (boolean, "yes", True),
        (boolean, "FALSE", False),
        (device_list, " 1 , 2 ", ("1", "2")),
    ],
)
def test_values(convert: Callable[[str], Any], text: str, value: object) -> None:
    assert convert(text) == value


@pytest.mark.parametrize(
    ("convert", "text"),
    [
        *((duration_s, text) for text in ("", "soon", "-1", "nan", "inf", "1e999", "h", "1 h 5")),
        *((memory_mb, text) for text in ("", "0", "-5", "G", "six", "nan", "inf", "1e999", "0.1")),
        *((whole(1), text) for text in ("", "0", "1.5", "one")),
        *((boolean, text) for text in ("", "maybe", "2")),
        *((device_list, text) for text in ("", " , ")),
    ],
)
def test_values_that_mean_nothing(convert: Callable[[str], Any], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        convert(text)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "--run is missing: name a module or .py file, e.g. --run="),
        (["--run=x", "--max_paralell=3"], "unknown flag '--max_paralell'. Did you mean '--max_parallel'?"),
        (["--run=x", "--max=3"], "unknown flag '--max'"),
        (["--run=x", "stray"], "unknown argument 'stray'"),
        (["--run=x", "--max_parallel=0"], "--max_parallel: '0' is not a whole number of at least 1"),
        (
            ["--run=x", "--timeout=soon"],
            "--timeout: 'soon' is no duration; give seconds, or a number with s, m, h or d",
        ),
        (["--run=x", "--order=longest"], "--order: 'longest' is unknown. Did you mean 'longest_first'?"),
        (["--run=x", "--runner=slurmm"], "--runner: 'slurmm' is unknown. Did you mean 'slurm'?"),
        (["--run=x", "--backend=cloud"], "--runner: 'cloud' is unknown. Known: processes, slurm, ngc"),
        (["--run=x", "--gpus="], "--gpus: it is empty; --num_gpus=0 uses none"),
        (["--run=x", "--gpu_memory_per_experiment=lots"], "'lots' is no amount of memory"),
        (["--run=x", "--dry_run=maybe"], "--dry_run: 'maybe' is neither True nor False"),
        (["--run=x", "--max_parallel"], "argument --max_parallel: expected one argument"),
    ],
)
def test_faults_are_one_line_with_the_remedy(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(argv)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        parse(["--run=x", "--max_parallel=none", "--timeut=3h", "--order=random", "--gpus=,"])
    text = str(caught.value)
    for flag in ("--max_parallel", "--timeut", "--order", "--gpus"):
        assert flag in text


@pytest.mark.parametrize("command", [run, status, cancel, logs])
def test_help_fits_80_columns(
    command: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert_golden(f"help_{command.__name__.rpartition('.')[2]}.txt", text)


@pytest.mark.parametrize("command", [run, status, cancel, logs])
def test_a_fault_is_exit_code_2_and_one_line(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--no_such_flag", "a", "b"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
