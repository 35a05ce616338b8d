from __future__ import annotations

import sys

from sf_algo.compat.sample_factory.algo.runners.runner import AlgoObserver
from sf_algo.compat.sample_factory.algo.utils.context import global_model_factory
from sf_algo.compat.sample_factory.algo.utils.misc import ExperimentStatus
from sf_algo.compat.sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args
from sf_algo.compat.sample_factory.envs.env_utils import register_env
from sf_algo.compat.sample_factory.train import make_runner, run_rl
from sf_algo.compat.sample_factory.utils.utils import str2bool
from tests.algo.moved_project.envs import make_flock
from tests.algo.moved_project.models import make_encoder


def register():
    register_env("flock", make_flock)
    global_model_factory().register_encoder_factory(make_encoder)


def add_args(env, parser):
    parser.add_argument("--flock_num_agents", default=2, type=int, help="birds")
    parser.add_argument("--flock_speed", default=1, type=float, help="100%% is 1")
    parser.add_argument("--flock_wind", default=False, type=str2bool)
    parser.add_argument("--flock_mode", default="calm", choices=["calm", "wild"], type=str)
    parser.add_argument("--flock_sizes", default=[3, 4], nargs="+", type=int)
    parser.add_argument("--flock_anneal_steps", default=0.0, type=float)
    parser.add_argument("--flock_verbose", action="store_true")
    parser.add_argument("--flock_table", default="{}", type=eval)


def override_defaults(env, parser):
    parser.set_defaults(rnn_size=32, encoder_subtype="mlp_flock", env_frameskip=2, use_rnn=False, no_such_flag=7)


def parse(argv=None, evaluation=False):
    parser, partial_cfg = parse_sf_args(argv=argv, evaluation=evaluation)
    add_args(partial_cfg.env, parser)
    override_defaults(partial_cfg.env, parser)
    return parse_full_cfg(parser, argv)


class CountingObserver(AlgoObserver):
    def on_start(self, runner):
        print("observer: start")

    def on_training_step(self, runner, training_iteration_since_resume):
        self.iterations = training_iteration_since_resume

    def extra_summaries(self, runner, policy_id, env_steps, summary_writer):
        summary_writer.add_scalar("flock/steps_seen", max(runner.policy_avg_stats["steps_seen"][policy_id]), env_steps)

    def on_stop(self, runner):
        print(f"observer: {self.iterations} iterations, {runner.env_steps[0]} frames")


def main():
    register()
    if "--flock_verbose" not in sys.argv:
        return run_rl(parse())
    _, runner = make_runner(parse())
    runner.register_observer(CountingObserver())
    runner.register_episodic_stats_handler(lambda runner, message, policy: message["episodic"]["episode_extra_stats"])
    status = runner.init()
    return runner.run() if status == ExperimentStatus.SUCCESS else status


if __name__ == "__main__":
    sys.exit(main())
