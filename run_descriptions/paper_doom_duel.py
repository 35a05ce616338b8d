"""The duel in self-play of Petrenko et al. 2020 (arXiv 2006.11751): eight policies that play against each other and
learn from each other.

    python -m sf_algo.envs.doom.download_scenarios
    python -m sf_runner.run --run=run_descriptions.paper_doom_duel --experiments_per_gpu=1 --num_gpus=1
    python -m sf_algo.league --train_dir=train_dir/paper_doom_duel/duel_ --experiment=00_duel_see_0

2.5 billion frames for each policy. Policies are ranked by the share of the matches that they win, and one takes over
from another that wins 35 percentage points more. Milestones are the league's players afterwards.
"""

from sf_runner import Experiment, ParamGrid, RunDescription

_params = ParamGrid([("seed", [0])])

_experiments = [
    Experiment(
        "duel",
        "python -m sf_algo.train_appo --env=doom_duel --train_for_env_steps=20000000000 --algo=APPO "
        "--env_frameskip=2 --gamma=0.995 --reward_scale=0.5 --use_rnn=True --num_workers=72 --num_envs_per_worker=16 "
        "--num_policies=8 --ppo_epochs=1 --rollout=32 --recurrence=32 --batch_size=2048 --wide_aspect_ratio=False "
        "--with_pbt=True --pbt_period_env_steps=5000000 --pbt_start_mutation=20000000 --pbt_target_objective=win_rate "
        "--pbt_replace_reward_gap=0.5 --pbt_replace_reward_gap_absolute=0.35 --save_milestones_sec=1800",
        _params.generate_params(randomize=False),
    ),
]

RUN_DESCRIPTION = RunDescription("paper_doom_duel", experiments=_experiments)
