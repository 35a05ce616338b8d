"""Amazon Batch: `python -m sf_runner.run --run=my_study --runner=docs.examples.aws_batch:AwsBatch`.

The queue and the job definition, which names the image and its GPUs, come from the environment:
`export AWS_BATCH_QUEUE=my-queue AWS_BATCH_DEFINITION=sf-trainer`.
"""

import json
import os

from sf_runner.backends.cluster import Cluster, json_id, json_jobs


class AwsBatch(Cluster):
    name = "AWS Batch"
    states = {
        **dict.fromkeys(["SUBMITTED", "PENDING", "RUNNABLE", "STARTING"], "queued"),
        "RUNNING": "running",
        "SUCCEEDED": "succeeded",
        "FAILED": "failed",
    }

    def __init__(self):
        self.queue = os.environ.get("AWS_BATCH_QUEUE", "default")
        self.definition = os.environ.get("AWS_BATCH_DEFINITION", "sf-trainer")

    def submit(self, job):
        what = {"command": ["bash", "-c", job.command]}
        return self.aws(
            *("submit-job", "--job-name", job.name, "--job-queue", self.queue),
            *("--job-definition", self.definition, "--container-overrides", json.dumps(what)),
        )

    def read_id(self, output):
        return json_id(output, "jobId")

    def list(self, prefix, days):
        return self.aws("list-jobs", "--job-queue", self.queue, "--filters", f"name=JOB_NAME,values={prefix}*")

    def read_jobs(self, output):
        return json_jobs(
            output,
            jobs="jobSummaryList",
            id="jobId",
            name="jobName",
            state="status",
            details="statusReason",
            exit_code="container.exitCode",
            started="startedAt",
            ended="stoppedAt",
        )

    def kill(self, job_ids):
        return self.aws("terminate-job", "--job-id", job_ids[0], "--reason", "cancelled by sf_runner")

    def aws(self, *words):
        return ["aws", "batch", *words, "--output", "json"]
