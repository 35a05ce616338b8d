"""Templates of clouds that are driven by a command line: quoting, placeholders, what is refused."""

from __future__ import annotations

import json
import re
import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_runner.backends.cluster.api import SubmitRequest, job_names, run_prefix
from sf_runner.backends.cluster.template import PLACEHOLDERS, Template, check_job_template, parse_template
from sf_runner.basics.errors import UsageError
from tests.runner.golden import assert_golden

COMMAND = ["env", "A=it's $5", "python", "-m", "train", '--note=say "hi" `now`', "--path=C:\\x y", "--n=1"]
RUN_ID = "0123456789abcdef"


def parse(text: str, **environ: str) -> Template:
    return parse_template(text, "--ngc_job_template=job.template", environ)


def request(command: list[str] = COMMAND, job: str = "basic_/00_basic_see_0_env_doom_basic") -> SubmitRequest:
    return SubmitRequest(run_id=RUN_ID, run="study", job=job, attempt=1, argv=command, log="")


def values(command: list[str] = COMMAND) -> dict[str, str]:
    return {name: value(request(command)) for name, value in PLACEHOLDERS.items()}


def rendered(text: str, command: list[str] = COMMAND, **environ: str) -> list[str]:
    return list(parse(text, **environ).render(request(command)))


def run_by_shell(text: str) -> list[str]:
    """The arguments that a shell would give a program for `printf0 TEXT`."""
    done = subprocess.run(["sh", "-c", f"printf '%s\\0' {text}"], capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


def test_the_predecessors_template() -> None:
    text = """\
ngc batch run \\
    --name "{{ name }}" \\
    --image "nvcr.io/org/image:1.0" --ace nv-us-west-2 \\
    --instance dgx1v.16g.1.norm  \\\x20
    --result /results \\
    --commandline "cd /workspace && {{ experiment_cmd }}" \\
    --format_type json
"""
    argv = rendered(text)
    assert argv[:3] == ["ngc", "batch", "run"]
    assert argv[argv.index("--name") + 1] == values()["name"]
    commandline = argv[argv.index("--commandline") + 1]
    assert shlex.split(commandline.removeprefix("cd /workspace && ")) == COMMAND
    assert argv[-2:] == ["--format_type", "json"]
    assert "" not in argv
    assert " " not in argv
    assert_golden("ngc_submit.txt", shlex.join(argv) + "\n")


def test_lines_without_backslashes_belong_together_too() -> None:
    assert rendered("# a comment\n\nsubmit\n --n {{name}}\n\t{{ experiment_cmd }}")[:3] == [
        "submit",
        "--n",
        values()["name"],
    ]


def test_a_bare_command_becomes_its_words_and_a_quoted_one_a_single_argument() -> None:
    assert rendered("docker run img {{ experiment_cmd }}") == ["docker", "run", "img", *COMMAND]
    assert rendered('docker run "{{ experiment_cmd }}"') == ["docker", "run", shlex.join(COMMAND)]
    assert rendered("run --cmd={{ experiment_cmd }}") == ["run", f"--cmd={shlex.join(COMMAND)}"]


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("--commandline \"bash -c '{{ experiment_cmd_in_single_quotes }}'\"", False),
        ("--commandline 'bash -c \"{{ experiment_cmd_in_double_quotes }}\"'", False),
        ("--commandline 'bash -c {{ experiment_cmd_quoted }}'", False),
        ("--commandline {{ experiment_cmd }}x", True),
    ],
)
def test_each_quoted_form_survives_the_shell_of_the_container(text: str, inside: bool) -> None:
    """The container's shell runs `bash -c TEXT`; that text, split once more, has to be the command."""
    (_, commandline) = rendered(text)
    if inside:
        assert shlex.split(commandline[:-1]) == COMMAND
        return
    outer = run_by_shell(commandline)
    assert outer[:2] == ["bash", "-c"]
    assert len(outer) == 3
    assert run_by_shell(outer[2]) == COMMAND


TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=12)


@given(st.lists(TEXT, max_size=4))
def test_no_argument_breaks_out_of_any_quoted_form(words: list[str]) -> None:
    command = ["prog", *words]
    made = values(command)
    text = made["experiment_cmd"]
    assert shlex.split(text) == command
    assert shlex.split(made["experiment_cmd_quoted"]) == [text]
    assert shlex.split(f"'{made['experiment_cmd_in_single_quotes']}'") == [text]
    assert re.sub(r'\\([\\"$`])', r"\1", made["experiment_cmd_in_double_quotes"]) == text
    assert not re.search(r'(?<!\\)(\\\\)*["$`]', made["experiment_cmd_in_double_quotes"])
    assert json.loads(made["experiment_cmd_json"]) == text


def test_json_inside_of_a_template() -> None:
    (_, overrides) = rendered('--overrides \'{"command": ["bash", "-c", {{ experiment_cmd_json }}]}\'')
    assert shlex.split(json.loads(overrides)["command"][2]) == COMMAND


def test_quoting_is_that_of_a_posix_shell() -> None:
    text = r"""a 'b "c" \n' "d \"e\" \$f \\ \n" g\ h "" i"j"'k' "l \
m" --x={{ attempt }}"""
    assert rendered(text) == [*run_by_shell(text.replace("{{ attempt }}", "1"))]


def test_values_of_this_machine() -> None:
    assert rendered('sub --org {{ env.ORG }} -c "{{ experiment_cmd }}"', ORG="my org")[1:3] == ["--org", "my org"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ('run "{{ experiment_cmd }}', 'line 1 of the command: the quote " is not closed'),
        ("run\n --org $NGC_ORG", "line 2 of the command: nothing is expanded here; write \\$ in double quotes"),
        ('run "cd $HOME"', "{{ env.HOME }} for a value that this machine has"),
        ("run `date`", "nothing is expanded here"),
        ("run ~/x", "write {{ env.HOME }} instead of ~"),
        ("run a && b", "no shell runs it, so '&' means nothing"),
        ("run > log", "no shell runs it, so '>' means nothing"),
        ("run {{ nmae }}", "unknown placeholder '{{ nmae }}'. Did you mean 'name'?"),
        ("run {{ env.NOT_SET }}", "the environment variable NOT_SET of '{{ env.NOT_SET }}' is not set here"),
        ("NGC_ORG=x ngc batch run", "begin with: env NGC_ORG=x"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("--ngc_job_template=job.template")


@pytest.mark.parametrize(
    ("text", "says"),
    [("ngc --name {{ name }}", "has no {{ experiment_cmd }}"), ("ngc {{ experiment_cmd }}", "has no {{ name }}")],
)
def test_a_template_has_to_name_the_job_and_its_command(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        check_job_template(parse(text))


def test_names_are_unique_short_and_safe() -> None:
    jobs = ["a_/00_a", "b_/00_a", "c_/" + "x" * 300, "d_/Ünïcode & more!", "e_/..", "f_/00_A"]
    made = [job_names(RUN_ID, job, attempt) for job in jobs for attempt in (1, 2)]
    made += [job_names("fedcba9876543210", jobs[0], 1)]
    for column in (0, 1):
        assert len({pair[column] for pair in made}) == len(made)
    for name, dns in made:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name)
        assert re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", dns)
    assert all(name.startswith(run_prefix(RUN_ID)) for pair in made[:-1] for name in pair)
