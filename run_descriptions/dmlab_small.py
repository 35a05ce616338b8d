"""One level of DMLab-30 on a small machine: collecting the good objects of a room, with 3 seeds.

    python -m sf_runner.run --run=run_descriptions.dmlab_small --max_parallel=1

2 million frames each. The level has a map of its own, so nothing has to be compiled; a random policy gets about 0.
"""

from sf_runner import Experiment, ParamGrid, RunDescription

_params = ParamGrid([("seed", [0, 1111, 2222])])

_experiments = [
    Experiment(
        "collect_good_objects",
        "python -m sf_algo.train_appo --env=dmlab_benchmark --train_for_env_steps=2000000 --algo=APPO --use_rnn=True "
        "--num_workers=2 --num_envs_per_worker=8 --rollout=32 --recurrence=32 --batch_size=512 --learning_rate=0.0003",
        _params.generate_params(randomize=False),
    ),
]

RUN_DESCRIPTION = RunDescription("dmlab_small", experiments=_experiments)
