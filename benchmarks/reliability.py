"""Run description: how often ours and Sample Factory 2.1.1 learn, 20 seeds of three tasks, side by side.

    PEER_VENV=/path/to/venv python -m sf_runner.run --run=benchmarks/reliability.py --max_parallel=1
    python -m sf_runner.report reliability_of_both --metric=true_reward
    python -m sf_runner.report reliability_of_both --metric=true_objective

Same environment, network, batch, epochs and learning rate on both sides, those of benchmarks/learning.py, with one core
for each training; the second report is Sample Factory's, which calls its score otherwise. The virtual environment is
that of benchmarks/learning.py (--peer_venv), which makes it.
"""

import os
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from learning import TASKS, Task

from sf_runner import Experiment, ParamGrid, RunDescription

_PEER = Path(os.environ.get("PEER_VENV", str(Path.home() / ".cache/sf_algo/peer_venv"))) / "bin" / "python"
_SEEDS = list(range(1, 21))
_NAMES = ("cartpole", "doom_basic", "doom_health_gathering")


def _experiment(side: str, name: str, task: Task) -> Experiment:
    common = [f"--env={task.env}", "--algo=APPO", "--device=cpu", f"--train_for_env_steps={task.frames}"]
    common += [f"--experiment_summaries_interval={task.interval_s}", *task.flags]
    if side == "ours":
        command, own, env = "python -m sf_algo.train_appo", task.ours, {}
    else:
        # With torch's own choice of threads its first iteration alone can take minutes where cores are few.
        command, own, env = f"{shlex.quote(str(_PEER))} -m {task.peer_module}", task.peer, {"OMP_NUM_THREADS": "1"}
    seeds = ParamGrid([("seed", _SEEDS)]).generate_params(randomize=False)
    return Experiment(f"{side}_{name}", f"{command} {shlex.join([*common, *own])}", seeds, env_vars=env)


RUN_DESCRIPTION = RunDescription(
    "reliability_of_both",
    experiments=[_experiment(side, name, TASKS[name]) for name in _NAMES for side in ("ours", "peer")],
    # Each side's programs know `--train_dir` and `--experiment`.
    experiment_dirs_sf_format=False,
    thresholds={
        **{f"ours_{name}@true_reward": TASKS[name].threshold for name in _NAMES},
        **{f"peer_{name}@true_objective": TASKS[name].threshold for name in _NAMES},
    },
)
