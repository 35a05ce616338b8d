"""What Slurm's commands say, as Slurm 22.05 prints it, and what is made of it."""

from __future__ import annotations

import pytest

from sf_runner.backends.slurm.refusals import Kind, complaint, sort_refusal

POLICY = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"  # noqa: E501
MUNGE = (
    "{0}: error: If munged is up, restart with --num-threads=10\n"
    '{0}: error: Munge encode failed: Failed to access "/run/munge/munge.socket.2": No such file or directory\n'
    "{0}: error: slurm_send_node_msg: auth_g_create: REQUEST has authentication error\n"
)
FAILED = "sbatch: error: Batch job submission failed: "


@pytest.mark.parametrize(
    ("stderr", "kind", "remedy"),
    [
        # Nobody answers: whichever command was asked.
        (MUNGE.format("sbatch") + FAILED + "Protocol authentication error\n", "down", ""),
        (MUNGE.format("squeue") + "slurm_load_jobs error: Protocol authentication error\n", "down", ""),
        (MUNGE.format("sacct") + "sacct: error: Sending PersistInit msg: Protocol authentication error", "down", ""),
        (MUNGE.format("scontrol") + "Unexpected message received for job 5", "down", ""),
        (FAILED + "Invalid authentication credential", "down", ""),
        (FAILED + "Socket timed out on send/recv operation", "down", ""),
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", "down", ""),
        ("scancel: error: Kill job error on job id 5: Socket timed out on send/recv operation", "down", ""),
        ("Unexpected message received for job 5", "down", ""),
        (FAILED + "Slurm backup controller in standby mode", "down", ""),
        (FAILED + "Zero Bytes were transmitted or received", "down", ""),
        ("sacct: error: slurm_persist_conn_open: Connection refused", "down", ""),
        ("squeue: fatal: Could not establish a configuration source", "down", ""),
        # Limits on submitted jobs, and limits on what one job may ask for, come with the same sentence.
        ("sbatch: error: AssocMaxSubmitJobLimit\n" + POLICY, "limit", "--slurm_experiments_per_job"),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit\n" + POLICY, "limit", "limit on submitted jobs"),
        ("sbatch: error: QOSGrpSubmitJobsLimit\n" + POLICY, "limit", "limit on submitted jobs"),
        ("sbatch: error: QOSMaxWallDurationPerJobLimit\n" + POLICY, "permanent", "--slurm_time"),
        ("sbatch: error: QOSMaxGRESPerJob\n" + POLICY, "permanent", "--slurm_gpus_per_job"),
        (POLICY, "policy", "what one job asks for"),
        (FAILED + "Resource temporarily unavailable", "limit", "jobs in all"),
        (FAILED + "Invalid job array specification", "size", "MaxArraySize"),
        # As things are.
        (FAILED + "Required partition not available (inactive or drain)", "later", "--slurm_partition"),
        ("allocation failure: Requested node configuration is not available", "unknown", "none has"),
        ("sbatch: error: lua: your project is out of coffee\n" + FAILED + "Unspecified error", "unknown", ""),
        # At fault.
        ("sbatch: error: invalid partition specified: x\n" + FAILED + "Invalid partition name specified", "permanent",
         "--slurm_partition"),
        (FAILED + "Invalid account or account/partition combination specified", "permanent", "--slurm_account"),
        (FAILED + "Invalid qos specification", "permanent", "--slurm_qos"),
        ("sbatch: error: Invalid generic resource (gres) specification", "permanent", "--slurm_gpus_per_job"),
        (FAILED + "Invalid feature specification", "permanent", "--slurm_constraint"),
        (FAILED + "Requested reservation is invalid", "permanent", "--slurm_args"),
        (FAILED + "Requested time limit is invalid (missing or exceeds some limit)", "permanent", "--slurm_time"),
        (FAILED + "Memory required by task is not available", "permanent", "--slurm_mem"),
        ("sbatch: unrecognized option '--nope'", "permanent", "--slurm_args"),
        ("sbatch: error: This does not look like a batch script.", "permanent", "--slurm_sbatch_template"),
        (FAILED + "User's group not permitted to use this partition", "permanent", "--slurm_partition"),
        ("Access/permission denied for job 7", "permanent", "does not permit"),
        ("sacct: error: Slurm accounting storage is disabled", "permanent", "no accounting"),
        # Over.
        ("Invalid job id specified for job 99999", "gone", ""),
        ("scancel: error: Kill job error on job id 5: Job/step already completing or completed", "gone", ""),
    ],
)  # fmt: skip
def test_refusals_are_sorted_by_what_follows_from_them(stderr: str, kind: Kind, remedy: str) -> None:
    refusal = sort_refusal(stderr)
    assert refusal.kind == kind
    assert remedy in refusal.remedy
    assert "\n" not in refusal.line


def test_what_says_nothing_is_told_by_its_exit_code() -> None:
    assert sort_refusal("", "sbatch: exit code 3").line == "sbatch: exit code 3"


def test_complaints_are_one_line_and_nothing_twice() -> None:
    assert complaint("sbatch: error: a\nsbatch: fatal: b\n\nsbatch: error: a\n") == "a; b"
    assert complaint("sbatch: error: AssocMaxSubmitJobLimit\n" + POLICY) == "AssocMaxSubmitJobLimit"
    assert (
        complaint("slurm_load_jobs error: Unable to contact slurm controller") == "Unable to contact slurm controller"
    )
    assert complaint("allocation failure: Invalid qos specification") == "Invalid qos specification"
    assert complaint("no colon here") == "no colon here"
