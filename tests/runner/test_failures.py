"""Why an attempt failed, from its exit status and the end of its log; and what its other files say."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from sf_runner.backends.base import Ended, NotStarted
from sf_runner.basics.paths import JobPaths
from sf_runner.basics.tail import tail_text
from sf_runner.engine.outcomes import attempt_progress, cause_of, is_completed
from sf_runner.engine.scheduler import Policy
from sf_runner.state import events as ev
from sf_runner.state.failures import explain, make_cause
from sf_runner.state.jobs import FailureCause, JobRecord
from tests.runner.builders import start, started_fresh

TRACEBACK = """\
Traceback (most recent call last):
  File "/home/me/train.py", line 12, in main
    learner.step(batch)
  File "/home/me/lib/learner.py", line 345, in step
    raise ValueError(f"loss is {loss} at step {step}")
ValueError: loss is nan at step 1234
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "attempt_1.log"


def cause(log: Path, text: str | bytes, *, code: int | None = 1, signum: int | None = None) -> FailureCause:
    log.write_bytes(text if isinstance(text, bytes) else text.encode())
    return explain(log, code=code, signum=signum)


def test_the_last_traceback_tells(log: Path) -> None:
    found = cause(log, "epoch 1\n" + TRACEBACK)
    assert found.kind == "exception"
    assert found.summary == "ValueError: loss is nan at step 1234 in learner.py:step"


def test_of_chained_exceptions_the_last_one_tells(log: Path) -> None:
    text = TRACEBACK + "\nDuring handling of the above exception, another exception occurred:\n\n"
    text += "Traceback (most recent call last):\n  File \"a.py\", line 3, in <module>\n    f()\nKeyError: 'x'\n"
    assert cause(log, text).summary == "KeyError: 'x' in a.py:<module>"


@pytest.mark.parametrize(
    "other",
    [
        TRACEBACK.replace("1234", "98"),
        TRACEBACK.replace("line 345", "line 346"),
        TRACEBACK.replace("/home/me", "/scratch/you"),
        "another beginning\n" + TRACEBACK + "\nwandb: run finished\n",
        TRACEBACK.replace("    learner.step(batch)\n", "    learner.step(batch)\n    ~~~~~~~~~~~~^^^^^^^\n"),
    ],
)
def test_equal_causes_have_equal_fingerprints(log: Path, other: str) -> None:
    assert cause(log, other).fingerprint == cause(log, TRACEBACK).fingerprint


@pytest.mark.parametrize(
    "other",
    [TRACEBACK.replace("ValueError:", "RuntimeError:"), TRACEBACK.replace("in step", "in sample"), "exit\n"],
)
def test_other_causes_have_others(log: Path, other: str) -> None:
    assert cause(log, other).fingerprint != cause(log, TRACEBACK).fingerprint


@pytest.mark.parametrize(
    "error",
    [
        "AssertionError",
        "my_project.errors.Diverged: too far",
        "__main__.main.<locals>.Bad: text: with colons",
        "ModuleNotFoundError: No module named 'nowhere'",
        "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
        "ValueError:",
    ],
)
def test_names_of_exceptions(log: Path, error: str) -> None:
    text = f'Traceback (most recent call last):\n  File "x.py", line 1, in f\n    g()\n{error}\n'
    assert cause(log, text).summary == f"{error} in x.py:f"


def test_an_exception_that_was_handled_long_before_is_not_the_cause(log: Path) -> None:
    text = TRACEBACK + "".join(f"step {n}\n" for n in range(500)) + "error: out of quota\n"
    assert cause(log, text, code=3).summary == "exit code 3: error: out of quota"


def test_a_signal_is_not_explained_by_a_traceback(log: Path) -> None:
    found = cause(log, TRACEBACK, code=None, signum=signal.SIGKILL)
    assert (found.kind, found.summary) == (
        "signal",
        "ended by SIGKILL (killed from outside, or out of memory: see dmesg)",
    )


@pytest.mark.parametrize(
    ("text", "signum", "summary"),
    [
        ("", signal.SIGSEGV, "ended by SIGSEGV"),
        ("step 3\n", signal.SIGSEGV, "ended by SIGSEGV"),
        ("Fatal error: Segfault\n", signal.SIGSEGV, "ended by SIGSEGV: Fatal error: Segfault"),
        ("some error\n", signal.SIGTERM, "ended by SIGTERM"),
        ("", 63, "ended by signal 63"),
        ("terminate called\n  what():  c10::Error\n", signal.SIGABRT, "ended by SIGABRT: what(): c10::Error"),
    ],
)  # fmt: skip
def test_signals(log: Path, text: str, signum: int, summary: str) -> None:
    assert cause(log, text, code=None, signum=signum).summary == summary


@pytest.mark.parametrize(
    "line",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        "torch.cuda.OutOfMemoryError: CUDA out of memory.",
        "RuntimeError: CUDA error: out of memory",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate",
    ],
)
def test_out_of_gpu_memory(log: Path, line: str) -> None:
    found = cause(log, TRACEBACK.rsplit("\n", 2)[0] + f"\n{line}\n[rank0]: more text\n")
    assert (found.kind, found.summary) == ("gpu_oom", "out of GPU memory")


@pytest.mark.parametrize(
    "line",
    [
        "MemoryError",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7.45 GiB for an array",
        "OSError: [Errno 12] Cannot allocate memory",
    ],
)
def test_out_of_memory(log: Path, line: str) -> None:
    assert cause(log, TRACEBACK.rsplit("\n", 2)[0] + f"\n{line}\n").kind == "host_oom"
    assert cause(log, f"{line}\n").kind == "host_oom"


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("", "exit code 7, nothing in its log"),
        ("\n\n  \n", "exit code 7, nothing in its log"),
        ("one\ntwo\n", "exit code 7: two"),
        ("usage: x\nx: error: bad flag\nsee --help\n", "exit code 7: x: error: bad flag"),
        ("TypeError: not a function\n    at main.js:3\n", "exit code 7: TypeError: not a function"),
        ("progress 10%\rprogress 20%\rdisk failed\r100%", "exit code 7: disk failed"),
        ("\x1b[31mFATAL\x1b[0m: no\x07 way\n", "exit code 7: FATAL: no way"),
        ("Traceback (most recent call last):\n", "exit code 7: Traceback (most recent call last):"),
        ("x" * 1000, f"exit code 7: {'x' * 186}…"),
    ],
)
def test_without_a_traceback_a_telling_line_does(log: Path, text: str, summary: str) -> None:
    assert cause(log, text, code=7).summary == summary


def test_a_log_of_any_bytes_and_size(log: Path) -> None:
    assert cause(log, bytes(range(256)) * 1000).kind == "exit"
    assert cause(log, b"x" * 200_000 + TRACEBACK.encode()).kind == "exception"
    assert explain(log.with_name("none.log"), code=1, signum=None).summary == "exit code 1, nothing in its log"


def test_the_tail_of_a_log(log: Path) -> None:
    log.write_bytes("abc€".encode())
    assert tail_text(log, 100) == "abc€"
    assert tail_text(log, 4) == "c€"
    assert tail_text(log, 2) == "��"


def test_a_cause_is_one_line_whatever_it_is_made_of() -> None:
    made = make_cause("exit", "a\n b\x1b]0;title\x07\tc \udcff", "same")
    assert made.summary == "a b c \udcff"
    assert made.fingerprint == make_cause("exit", "something else", "same").fingerprint
    assert made.fingerprint != make_cause("signal", "a b c", "same").fingerprint
    assert len(made.fingerprint) == 8


# ---- what the files of an attempt say ----------------------------------------------------------------------------


@pytest.fixture
def paths(tmp_path: Path) -> JobPaths:
    made = JobPaths(experiment_dir=tmp_path / "exp")
    made.job_dir.mkdir(parents=True)
    return made


@pytest.mark.parametrize(
    ("text", "completed"),
    [
        ('{"time": 100, "phase": "done"}', True),
        ('{"time": 100, "phase": "train", "step": 10, "total": 10}', True),
        ('{"time": 100, "step": 12, "total": 10}', True),
        ('{"time": 100, "step": 9, "total": 10}', False),
        ('{"time": 100, "step": 0, "total": 0}', False),
        ('{"time": 100, "phase": "train"}', False),
        ('{"time": 100, "pha', False),
        ('{"time": 100, "attempt": 1, "phase": "done"}', False),  # an earlier attempt left it
        ('{"time": 5, "attempt": 2, "phase": "done"}', True),  # whatever its clock says
        ('{"time": 5, "attempt": "2", "phase": "done"}', True),  # it does not say, so it is of the last that started
    ],
)
def test_a_program_says_that_it_is_done(paths: JobPaths, text: str, completed: bool) -> None:
    paths.progress.write_text(text)
    paths.attempt_log(2).touch()
    assert is_completed(paths, 2) is completed


def test_what_was_done_before_an_attempt_was_started_is_not_its_own(paths: JobPaths) -> None:
    paths.progress.write_text('{"phase": "done"}')
    assert not is_completed(paths, 2)


def test_a_program_that_says_nothing_is_not_done(paths: JobPaths) -> None:
    assert not is_completed(paths, 1)
    assert attempt_progress(str(paths.progress), 1) is None


def record(stop: str | None = None, timeout_s: float | None = None) -> JobRecord:
    state, (job,) = started_fresh(1)
    start(state, job)
    if stop is not None:
        state.apply(ev.StopRequested(t=2.0, job=job, attempt=1, reason=stop))  # type: ignore[arg-type]
    found = state.jobs[job]
    found.timeout_s = timeout_s
    return found


def ended(exit_record: dict[str, object] | None) -> Ended:
    return Ended(job="job_/00_job_see_0", attempt=1, t=3.0, record=exit_record)


def summary_of(paths: JobPaths, job: JobRecord, report: Ended | NotStarted, policy: Policy) -> str | None:
    found = cause_of(job, report, paths, policy)
    return found.summary if found is not None else None


def test_causes_by_report(paths: JobPaths) -> None:
    paths.attempt_log(1).write_text("boom\n")
    crash, clean = ended({"exit_code": 3, "signal": None}), ended({"exit_code": 0})
    none = Policy()
    assert summary_of(paths, record(), clean, none) is None
    assert summary_of(paths, record(), crash, none) == "exit code 3: boom"
    assert summary_of(paths, record("timeout"), crash, Policy(timeout_s=60.0)) == "ran longer than 60 s (--timeout)"
    assert summary_of(paths, record("timeout", 5.0), clean, none) == "ran longer than 5 s (timeout_s of its Resources)"
    assert (
        summary_of(paths, record("timeout"), ended(None), Policy(timeout_s=60.0)) == "ran longer than 60 s (--timeout)"
    )
    # Told to end by an earlier start, which had other limits than this one.
    assert summary_of(paths, record("timeout"), crash, none) == "ran longer than the time allowed (--timeout)"
    assert summary_of(paths, record("stalled"), crash, none) == "wrote nothing for the time allowed (--stall_timeout)"
    stall = Policy(stall_timeout_s=90.0)
    assert summary_of(paths, record("stalled"), crash, stall) == "wrote nothing for 90 s (--stall_timeout)"
    assert summary_of(paths, record(), ended(None), none) == "nobody saw how it ended (the runner was gone)"
    refused = NotStarted(job="j", attempt=1, t=3.0, error="program 'x' was not found on PATH", permanent=True)
    assert summary_of(paths, record(), refused, none) == "program 'x' was not found on PATH"


def test_what_was_never_started_is_told_from_what_nobody_saw(paths: JobPaths) -> None:
    assert summary_of(paths, record(), ended(None), Policy()) == "the runner was killed before it could start it"
