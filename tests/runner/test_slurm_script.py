"""Job scripts: golden texts, templates, options that are passed on or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from sf_runner.backends.slurm.script import JobShape, ScriptSettings, check_settings, passed_on, render_script
from sf_runner.basics.errors import UsageError
from tests.runner.golden import assert_golden

SETTINGS = ScriptSettings(
    job_name="my study",
    folder="/home/me/my project",
    command=["/venv/bin/python", "/pkg/task.py"],
    options={"partition": "gpu", "account": "lab", "time": "12:00:00", "mem": "32G"},
)
BATCH = "/data/train dir/my study/.runner/slurm/0001"
PREDECESSOR = """\
#!/bin/bash
#SBATCH --mail-type=END
conda activate sf
cd ~/sample-factory
timeout $TIMEOUT $CMD
if [[ $? -eq 124 ]]; then
    sbatch ${PARTITION}--gres=gpu:$GPU -c $CPU --parsable $FILENAME
fi
"""


def render(settings: ScriptSettings, shape: JobShape, num_tasks: int = 10, throttle: int = 0) -> str:
    return render_script(settings, shape, batch=BATCH, num_tasks=num_tasks, throttle=throttle)


def test_the_usual_script() -> None:
    settings = replace(SETTINGS, passed_on=["--exclusive", "--reservation=mine", "-x", "n[1-2]", "--nice=-5"])
    assert_golden("sbatch_usual.sh", render(settings, JobShape(gpus=2, cpus=8), 300, 12))


def test_the_smallest_script() -> None:
    settings = ScriptSettings(job_name="s", folder="/w", command=["python", "task.py"])
    assert_golden("sbatch_smallest.sh", render_script(settings, JobShape(), batch="/b/0007", num_tasks=1, throttle=0))


def test_a_template_of_the_predecessor() -> None:
    settings = replace(SETTINGS, template=PREDECESSOR, timeout_s=3600.0, output_folder="/scratch/100%")
    assert_golden("sbatch_template.sh", render(settings, JobShape(gpus=1, cpus=4)))


def test_a_template_keeps_the_shells_own_variables() -> None:
    text = render(replace(SETTINGS, template="export X=$HOME:${GPU}\nmodule load $(hostname)\n"), JobShape(gpus=3))
    assert "export X=$HOME:3\n" in text
    assert "module load $(hostname)\n" in text
    assert text.startswith("#!/bin/bash\n")
    assert text.rstrip().endswith("task.py '/data/train dir/my study/.runner/slurm/0001'"), "without $CMD it comes last"


def test_a_template_of_the_predecessor_may_escape_dollars() -> None:
    text = render(replace(SETTINGS, template="echo $$HOME\n$CMD\n"), JobShape())
    assert "echo $HOME\n" in text


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--array=0-3"], "'--array' is set by the runner (the runner makes the arrays)"),
        (["-o", "x.out"], "'-o' is set by the runner (use --slurm_workdir)"),
        (["--partition=x"], "'--partition' is set by the runner; use --slurm_partition"),
        (["--gres=gpu:a100:1"], "'--gres' is set by the runner; use --slurm_gpus_per_job=0"),
        (["--partion=x"], "sbatch has no option '--partion'. Did you mean '--partition'?"),
        (["reservation"], "sbatch has no option 'reservation'"),
    ],
)
def test_what_cannot_be_passed_on_is_told_in_one_line(words: Sequence[str], fault: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_settings(replace(SETTINGS, passed_on=words), [JobShape(), JobShape(gpus=1)])
    assert fault in str(caught.value)
    assert str(caught.value).startswith("--slurm_args: ")


def test_options_may_be_written_in_every_way() -> None:
    found = passed_on(["--exclusive", "--licenses=a:1", "-x", "n1", "--mail-type", "END", "--nice=-5"], {})
    assert found == {"exclusive": True, "licenses": "a:1", "exclude": "n1", "mail_type": "END", "nice": "-5"}


def test_what_is_not_set_may_be_passed_on() -> None:
    settings = ScriptSettings(job_name="s", folder="/w", command=["c"], passed_on=["--gres=gpu:a100:1", "--mem=1G"])
    check_settings(settings, [JobShape()])
    text = render_script(settings, JobShape(), batch="/b", num_tasks=1, throttle=0)
    assert "#SBATCH --gres=gpu:a100:1\n" in text
    assert "#SBATCH --mem=1G\n" in text


def test_a_line_break_cannot_end_an_option() -> None:
    with pytest.raises(UsageError, match="line break"):
        render(replace(SETTINGS, folder="/a\n#SBATCH --uid=root"), JobShape())
