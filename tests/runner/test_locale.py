"""Locales that are not UTF-8, and names that are not UTF-8: a run is the same in all of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from sf_runner.backends.slurm import task
from sf_runner.backends.slurm.batches import BatchHeader, BatchPaths, TaskJob, write_batch
from sf_runner.basics.paths import RunPaths
from sf_runner.linux.process_tools import start_error
from sf_runner.store.reader import read_journal
from tests.runner.harness import ROOT

POSIX = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
_LATIN = "en_US.ISO-8859-1"
_SHOW = (
    "import json, os, sys; show = [os.fsencode(sys.argv[1]).hex(), os.environb[b'VAL'].hex(), sys.flags.utf8_mode, "
    "os.environ.get('LC_ALL'), os.environ.get('PYTHONUTF8')]; print(json.dumps(show))"
)
_STUDY = f"""
from sf_runner import Experiment, ParamGrid, RunDescription

grid = ParamGrid([("p", ["a", "é🙂", "b"])])
experiments = [Experiment("job", ["python", "-S", "-c", {_SHOW!r}], grid, env_vars={{"VAL": "ü"}})]
RUN_DESCRIPTION = RunDescription("naïve", experiments)
"""


@pytest.fixture(scope="module")
def latin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a locale whose encoding is ISO-8859-1."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None:
        pytest.skip("there is no localedef to make an ISO-8859-1 locale")
    made = subprocess.run(["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(folder / _LATIN)], capture_output=True)
    if not (folder / _LATIN).is_dir():
        pytest.skip(f"localedef cannot make an ISO-8859-1 locale: {made.stderr.decode()}")
    return {"LOCPATH": str(folder), "LC_ALL": _LATIN}


@pytest.fixture(params=["POSIX", _LATIN])
def locale(request: pytest.FixtureRequest) -> dict[str, str]:
    found: dict[str, str] = POSIX if request.param == "POSIX" else request.getfixturevalue("latin")
    return found


def call(
    folder: Path, env: Mapping[str, str], *command: str | bytes, start: tuple[str, ...] = ("-m",)
) -> subprocess.CompletedProcess[bytes]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))}
    return subprocess.run(
        [sys.executable, *start, *command],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
    )


def logs(run: Path, pattern: str = "job_/*/job/attempt_*.log") -> list[list[object]]:
    return [json.loads(path.read_bytes()) for path in sorted(run.glob(pattern))]


def test_a_run_is_the_same_in_every_locale(tmp_path: Path, locale: dict[str, str]) -> None:
    (tmp_path / "study.py").write_text(_STUDY, encoding="utf-8")
    ran = call(tmp_path, locale, "sf_runner.run", "--run=study.py", "--ui=plain", "--num_gpus=0", "--train_dir=tré")
    assert (ran.returncode, ran.stderr) == (0, b"")
    run = tmp_path / "tré" / "naïve"
    seen = ["ü".encode().hex(), 0, locale["LC_ALL"], locale.get("PYTHONUTF8")]
    assert logs(run) == [[f"--p={text}".encode().hex(), *seen] for text in ("a", "é🙂", "b")]
    events, _ = read_journal(RunPaths(train_dir=tmp_path / "tré", run_name="naïve").journal)
    (planned,) = [event for event in events if type(event).__name__ == "JobsPlanned"]
    assert [job["params"]["p"] for job in planned.jobs] == ["a", "é🙂", "b"]  # type: ignore[attr-defined]
    again = call(tmp_path, locale, "sf_runner.run", "--run=study.py", "--ui=plain", "--num_gpus=0", "--train_dir=tré")
    assert again.returncode == 0
    dry = call(tmp_path, locale, "sf_runner.run", "--run=study.py", "--dry_run", "--num_gpus=0")
    assert dry.returncode == 0
    assert rb"\U0001f642" in dry.stdout, "what the terminal cannot show is escaped"
    assert (b"na\xefve" if locale["LC_ALL"] == _LATIN else rb"na\xefve") in dry.stdout
    for tool in (["status", "naïve"], ["status", "naïve", "--json"], ["logs", "naïve", "0"], ["cancel", "naïve"]):
        shown = call(tmp_path, locale, f"sf_runner.{tool[0]}", *tool[1:], "--train_dir=tré")
        assert (shown.returncode, shown.stderr) == (0, b""), tool


def test_what_the_locale_cannot_say_is_refused_where_the_interpreter_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "study.py").write_text(_STUDY.replace("naïve", "plain").replace('"ü"', '"u"'), encoding="utf-8")
    program = "import sys; from sf_runner.run import main; sys.exit(main(sys.argv[1:]))"
    flags = ("--run=study.py", "--ui=plain", "--num_gpus=0", "--max_retries=3")
    for _ in range(2):
        ran = call(tmp_path, POSIX, *flags, start=("-c", program))
        assert ran.returncode == 1
        assert b"Traceback" not in ran.stdout + ran.stderr
    assert rb"'--p=\xe9\U0001f642' cannot be said in this locale (ascii); use UTF-8" in ran.stdout
    assert [shown[0] for shown in logs(tmp_path / "train_dir" / "plain")] == [b"--p=a".hex(), b"--p=b".hex()]


def test_folders_whose_names_are_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "study.py").write_text(_STUDY.replace(_SHOW, "print(1)"), encoding="utf-8")
    folder = os.fsencode(tmp_path) + b"/tr\xff"
    for env in (POSIX, {"LC_ALL": "C.UTF-8"}):
        flags = ("--run=study.py", "--ui=plain", "--num_gpus=0", "--experiment_suffix=" + env["LC_ALL"])
        ran = call(tmp_path, env, "sf_runner.run", *flags, b"--train_dir=" + folder)
        assert (ran.returncode, ran.stderr) == (0, b"")
        run = Path(os.fsdecode(folder)) / "naïve"
        for index, job in enumerate(sorted(run.glob("job_*/*/job"))):
            (job.parent / "results.json").write_text(json.dumps({"reward": index}))
        made = call(tmp_path, env, "sf_runner.report", "naïve", b"--train_dir=" + folder)
        assert (made.returncode, made.stderr) == (0, b"")
        assert rb"tr\udcff" in (run / "report" / "report.html").read_bytes()


def test_text_that_the_system_cannot_be_given_is_one_line() -> None:
    with pytest.raises(UnicodeEncodeError) as caught:
        "--p=é🙂".encode("ascii")
    told = r"cannot start 'x': '--p=\xe9\U0001f642' cannot be said in this locale (ascii); use UTF-8"
    assert start_error("x", "/l", caught.value) == (told, True)
    assert start_error("x", "/l", ValueError("embedded null byte")) == ("cannot start 'x': embedded null byte", True)


def test_the_wrapper_of_slurm_gives_its_experiments_utf8(tmp_path: Path, locale: dict[str, str]) -> None:
    batch = BatchPaths(root=tmp_path / "0001")
    argv = [sys.executable, "-S", "-c", _SHOW, "é🙂"]
    job = TaskJob(job="a", attempt=1, argv=argv, env={"VAL": "ü"}, folder=str(tmp_path / "ü" / "a" / "job"))
    write_batch(batch, BatchHeader(run_id="r", num_tasks=1), [[job]], "")
    slurm = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0"}
    ran = call(tmp_path, {**locale, **slurm}, str(batch.root), start=(str(task.__file__),))
    assert (ran.returncode, ran.stderr) == (0, b"")
    (shown,) = logs(tmp_path / "ü", "a/job/attempt_1.log")
    assert shown[:3] == ["é🙂".encode().hex(), "ü".encode().hex(), 0]
