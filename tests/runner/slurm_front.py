"""Slurm's commands as bad weather makes them: each call fails, is late, is answered twice or with an old answer, or is
killed once it has done its work, by chance from a seed.

Put `folder` before Slurm's own commands on PATH. With a `seed` of None nothing happens.
"""

from __future__ import annotations

import sys
from pathlib import Path

COMMANDS = ("sbatch", "squeue", "sacct", "scontrol", "scancel")

_FRONT = """\
#!{python} -IS
import fcntl, os, random, subprocess, sys, time

folder, name, real = {folder!r}, {name!r}, {real!r}
if {name!r} == "scontrol" and "requeue" in sys.argv[1:2]:
    os.execv(real, [real, *sys.argv[1:]])  # in a job: the user's commands are not there
with open(f"{{folder}}/count", "a+") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    file.seek(0)
    number = len(file.read())
    file.write(".")
seed = open(f"{{folder}}/seed").read()
rng = random.Random(f"{{seed}} {{number}} {{name}}")
fates = ["well", "late", "fails", "lost", "killed", "twice", "old", "banner"]
fate = rng.choices(fates, {weights})[0] if seed else "well"


def call(argv=sys.argv[1:]):
    return subprocess.run([real, *argv], capture_output=True)


def answer(done):
    sys.stdout.buffer.write(done.stdout)
    sys.stderr.buffer.write(done.stderr)
    sys.stdout.flush()
    sys.exit(done.returncode)


with open(f"{{folder}}/log", "a") as log:
    log.write(f"{{time.time():.3f}} {{number}} {{fate}} {{name}} {{' '.join(sys.argv[1:])}}\\n")
if fate == "fails":
    words = ["Unable to contact slurm controller (connect failure)", "Socket timed out on send/recv operation",
             "Protocol authentication error", "Zero Bytes were transmitted or received"]
    print(f"{{name}}: error: {{rng.choice(words)}}", file=sys.stderr)
    sys.exit(1)
if fate == "late":
    time.sleep(rng.random() * 3)
    answer(call())
if fate == "lost":  # it is done, and nobody is told; for sbatch a while later
    if name == "sbatch":
        script = f"sleep {{rng.random() * 8:.1f}}; exec {{real}} \\"$@\\""
        subprocess.Popen(["sh", "-c", script, "sh", *sys.argv[1:]], stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, close_fds=True, start_new_session=True)
    else:
        call()
    print(f"{{name}}: error: Socket timed out on send/recv operation", file=sys.stderr)
    sys.exit(1)
if fate == "killed":
    call()
    os.kill(os.getpid(), 9)
if fate == "twice":
    call()
    answer(call())
if fate == "old" and name == "squeue":
    try:
        sys.stdout.buffer.write(open(f"{{folder}}/old", "rb").read())
        sys.exit(0)
    except OSError:
        pass
if fate == "banner":
    print("*** The cluster is down for maintenance on the 24th of December ***")
done = call()
if name == "squeue" and not done.returncode:
    open(f"{{folder}}/old.{{os.getpid()}}", "wb").write(done.stdout)
    os.rename(f"{{folder}}/old.{{os.getpid()}}", f"{{folder}}/old")
answer(done)
"""

_WEIGHTS = {
    "sbatch": [4, 1, 1, 1, 1, 1, 0, 1],
    "squeue": [6, 1, 1, 0, 1, 0, 3, 1],
    "sacct": [6, 1, 2, 0, 1, 0, 0, 1],
    "scontrol": [6, 1, 1, 1, 1, 1, 0, 1],
    "scancel": [6, 1, 1, 1, 1, 1, 0, 1],
}
"""How often each fate happens; see the script."""


def put_up(folder: Path, path: str, seed: int | None) -> None:
    """Write the commands into `folder`; `path`: where the real ones are looked for."""
    folder.mkdir()
    (folder / "seed").write_text("" if seed is None else str(seed))
    for name in COMMANDS:
        real = next(found for part in path.split(":") if (found := Path(part) / name).exists())
        text = _FRONT.format(
            python=sys.executable, folder=str(folder), name=name, real=str(real), weights=_WEIGHTS[name]
        )
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
