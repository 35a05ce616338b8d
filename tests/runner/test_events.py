"""The codec of the journal's lines."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_runner.state import events as ev
from sf_runner.state.jobs import CauseKind, FailureCause, StopReason, Verdict

TIMES = st.floats(0, 4e9).map(lambda t: round(t, 3))
TEXT = st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXT, JSON, max_size=3)
NUMBERS = st.none() | st.floats(0, 1e6)
CAUSES = st.builds(FailureCause, kind=st.sampled_from(get_args(CauseKind)), summary=TEXT, fingerprint=TEXT)
EVENTS = st.one_of(
    st.builds(ev.JournalCreated, t=TIMES, version=st.integers(1, 9), run_id=TEXT, run_name=TEXT),
    st.builds(
        ev.RunOpened, t=TIMES, pid=st.integers(1, 2**22), host=TEXT, backend=TEXT, up=TIMES, boot_id=TEXT,
        command=st.lists(TEXT, max_size=3), max_parallel=st.integers(0, 99), max_retries=st.integers(0, 9),
    ),
    st.builds(ev.JobsPlanned, t=TIMES, jobs=st.lists(OBJECTS, max_size=3)),
    st.builds(ev.JobsChanged, t=TIMES, jobs=st.lists(OBJECTS, max_size=3)),
    st.builds(ev.AttemptSubmitted, t=TIMES, job=TEXT, attempt=st.integers(1, 99), placement=OBJECTS),
    st.builds(ev.AttemptStarted, t=TIMES, job=TEXT, attempt=st.integers(1, 99), handle=OBJECTS),
    st.builds(
        ev.StopRequested, t=TIMES, job=TEXT, attempt=st.integers(1, 9), reason=st.sampled_from(get_args(StopReason))
    ),
    st.builds(
        ev.AttemptEnded, t=TIMES, job=TEXT, attempt=st.integers(1, 99), verdict=st.sampled_from(get_args(Verdict)),
        code=st.none() | st.integers(0, 255), signal=st.none() | st.integers(1, 64), duration_s=TIMES,
        not_before=TIMES, cause=st.none() | CAUSES, leftovers=st.integers(0, 9), max_rss_mb=NUMBERS, cpu_s=NUMBERS,
        gpu_peak_mb=NUMBERS,
    ),
    st.builds(ev.AttemptWithdrawn, t=TIMES, job=TEXT, attempt=st.integers(1, 99)),
    st.builds(ev.JobCancelled, t=TIMES, job=TEXT),
    st.builds(ev.JobRequeued, t=TIMES, job=TEXT),
    st.builds(ev.PaceChanged, t=TIMES, paused=st.none() | st.booleans(), max_parallel=st.none() | st.integers(1)),
    st.builds(ev.RunDraining, t=TIMES, reason=st.sampled_from(get_args(ev.DrainReason))),
    st.builds(ev.ClockSet, t=TIMES, clocks=st.lists(TIMES, max_size=2)),
    st.builds(ev.RunClosed, t=TIMES, exit_code=st.integers(0, 255)),
    st.builds(ev.Note, t=TIMES, text=TEXT, job=TEXT, level=st.sampled_from(["info", "warning", "error"])),
)  # fmt: skip


@given(EVENTS)
def test_every_event_survives_its_line(event: ev.Event) -> None:
    line = ev.encode(event)
    assert "\n" not in line
    assert line.isascii()
    decoded = ev.decode(line)
    assert type(decoded) is type(event)
    assert {f.name: getattr(decoded, f.name) for f in fields(event)} == {
        f.name: getattr(event, f.name) for f in fields(event)
    }
    assert ev.encode(decoded) == line


def test_the_strategy_knows_every_kind() -> None:
    assert {cls.kind for cls in ev.EVENT_TYPES} == {
        "journal", "run_opened", "jobs_planned", "jobs_changed", "submitted", "started", "stop", "ended", "cancelled",
        "requeued", "launching", "draining", "run_closed", "note", "withdrawn", "clock_set",
    }  # fmt: skip
    assert len({cls.kind for cls in ev.EVENT_TYPES}) == len(ev.EVENT_TYPES)


def test_lines_are_short_and_exact() -> None:
    event = ev.AttemptEnded(t=12.34567, job="a/b", attempt=2, verdict="succeeded", code=0)
    assert ev.encode(event) == '{"e":"ended","t":12.346,"job":"a/b","attempt":2,"verdict":"succeeded","code":0}'
    assert ev.encode(ev.AttemptSubmitted(t=1.0, job="j", attempt=1, placement={})) == (
        '{"e":"submitted","t":1.0,"job":"j","attempt":1,"placement":{}}'
    )


def test_defaults_are_there_although_not_written() -> None:
    event = ev.decode('{"e":"ended","t":1.0,"job":"j","attempt":1,"verdict":"retry"}')
    assert isinstance(event, ev.AttemptEnded)
    assert (event.code, event.duration_s, event.cause, event.leftovers) == (None, 0.0, None, 0)
    assert event == ev.AttemptEnded(t=1.0, job="j", attempt=1, verdict="retry")
    assert "leftovers=0" in repr(event)


@pytest.mark.parametrize(
    ("backend", "facts"),
    [("processes", (False, True, False)), ("slurm", (True, False, True)), ("ngc", (True, False, False))],
)
def test_older_journals_name_the_backend_and_the_rest_follows(backend: str, facts: tuple[bool, ...]) -> None:
    line = f'{{"e":"run_opened","t":1.0,"pid":1,"host":"h","backend":"{backend}"}}'
    for opened in (ev.decode(line), ev.RunOpened(t=1.0, pid=1, host="h", backend=backend)):
        assert isinstance(opened, ev.RunOpened)
        assert (opened.queues, opened.local, opened.records) == facts
    told = ev.decode(line[:-1] + ',"records":true,"local":false}')
    assert isinstance(told, ev.RunOpened)
    assert (told.local, told.records) == (False, True)


def test_decoded_events_are_frozen() -> None:
    event = ev.decode('{"e":"requeued","t":1.0,"job":"j"}')
    with pytest.raises(AttributeError):
        event.t = 2.0  # type: ignore[misc]


def test_what_a_newer_minor_version_added_is_ignored() -> None:
    line = '{"e":"ended","t":1,"job":"j","attempt":1,"verdict":"failed","colour":"red","cause":'
    line += '{"kind":"exit","summary":"s","fingerprint":"f","node":"n7"}}'
    event = ev.decode(line)
    assert isinstance(event, ev.AttemptEnded)
    assert event.cause == FailureCause(kind="exit", summary="s", fingerprint="f")
    assert not hasattr(event, "colour")


def test_odd_characters_in_arguments_survive() -> None:
    argv = ["ünïcode", "\udcff surrogate", "tab\tnewline\n", "\x00", "\u2028"]
    event = ev.JobsPlanned(t=1.0, jobs=[{"id": "j", "argv": argv}])
    line = ev.encode(event)
    assert len(line.splitlines()) == 1
    decoded = ev.decode(line)
    assert isinstance(decoded, ev.JobsPlanned)
    assert decoded.jobs[0]["argv"] == argv


def required_fields() -> list[Any]:
    return [
        pytest.param(cls, f.name, id=f"{cls.kind}-{f.name}")
        for cls in ev.EVENT_TYPES
        for f in fields(cls)
        if f.default is MISSING
    ]


@pytest.mark.parametrize(("cls", "missing"), required_fields())
def test_a_missing_field_is_named(cls: type[ev.Event], missing: str) -> None:
    body = {"e": cls.kind, **{f.name: 1 for f in fields(cls) if f.default is MISSING and f.name != missing}}
    with pytest.raises(ev.JournalError, match=f"{missing} is missing"):
        ev.decode(json.dumps(body))


@pytest.mark.parametrize(
    "line",
    ["", " ", "{", "[]", "7", "null", '"text"', "{}", '{"t":1}', '{"e":"note","t":1,"text":"x"} {}', "[" * 100_000,
     '{"e":"note","t":1,"text":"caf\u00e9"}', '{"e":"note","t":1,"text":"x"', '{"e":["note"]}x'],
)  # fmt: skip
def test_what_is_no_line_is_said_to_be_none(line: str) -> None:
    with pytest.raises(ev.JournalError, match="not a journal line"):
        ev.decode(line)


@pytest.mark.parametrize("kind", ["teleported", ["note"], None, 3])
def test_an_unknown_kind_is_an_error_that_says_what_to_do(kind: object) -> None:
    with pytest.raises(ev.JournalError, match="written by a newer sf_runner: upgrade"):
        ev.decode(json.dumps({"e": kind, "t": 1.0}))


@pytest.mark.parametrize("cause", [{}, {"kind": "exit"}, None, 3, "text", []])
def test_an_incomplete_cause_is_an_error(cause: object) -> None:
    body = {"e": "ended", "t": 1, "job": "j", "attempt": 1, "verdict": "failed", "cause": cause}
    with pytest.raises(ev.JournalError, match="incomplete cause"):
        ev.decode(json.dumps(body))
