"""The wrapper: what runs on the node, one process per Slurm task.

    python .../task.py <batch folder>

The wrapper is the parent of the task's experiments. It runs them side by side on the GPUs that Slurm gave, or one
after another. It writes their logs, their exit records and the task's own records (`task_records.py`), and ends what
they leave behind. It works without the runner:

- Orders of the runner to end an experiment are in a file. The wrapper reads it every 2 seconds, and at once on USR2.
- USR1 (`sbatch --signal`) or the wrapper's own clock says that the time is nearly over. The wrapper then sends TERM to
  the experiments, so that they save, and asks Slurm to queue the task again. The next start of the task runs them as
  their next attempts.
- Slurm sends TERM on preemption, scancel or a drained node. On most clusters TERM reaches the experiments directly. A
  canary process shows whether it did; if not, the wrapper passes TERM on.
- TERM may reach an experiment before it reaches the wrapper. If TERM killed an experiment, its end is therefore
  recorded a moment later, when the cause is known.

Only the standard library and parts of this package that need no more are imported.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # started by its path: the package is found from there, whatever the environment says
    sys.path[0] = str(Path(__file__).resolve().parents[3])

from sf_runner.backends.base import StopLevel
from sf_runner.backends.slurm import node
from sf_runner.backends.slurm.batches import BatchPaths, TaskJob, read_one_task
from sf_runner.backends.slurm.further import is_done, look_back
from sf_runner.backends.slurm.task_records import (
    BEAT_S,
    Beats,
    EndReason,
    JobHistory,
    NoRecords,
    RecordWriter,
    TaskHistory,
    read_history,
)
from sf_runner.backends.slurm.time_limit import Deadline
from sf_runner.backends.stopping import Stopper
from sf_runner.basics.clock import since_boot_s, steady_s
from sf_runner.basics.utf8 import restart_in_utf8
from sf_runner.linux.ending import Ending
from sf_runner.linux.exit_record import read_record, was_termed
from sf_runner.linux.job_parent import JobEnd, JobParent, SpawnRequest
from sf_runner.linux.kernel import TAG_VARIABLE, make_subreaper, reap
from sf_runner.linux.process_tools import make_tag, start_error

_TICK_S = 2.0
_LEFTOVER_GRACE_S = 5.0
_FORWARD_AFTER_S = 1.0
"""Slurm signals everything at once; after that much it is known whom it left out."""
_WAIT_FOR_KILL_S = 120.0
_NOT_OURS = 75
_AGAIN: tuple[EndReason, ...] = ("limit", "term", "lost")


class Wrapper:
    """One start of a task."""

    def __init__(self, batch: BatchPaths, index: int) -> None:
        self._paths, self._index = batch, index
        self._header, jobs = read_one_task(batch, index)
        self._history = TaskHistory()
        read_history(batch.records(index), self._history)
        self._records = RecordWriter(batch.records(index))
        self._unwritten: list[dict[str, Any]] = []
        self._wake_r, self._wake_w = os.pipe()
        self._signals: list[int] = []
        self._canary = 0
        self._stopper = Stopper(self._header.run_id)
        self._parent = JobParent(_LEFTOVER_GRACE_S, being_ended=self._being_ended, cause_wait_s=_FORWARD_AFTER_S)
        self._termed: Ending | None = None
        """Slurm has sent TERM, to all processes unless the canary shows otherwise."""
        self._waiting: list[tuple[TaskJob, int]] = []
        self._jobs = {job.job: job for job in jobs}
        self._running: dict[str, tuple[int, int]] = {}
        """Job -> attempt, position."""
        self._ends: list[tuple[JobEnd, float]] = []
        """Ends that are not recorded yet, and until when to wait for their cause."""
        self._reasons: dict[str, EndReason] = {}
        self._ending: EndReason = ""
        """Set once nothing is started any more."""
        self._forward_at = float("inf")
        self._deadline = Deadline(self._header, lambda: node.left_s(node.own_id(), self._header.cluster))
        self._orders_seen: object = None
        self._given = os.environ.get("CUDA_VISIBLE_DEVICES")
        self._codes: list[int] = []
        self._oom_kills = node.oom_kills()
        self._beats = Beats(batch.records(index), self._records, self._history.begins + 1)

    def run(self) -> int:
        """Until all experiments of the task have ended; 0 when all succeeded."""
        self._listen()
        make_subreaper()
        self._canary = node.start_canary()
        self._parent.spare(self._canary)
        try:
            self._begin()
            while not self._step():
                ready, _, _ = select.select([self._wake_r], [], [], self._timeout())
                if ready:
                    os.read(self._wake_r, 4096)
            again = self._queue_again() if self._ending == "limit" else False
        finally:
            if self._canary:
                with suppress(OSError):
                    os.kill(self._canary, signal.SIGKILL)
                    os.waitpid(self._canary, 0)
        if again:
            self._await_end()
        return 0 if not any(self._codes) else next(code for code in self._codes if code)

    def _listen(self) -> None:
        os.set_blocking(self._wake_r, False)
        os.set_blocking(self._wake_w, False)
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(signum, lambda number, _: self._signals.append(number))
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _begin(self) -> None:
        name, n = os.environ.get("SLURMD_NODENAME", os.uname().nodename), self._history.begins + 1
        self._say(e="begin", t=time.time(), n=n, array=node.own_array(), node=name, beat_s=BEAT_S)
        for job in self._jobs.values():
            self._resume(job)
        self._deadline.begin(steady_s())  # not before: the disk may have been slow

    def _resume(self, job: TaskJob) -> None:
        """Which attempt of the job is to run now, if any: the task may have been queued again."""
        earlier = self._history.jobs.get(job.job)
        if earlier is None or not earlier.last:
            self._waiting.append((job, job.attempt))
            return
        last = earlier.last
        end = earlier.ends.get(last)
        if end is None:
            record = read_record(job.exit_record, last)
            reason: EndReason = "" if record is not None and record.get("exit_code") == 0 else "lost"
            self._say_end(job.job, last, reason, record)
        else:
            reason = end.reason
        if reason in _AGAIN and not (end is not None and end.error):
            self._waiting.append((job, last + 1))

    # ---- one step ------------------------------------------------------------------------------------------

    def _step(self) -> bool:
        """Whether the task is over."""
        now = steady_s()
        self._write_again()
        if self._beats.is_replaced():
            self._fall_silent()
        self._take_signals(now)
        self._take_orders()
        if not self._ending and self._deadline.is_over(now):
            self._end_all("limit", now)
        if now >= self._forward_at:
            self._forward_at = float("inf")
            if reap(self._canary):
                self._canary = 0
            else:
                self._termed = None  # only this process had it
                self._stop_running(self._header.grace_s)
        self._stopper.send()
        self._ends += [(end, now + _FORWARD_AFTER_S) for end in self._parent.poll()]
        self._take_signals(now)  # those that came while it was looked who has ended
        self._say_why(now)
        self._stopper.poll(now)
        self._start_waiting()
        more = bool(self._waiting) and not self._ending
        return not (self._running or more or self._parent.busy or self._unwritten)

    def _fall_silent(self) -> None:
        """Another start of the task runs its experiments."""
        self._records, self._waiting, self._ending = NoRecords(), [], "lost"
        self._stop_running(0.0, "kill")

    def _timeout(self) -> float:
        now = steady_s()
        waits = [_TICK_S, self._deadline.at - now if not self._ending else _TICK_S, self._forward_at - now]
        waits += [until - now for _, until in self._ends]
        if (parent := self._parent.wait_s()) is not None:
            waits.append(parent)
        if (stop := self._stopper.next_wake()) is not None:
            waits.append(stop - now)
        return max(0.0, min(waits))

    def _take_signals(self, now: float) -> None:
        taken, self._signals = self._signals, []
        for signum in taken:
            if signum == signal.SIGUSR2:
                self._orders_seen = None
            elif signum == signal.SIGUSR1:
                if not self._ending and self._deadline.warned(now):
                    self._end_all("limit", now)
            else:
                self._end_all("term", now)

    def _end_all(self, why: EndReason, now: float) -> None:
        """Start nothing more; end what runs, unless TERM from Slurm already reaches it."""
        self._ending = self._ending or why
        for job in self._running:
            self._reasons.setdefault(job, why)
        if why == "term":
            self._forward_at = now + _FORWARD_AFTER_S
            grace_s = self._header.grace_s
            self._termed = self._termed or Ending(kill_at=now + grace_s, grace_s=grace_s, before=since_boot_s())
        else:
            self._stop_running(min(self._header.grace_s, 0.7 * self._deadline.ahead_s))

    def _being_ended(self, job: str, attempt: int) -> Ending | None:
        """How an experiment is being ended whose main process has ended and whose others have not."""
        return self._stopper.being_ended(job, attempt) or self._termed

    def _stop_running(self, grace_s: float, level: StopLevel = "terminate") -> None:
        pids = self._parent.live
        for job, (attempt, _) in self._running.items():
            if pid := pids.get(make_tag(self._header.run_id, job, attempt)):
                self._stopper.add(job, attempt, pid, level, grace_s)

    def _take_orders(self) -> None:
        path = self._paths.orders(self._index)
        try:
            status = path.stat()
            seen = (status.st_mtime_ns, status.st_ino)
            if seen == self._orders_seen and not self._ending:
                return
            orders = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return
        self._orders_seen = seen
        pids = self._parent.live
        for job, order in orders.items():
            if job in self._running:
                attempt = self._running[job][0]
                self._reasons[job] = "order"
                if pid := pids.get(make_tag(self._header.run_id, job, attempt)):
                    self._stopper.add(job, attempt, pid, order["level"], float(order["grace_s"]))
        kept = [(job, attempt) for job, attempt in self._waiting if job.job not in orders]
        for job, attempt in self._waiting:
            if job.job in orders:
                self._say_end(job.job, attempt, "order")
        self._waiting = kept

    # ---- experiments ---------------------------------------------------------------------------------------

    def _start_waiting(self) -> None:
        while self._waiting and not self._ending:
            taken = {position for _, position in self._running.values()}
            free = [position for position in range(self._header.side_by_side) if position not in taken]
            if not free:
                return
            job, attempt = self._waiting.pop(0)
            self._start(job, attempt, free[0])

    def _start(self, job: TaskJob, attempt: int, position: int) -> None:
        if not self._claim(job, attempt):
            return
        env = {**os.environ, **job.env, "SF_RUNNER_ATTEMPT": str(attempt)}
        env[TAG_VARIABLE] = make_tag(self._header.run_id, job.job, attempt)
        share = node.split_gpus(self._given, position, self._header.side_by_side)
        gpus = node.share_gpus(share, job.env.get("CUDA_VISIBLE_DEVICES"))
        if gpus is not None:
            env["CUDA_VISIBLE_DEVICES"] = gpus
        log = job.log(attempt)
        request = SpawnRequest(
            job=job.job, attempt=attempt, argv=job.argv, env=env, log=log, exit_record=job.exit_record
        )
        try:
            pid = self._parent.spawn(request)
        except (OSError, ValueError) as exc:
            error, permanent = start_error(job.argv[0], log, exc)
            self._codes.append(127)
            self._say_end(job.job, attempt, "error", error=error, oom=not permanent)
            return
        self._running[job.job] = (attempt, position)
        self._say(e="start", t=time.time(), job=job.job, attempt=attempt, pid=pid, gpus=gpus)

    def _claim(self, job: TaskJob, attempt: int) -> bool:
        """Whether it is ours to run. The runner may have given this task up, and submitted the attempt again."""
        mine = {"array": node.own_array(), "task": self._index, "batch": self._paths.name}
        try:
            holder = self._paths.claim_attempt(self._header.run_id, job.job, attempt, mine)
        except OSError as exc:
            self._codes.append(127)
            error = f"cannot write {self._paths.root.parent}/claims: {exc.strerror}"
            self._say_end(job.job, attempt, "error", error=error, oom=True)
            return False
        if all(holder.get(name) == value for name, value in mine.items()):
            return True
        self._say_end(job.job, attempt, "taken", by=holder)
        return False

    def _say_why(self, now: float) -> None:
        """Record ends. If TERM killed an experiment, wait a moment: the wrapper may be about to get TERM from Slurm."""
        ends, self._ends = self._ends, []
        for end, until in ends:
            if self._ending or end.job in self._reasons or now >= until or not was_termed(end.record):
                self._ended(end)
            else:
                self._ends.append((end, until))

    def _ended(self, end: JobEnd) -> None:
        del self._running[end.job]
        self._stopper.forget(end.job)
        reason = self._reasons.pop(end.job, "")
        code, signum = end.record.get("exit_code"), end.record.get("signal")
        self._codes.append(code if code is not None else 128 + (signum or 0))
        job = self._jobs[end.job]
        if reason in _AGAIN and code == 0 and is_done(job, end.attempt):
            reason = ""
        oom = signum == signal.SIGKILL and not reason and node.oom_kills() > self._oom_kills
        more: Mapping[str, Any] = {}
        if reason == "limit":
            earlier = self._history.jobs.get(end.job, JobHistory())
            more = look_back(job, end.attempt, end.record, earlier, self._deadline, self._paths.root.parents[2])
        self._say_end(end.job, end.attempt, reason, end.record, oom=oom, **more)
        if reason in _AGAIN and "error" not in more:
            self._waiting.append((job, end.attempt + 1))

    # ---- being queued again --------------------------------------------------------------------------------

    def _queue_again(self) -> bool:
        """Whether Slurm took the task back into its queue. If so, Slurm kills this process soon."""
        if not self._waiting:
            return False
        if self._history.requeues >= self._header.max_requeues:
            self._say(e="requeue", t=time.time(), error=f"--slurm_max_requeues={self._header.max_requeues} reached")
            return False
        self._say(e="requeue", t=time.time(), error="")
        error = node.ask_requeue(node.own_id(), self._header.cluster)
        if self._told_to_end():
            error = ""
        if error:
            self._say(e="requeue", t=time.time(), error=error)
        return not error

    def _told_to_end(self) -> bool:
        return signal.SIGTERM in self._signals

    def _await_end(self) -> None:
        until = steady_s() + _WAIT_FOR_KILL_S
        while not self._told_to_end() and steady_s() < until:
            select.select([self._wake_r], [], [], 1.0)

    # ---- what is written down ------------------------------------------------------------------------------

    def _say_end(
        self, job: str, attempt: int, told: EndReason, record: Mapping[str, Any] | None = None, **more: Any
    ) -> None:
        self._say(e="end", t=time.time(), job=job, attempt=attempt, record=record, told=told, **more)

    def _say(self, **body: Any) -> None:
        self._unwritten.append(body)
        self._write_again()

    def _write_again(self) -> None:
        """Write the records that are due. On a full disk they wait for the next call."""
        while self._unwritten:
            try:
                self._records.write(**self._unwritten[0])
            except OSError:
                return
            self._unwritten.pop(0)


def main() -> int:
    restart_in_utf8()
    batch = BatchPaths(root=Path(sys.argv[1]))
    if why := node.why_foreign(batch):
        print(f"nothing is run for {batch.root}: {why}", flush=True)
        return _NOT_OURS
    code = Wrapper(batch, int(os.environ["SLURM_ARRAY_TASK_ID"])).run()
    _remove_empty_output()
    return code


def _remove_empty_output() -> None:
    """Remove the script's output file if it is empty: it nearly always is, and there are thousands."""
    with suppress(OSError):
        path = os.readlink("/proc/self/fd/1")  # noqa: PTH115
        if os.fstat(1).st_size == 0 and os.path.isfile(path):  # noqa: PTH113
            os.unlink(path)  # noqa: PTH108


if __name__ == "__main__":
    sys.exit(main())
