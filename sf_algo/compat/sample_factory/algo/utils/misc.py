"""Names that projects use for how a training ended, and for keys of an info."""

from __future__ import annotations

EPS = 1e-8
EPISODIC = "episodic"
LEARNER_ENV_STEPS = "learner_env_steps"
SAMPLES_COLLECTED = "samples_collected"
TRAIN_STATS = "train"
TIMING_STATS = "timing"
STATS_KEY = "stats"


class ExperimentStatus:
    """Exit codes of `run_rl`."""

    SUCCESS, FAILURE, INTERRUPTED = 0, 1, 130
