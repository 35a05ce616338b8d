"""Descriptions that change between starts, hostile values and names, very many jobs: through the real runner."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path

from sf_runner.state import events as ev
from sf_runner.state.jobs import Running, Succeeded, Waiting
from tests.runner.harness import RunUnderTest, python, run_under_test, shell

RECORD = "import json, sys; open('seen', 'a').write(json.dumps(sys.argv[1:]) + '\\n')"


def started_again(run: RunUnderTest, *flags: str) -> tuple[int, str]:
    """Start, wait; the exit code and what this start printed."""
    before = run.printed()
    code = run.start("--max_parallel=2", *flags).wait(60)
    run.read()
    return code, run.printed()[len(before) :]


def test_new_experiments_are_added_and_removed_ones_are_told(tmp_path: Path) -> None:
    with run_under_test(tmp_path, shell("a", "echo a >> done"), shell("b", "echo b >> done")) as run:
        assert started_again(run)[0] == 0
        run.describe(shell("a", "echo a >> done"), shell("c", "echo c >> done"))
        code, text = started_again(run)
        assert code == 0
        assert "1 experiment(s) are new in the description" in text
        assert "1 experiment(s) are no longer in the description, e.g. 'b_/00_b'" in text
        assert sorted((tmp_path / "done").read_text().split()) == ["a", "b", "c"], "each ran once"
        assert run.state.total == 2
        run.describe(*[shell(name, f"echo {name} >> done") for name in "abc"])
        assert started_again(run)[0] == 0
        assert run.state.total == 3
        assert isinstance(run.job("b").state, Succeeded), "it is back, with its result"


def test_a_changed_command_is_refused_kept_or_run_again(tmp_path: Path) -> None:
    with run_under_test(tmp_path, shell("a", "echo old >> done"), shell("b", "echo b >> done")) as run:
        assert started_again(run)[0] == 0
        size = run.paths.journal.stat().st_size
        run.describe(shell("a", "echo new >> done"), shell("b", "echo b >> done"))
        code, text = started_again(run)
        assert code == 2
        assert text.startswith("error: 1 experiment(s) that have already run have another command now, e.g. 'a_/00_a'")
        assert len(text.splitlines()) == 1
        assert run.paths.journal.stat().st_size == size, "nothing was touched"
        assert started_again(run, "--changed=keep")[0] == 0
        assert Counter((tmp_path / "done").read_text().split()) == {"old": 1, "b": 1}
        run.describe(shell("a", "echo newer >> done"), shell("b", "echo b >> done"))
        assert started_again(run, "--changed=rerun")[0] == 0
        assert Counter((tmp_path / "done").read_text().split()) == {"old": 1, "newer": 1, "b": 1}
        assert started_again(run)[0] == 0, "it is not refused a second time"


def test_a_description_that_is_edited_while_jobs_run_keeps_them(tmp_path: Path) -> None:
    wait = "until test -e go; do sleep 0.02; done; echo $0 >> done"
    with run_under_test(tmp_path, shell("a", wait)) as run:
        run.start()
        run.wait_for("a", Running)
        pid = run.pid("a")
        for victim in (run.guardian, run.runner):
            os.kill(victim, signal.SIGKILL)
        run.describe(shell("b", "exit 0"))
        run.start("--max_parallel=2")
        run.wait_for("b", Succeeded)
        assert "; 1 of them still run to their end" in run.printed()
        assert run.pid("a") == pid
        (tmp_path / "go").touch()
        assert run.finish() == 0
        assert (tmp_path / "done").read_text() == "sh\n"
        assert isinstance(run.job("a").state, Succeeded)


def test_sixty_experiments_get_exactly_the_arguments_that_were_meant(tmp_path: Path) -> None:
    values = ["two words", 'it\'s "quoted" \\ `id` $(id)', "$HOME ${PATH} *", "snö ☃ 北京 \u00a0", "", None]
    more = [0.1, 1e-05, {"a": [1, "b c"], "d": {"e": None}}, [1, 2.5], True, -3]
    grid = f"ParamGrid([('seed', list(range(10))), ('value', {values!r})])"
    other = f"ParamGrid([('value', {more!r})])"
    command = f"[{sys_executable()!r}, '-I', '-S', '-c', {RECORD!r}]"
    experiments = [
        f"Experiment('grid', {command}, {grid}.generate_params(randomize=False))",
        f"Experiment('other', {command}, {other}.generate_params(randomize=False))",
    ]
    with run_under_test(tmp_path, *experiments) as run:
        assert started_again(run)[0] == 0
        seen = [json.loads(line) for line in (tmp_path / "seen").read_text().splitlines()]
        meant = [[f"seed={seed}", f"value={value}"] for seed in range(10) for value in values]
        meant += [[f"value={value}"] for value in more]
        assert sorted(seen) == sorted(meant)
        assert len(run.state.jobs) == 66
        assert run.state.count("Succeeded") == 66


def sys_executable() -> str:
    import sys

    return sys.executable


def test_long_and_foreign_names(tmp_path: Path) -> None:
    long, foreign = "x" * 300, "实验-ñandú☃"
    grid = f"ParamGrid([('p', ['{'v' * 300}1', '{'v' * 300}2'])])"
    experiments = [
        shell(long, "echo $SF_RUNNER_JOB >> done"),
        shell(foreign, "echo $SF_RUNNER_JOB >> done"),
        f"Experiment('p', ['sh', '-c', 'echo $SF_RUNNER_JOB >> done'], {grid}.generate_params(randomize=False))",
    ]
    with run_under_test(tmp_path, *experiments) as run:
        assert started_again(run)[0] == 0
        assert sorted((tmp_path / "done").read_text().split()) == sorted(run.state.jobs)
        assert len(run.state.jobs) == 4
        assert all(run.paths.job(job).exit_record.exists() for job in run.state.jobs)
        assert all(len(part.encode()) <= 255 for job in run.state.jobs for part in job.split("/"))
        assert started_again(run)[0] == 0, "the same names are found at the next start"
        assert len((tmp_path / "done").read_text().split()) == 4


def test_ten_thousand_jobs_are_planned_and_one_at_a_time_is_run(tmp_path: Path) -> None:
    script = "test $1 != i=2 || exec sleep 1000"
    grid = "ParamGrid([('i', list(range(10000)))]).generate_params(randomize=False)"
    with run_under_test(tmp_path, f"Experiment('job', ['sh', '-c', {script!r}, 'sh'], {grid})") as run:
        run.start("--max_parallel=1", "--ui=none")
        run.wait_for("job_/2_job_i_2", Running) if run.find("job_/2_job_i_2") else run.wait(
            "the third", lambda state: state.count("Succeeded") == 2 and bool(state.active)
        )
        status = json.loads(run.tool("status", "--json").stdout)
        assert status["total"] == 10000
        assert status["counts"]["succeeded"] == 2
        os.kill(run.guardian, signal.SIGTERM)
        assert run.finish() == 143
        assert run.state.count("Waiting") == 9998


def test_python_programs_are_the_runners_own_python(tmp_path: Path) -> None:
    program = "import sys; open('seen', 'w').write(sys.executable)"
    with run_under_test(tmp_path, python("a", program), f"Experiment('b', ['python', '-c', {program!r}])") as run:
        assert started_again(run)[0] == 0
        assert (tmp_path / "seen").read_text() == sys_executable()


def test_a_job_whose_variables_change_between_starts_is_a_changed_job(tmp_path: Path) -> None:
    job = "Experiment('a', ['sh', '-c', 'echo $WHO >> done'], env_vars={{'WHO': {!r}}})"
    with run_under_test(tmp_path, job.format("me & you; $HOME")) as run:
        assert started_again(run)[0] == 0
        run.describe(job.format("nobody"))
        code, text = started_again(run)
        assert (code, "have another command now" in text) == (2, True)
        assert (tmp_path / "done").read_text() == "me & you; $HOME\n"
        assert not run.read_events(ev.JobsChanged)
        assert not isinstance(run.job("a").state, Waiting)
