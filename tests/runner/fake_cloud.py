"""Two clouds in a folder: executables that behave like NVIDIA's `ngc batch` and Amazon's `aws batch`.

Flags are checked strictly, answers are JSON or tables as theirs, jobs really run (a shell each, in a session of its
own). Run as `python -I -S fake_cloud.py FOLDER ngc ARGUMENTS...`; the standard library only. In the folder:

  calls.jsonl      every call: {"argv": [...], "t": ...}
  jobs/<id>.json   a job as it was submitted;  jobs/<id>.pid, .code: its process, how it ended
  states/<id>      a state that the cloud insists on, e.g. PREEMPTED, whatever the process does; GONE: it knows of no
                   such job; HIDDEN: it is not listed, but known
  queue            when it exists, jobs stay queued
  faults.json      [{"on": "run", "times": 2, "code": 1, "says": "...", "after": true, "sleep_s": 0}]: calls that fail;
                   `after`: only once what was asked for has been done;  `prints`: instead of the answer
"""

import argparse
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path


class Cloud:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.jobs = self.folder / "jobs"
        self.states = self.folder / "states"
        for path in (self.jobs, self.states):
            path.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def locked(self):
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def log(self, argv):
        with self.locked(), (self.folder / "calls.jsonl").open("a") as file:
            file.write(json.dumps({"argv": argv, "t": time.time()}) + "\n")

    def fault(self, command, *, after):
        path = self.folder / "faults.json"
        with self.locked():
            faults = json.loads(path.read_text()) if path.exists() else []
            for fault in faults:
                if fault["on"] == command and fault.get("times", 1) > 0 and fault.get("after", False) == after:
                    fault["times"] = fault.get("times", 1) - 1
                    path.write_text(json.dumps(faults))
                    break
            else:
                return
        time.sleep(fault.get("sleep_s", 0))
        if "prints" in fault:
            print(fault["prints"])
            sys.exit(0)
        if fault.get("code", 1) is not None:
            print(fault.get("says", "Error: boom"), file=sys.stderr)
            sys.exit(fault.get("code", 1))

    def submit(self, name, command, **more):
        with self.locked():
            number = 4_000_000 + len(list(self.jobs.glob("*.json"))) + 1
            job = {"id": number, "name": name, "command": command, "created": time.time(), **more}
            self.write(self.jobs / f"{number}.json", json.dumps(job))
            self.start_queued()
        return job

    def start_queued(self):
        """The scheduler: jobs that have not started do so, unless the queue is held."""
        if (self.folder / "queue").exists():
            return
        for path in sorted(self.jobs.glob("*.json")):
            if path.with_suffix(".pid").exists() or path.with_suffix(".code").exists():
                continue
            job = json.loads(path.read_text())
            node = f"{job['command']}\n"
            code = path.with_suffix(".code")
            # Even if the test that started it is killed, a job does not run for ever.
            script = 'timeout --foreground 600 sh -c "$1"; c=$?; echo $c > "$2.tmp"; mv "$2.tmp" "$2"'
            process = subprocess.Popen(
                ["sh", "-c", script, "node", node, str(code)],
                stdin=subprocess.DEVNULL,
                stdout=path.with_suffix(".log").open("ab"),
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={"PATH": os.environ["PATH"], "NGC_JOB_ID": str(job["id"])},
            )
            self.write(path.with_suffix(".pid"), str(process.pid))
            process.returncode = 0  # it goes on without us

    def kill(self, number):
        """False when there is no such job or it has ended."""
        with self.locked():
            path = self.jobs / f"{number}.json"
            if not path.exists() or path.with_suffix(".code").exists():
                return False
            with contextlib.suppress(OSError, ValueError):
                os.killpg(int(path.with_suffix(".pid").read_text()), signal.SIGKILL)
            self.write(path.with_suffix(".code"), "killed")
            if self.read(self.states / str(number)) == "PREEMPTED":  # all others are final
                (self.states / str(number)).unlink()
        return True

    def all_jobs(self):
        with self.locked():
            self.start_queued()
            found = [json.loads(path.read_text()) for path in sorted(self.jobs.glob("*.json"))]
            return [(job, self.state(job)) for job in found]

    def state(self, job):
        path = self.jobs / f"{job['id']}.json"
        forced = self.states / str(job["id"])
        code = self.read(path.with_suffix(".code"))
        ended = path.with_suffix(".code").stat().st_mtime if code else None
        started = path.with_suffix(".pid").stat().st_mtime if path.with_suffix(".pid").exists() else None
        if forced.exists() and forced.read_text().strip() != "HIDDEN":
            status = forced.read_text().strip()
        elif code == "killed":
            status = "KILLED_BY_USER"
        elif code:
            status = "FINISHED_SUCCESS" if code == "0" else "FAILED"
        else:
            status = "RUNNING" if started else "QUEUED"
        exit_code = int(code) if code and code != "killed" else None
        if forced.exists() and forced.read_text().strip() == "HIDDEN":
            job["hidden"] = True
        return {"status": status, "exit_code": exit_code, "started": started, "ended": ended}

    @staticmethod
    def read(path):
        try:
            return path.read_text().strip()
        except FileNotFoundError:
            return ""

    @staticmethod
    def write(path, text):
        draft = path.with_suffix(path.suffix + ".draft")
        draft.write_text(text)
        draft.replace(path)


def stamp(t):
    return None if t is None else datetime.fromtimestamp(t, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.") + "000Z"


# ---- ngc ---------------------------------------------------------------------------------------------------


def ngc_parser():
    parser = argparse.ArgumentParser("ngc", allow_abbrev=False)
    batch = parser.add_subparsers(dest="group", required=True).add_parser("batch", allow_abbrev=False)
    commands = batch.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    common.add_argument("--format_type", choices=["ascii", "csv", "json"], default="ascii")
    for flag in ("--ace", "--org", "--team"):
        common.add_argument(flag)
    run = commands.add_parser("run", parents=[common], allow_abbrev=False)
    run.add_argument("-n", "--name")
    run.add_argument("-i", "--image", required=True)
    run.add_argument("-in", "--instance", required=True)
    run.add_argument("-c", "--commandline", required=True)
    run.add_argument("--result", required=True)
    run.add_argument("--preempt", choices=["RUNONCE", "RESTARTABLE", "RESUMABLE"])
    run.add_argument("--priority", choices=["LOW", "NORMAL", "HIGH"])
    run.add_argument("--total-runtime", type=duration)
    run.add_argument("--replicas", type=int)
    for flag in ("--workspace", "--datasetid", "--env-var", "--label", "--port"):
        run.add_argument(flag, action="append")
    listing = commands.add_parser("list", parents=[common], allow_abbrev=False)
    listing.add_argument("--duration", type=duration, default=7 * 86400)
    listing.add_argument("--status", action="append")
    info = commands.add_parser("info", parents=[common], allow_abbrev=False)
    info.add_argument("jobid")
    kill = commands.add_parser("kill", parents=[common], allow_abbrev=False)
    kill.add_argument("jobids")
    kill.add_argument("--reason")
    return parser


def duration(text):
    seconds, number = 0, ""
    for char in text.upper():
        if char.isdigit():
            number += char
        else:
            seconds += int(number) * {"D": 86400, "H": 3600, "M": 60, "S": 1}[char]
            number = ""
    if number or not seconds:
        raise argparse.ArgumentTypeError("Format: [nD][nH][nM][nS]")
    return seconds


def ngc_job(job, state):
    status = {"status": state["status"], "createdDate": stamp(job["created"]), "statusType": "OK", "statusDetails": ""}
    if state["started"]:
        status["startedAt"] = stamp(state["started"])
    if state["ended"]:
        status |= {"endedAt": stamp(state["ended"]), "statusDetails": job.get("details", "")}
    if state["exit_code"] is not None:
        status["exitCode"] = state["exit_code"]
    definition = {"name": job["name"], "command": job["command"], "dockerImageName": job["image"]}
    return {"aceId": 257, "id": job["id"], "jobDefinition": definition, "jobStatus": status, "submittedByUser": "Me"}


def ngc(cloud, argv):
    options = ngc_parser().parse_args(argv)
    cloud.fault(options.command, after=False)
    answer = {"run": ngc_run, "list": ngc_list, "info": ngc_info, "kill": ngc_kill}[options.command](cloud, options)
    cloud.fault(options.command, after=True)
    print(answer)


def ngc_run(cloud, options):
    if not options.name or len(options.name) > 128:
        sys.exit("Error: invalid job name")
    job = cloud.submit(options.name, options.commandline, image=options.image)
    state = {"status": "CREATED", "exit_code": None, "started": None, "ended": None}
    if options.format_type == "json":
        return json.dumps(ngc_job(job, state), indent=4)
    return f"----------------\n  Job Information\n    Id: {job['id']}\n    Name: {job['name']}\n----------------"


def ngc_list(cloud, options):
    since = time.time() - options.duration
    known = [pair for pair in cloud.all_jobs() if pair[1]["status"] != "GONE" and "hidden" not in pair[0]]
    jobs = [ngc_job(*pair) for pair in known if pair[0]["created"] >= since]
    if options.status:
        jobs = [job for job in jobs if job["jobStatus"]["status"] in options.status]
    if options.format_type == "json":
        return json.dumps(jobs, indent=4)
    return "\n".join(f"| {job['id']} | {job['jobDefinition']['name']} | {job['jobStatus']['status']} |" for job in jobs)


def ngc_info(cloud, options):
    for job, state in cloud.all_jobs():
        if str(job["id"]) == options.jobid and state["status"] != "GONE":
            return json.dumps(ngc_job(job, state), indent=4)
    print(f"Error: Job '{options.jobid}' could not be found.", file=sys.stderr)
    sys.exit(1)


def ngc_kill(cloud, options):
    lines, failed = [], False
    for job_id in options.jobids.split(","):
        if cloud.kill(int(job_id)):
            lines.append(f"Submitted job kill request for Job ID: '{job_id}'")
        else:
            failed = True
            print(f"Killing of job ID: '{job_id}' failed: Client Error: 412 Response: job has ended", file=sys.stderr)
    if failed:
        print("\n".join(lines))
        sys.exit(1)
    return "\n".join(lines)


# ---- aws ---------------------------------------------------------------------------------------------------

AWS_STATES = {
    "QUEUED": "RUNNABLE",
    "RUNNING": "RUNNING",
    "FINISHED_SUCCESS": "SUCCEEDED",
    "FAILED": "FAILED",
    "KILLED_BY_USER": "FAILED",
}


def aws(cloud, argv):
    parser = argparse.ArgumentParser("aws", allow_abbrev=False)
    commands = parser.add_subparsers(dest="group", required=True).add_parser("batch").add_subparsers(dest="command")
    submit = commands.add_parser("submit-job", allow_abbrev=False)
    for flag in ("--job-name", "--job-queue", "--job-definition"):
        submit.add_argument(flag, required=True)
    submit.add_argument("--container-overrides", type=json.loads, required=True)
    listing = commands.add_parser("list-jobs", allow_abbrev=False)
    listing.add_argument("--job-queue", required=True)
    listing.add_argument("--filters", required=True)
    end = commands.add_parser("terminate-job", allow_abbrev=False)
    for flag in ("--job-id", "--reason"):
        end.add_argument(flag, required=True)
    for command in (submit, listing, end):
        command.add_argument("--region")
        command.add_argument("--output", choices=["json"], required=True)
    options = parser.parse_args(argv)
    cloud.fault(options.command, after=False)
    if options.command == "submit-job":
        shell, flag, command = options.container_overrides["command"]
        assert (shell, flag) == ("bash", "-c")
        job = cloud.submit(options.job_name, command, image="")
        answer = {"jobArn": f"arn:aws:batch:job/{job['id']}", "jobName": job["name"], "jobId": f"uuid-{job['id']}"}
    elif options.command == "list-jobs":
        prefix = options.filters.removeprefix("name=JOB_NAME,values=").removesuffix("*")
        answer = {"jobSummaryList": [aws_job(*pair) for pair in cloud.all_jobs() if pair[0]["name"].startswith(prefix)]}
    else:
        cloud.kill(int(options.job_id.removeprefix("uuid-")))
        return
    print(json.dumps(answer, indent=4))


def aws_job(job, state):
    summary = {"jobId": f"uuid-{job['id']}", "jobName": job["name"], "createdAt": int(job["created"] * 1000)}
    summary["status"] = AWS_STATES.get(state["status"], state["status"])
    for ours, theirs in (("started", "startedAt"), ("ended", "stoppedAt")):
        if state[ours]:
            summary[theirs] = int(state[ours] * 1000)
    if state["exit_code"] is not None:
        summary["container"] = {"exitCode": state["exit_code"]}
        summary["statusReason"] = "Essential container in task exited"
    return summary


if __name__ == "__main__":
    the_cloud = Cloud(sys.argv[1])
    the_cloud.log(sys.argv[2:])
    {"ngc": ngc, "aws": aws}[sys.argv[2]](the_cloud, sys.argv[3:])
