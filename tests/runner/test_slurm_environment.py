"""Variables that change what Slurm's commands do or answer."""

from __future__ import annotations

from sf_runner.backends.slurm.environment import asking_environment, clean_environment, submitting_environment

USERS = {
    "HOME": "/h", "SLURM_CONF": "/c", "SLURM_JWT": "token", "SLURM_CLUSTERS": "other", "SQUEUE_PARTITION": "gpu",
    "SQUEUE_FORMAT": "%i", "SACCT_FORMAT": "User", "SCONTROL_FEDERATION": "1", "SCANCEL_INTERACTIVE": "1",
    "SINFO_PARTITION": "gpu", "SLURM_TIME_FORMAT": "relative", "SLURM_BITSTR_LEN": "3", "SBATCH_PARTITION": "gpu",
    "SBATCH_TIMELIMIT": "5", "SBATCH_MEM_PER_CPU": "1G", "SBATCH_QOS": "low", "SBATCH_CLUSTERS": "other",
}  # fmt: skip


def test_what_is_asked_is_answered_whole() -> None:
    assert asking_environment(clean_environment(USERS)) == {
        "HOME": "/h", "SLURM_CONF": "/c", "SLURM_JWT": "token", "SLURM_BITSTR_LEN": "0",
    }  # fmt: skip


def test_what_the_script_asks_for_counts_more_than_variables() -> None:
    script = "#!/bin/bash\n#SBATCH --partition=cpu\n#SBATCH --time=60\n#SBATCH --mem=4G\nexec x\n"
    env = submitting_environment(clean_environment(USERS), script)
    assert {name for name in env if name.startswith("SBATCH_")} == {"SBATCH_QOS"}
    plain = submitting_environment(clean_environment(USERS), "#!/bin/bash\nexec x\n")
    assert plain["SBATCH_PARTITION"] == "gpu"
    assert "SBATCH_CLUSTERS" not in plain, "the script names the cluster"
