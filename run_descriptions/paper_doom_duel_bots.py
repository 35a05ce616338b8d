"""The duel with a bot of Petrenko et al. 2020 (arXiv 2006.11751) with 4 seeds.

    python -m sf_algo.envs.doom.download_scenarios
    python -m sf_runner.run --run=run_descriptions.paper_doom_duel_bots --experiments_per_gpu=1 --num_gpus=2

4 billion frames each. The bot becomes better as the agent wins, so frags are to be read together with
`bot_difficulty`. Sample Factory 2 reports 55 frags in a match at the end.
"""

from sf_runner import Experiment, ParamGrid, RunDescription

_params = ParamGrid([("seed", [0, 1111, 2222, 3333])])

_experiments = [
    Experiment(
        "duel_bots_fs2",
        "python -m sf_algo.train_appo --env=doom_duel_bots --train_for_env_steps=4000000000 --algo=APPO "
        "--env_frameskip=2 --gamma=0.995 --reward_scale=0.5 --use_rnn=True --num_workers=36 --num_envs_per_worker=8 "
        "--num_policies=1 --ppo_epochs=1 --rollout=32 --recurrence=32 --batch_size=2048 --wide_aspect_ratio=False",
        _params.generate_params(randomize=False),
    ),
]

RUN_DESCRIPTION = RunDescription("paper_doom_duel_bots", experiments=_experiments)
