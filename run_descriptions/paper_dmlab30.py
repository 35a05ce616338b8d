"""DMLab-30 with a population of four policies, as in Petrenko et al. 2020 (arXiv 2006.11751).

    python -m sf_algo.envs.dmlab.populate_cache --env=dmlab_30 --for_frames=10e9
    python -m sf_runner.run --run=run_descriptions.paper_dmlab30 --max_parallel=1 --num_gpus=4

10 billion frames on a machine with 36 cores and 4 GPUs. It needs the package deepmind_lab and the photographs of
docs/dmlab.md. Filling the cache first takes days, but the training spends them anyway where it has to do it itself.
"""

from sf_runner import Experiment, RunDescription

_experiments = [
    Experiment(
        "dmlab_30_resnet_4pbt_w90_v12",
        "python -m sf_algo.train_appo --env=dmlab_30 --train_for_seconds=3600000 --algo=APPO --gamma=0.99 "
        "--use_rnn=True --num_workers=90 --num_envs_per_worker=12 --ppo_epochs=1 --rollout=32 --recurrence=32 "
        "--batch_size=2048 --benchmark=False --max_grad_norm=0.0 --dmlab_renderer=software "
        "--decorrelate_experience_max_seconds=120 --reset_timeout_seconds=300 --encoder_custom=dmlab_instructions "
        "--encoder_type=resnet --encoder_subtype=resnet_impala --encoder_extra_fc_layers=1 --hidden_size=256 "
        "--nonlinearity=relu --rnn_type=lstm --dmlab_extended_action_set=True --num_policies=4 "
        "--pbt_replace_reward_gap=0.05 --pbt_replace_reward_gap_absolute=5.0 --pbt_period_env_steps=10000000 "
        "--pbt_start_mutation=100000000 --with_pbt=True --dmlab_one_task_per_worker=True "
        "--set_workers_cpu_affinity=True --max_policy_lag=35 --pbt_target_objective=dmlab_target_objective",
    ),
]

RUN_DESCRIPTION = RunDescription("paper_dmlab30", experiments=_experiments)
