"""What is in the queue: SLURM's, asked by squeue alone, and the processes of jobs that were sent to this machine.

sacct is asked only for why a job is gone, and need not work. Every question has a time limit: with no controller a
SLURM command blocks for long.
"""

import json
import socket
import subprocess
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from slurm.submission import COMMENT, Place, Submission, places

ANSWER_SECONDS = 20.0

_FAILED = ("BOOT_FAIL", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
_ENDED = frozenset({*_FAILED, "CANCELLED", "COMPLETED", "PREEMPTED", "REVOKED"})
"""States from which a job does not come back; whatever else SLURM may say, the job is still with it."""

STUCK = "it will not begin by itself"
"""What is said of a job that SLURM holds, as it does with one that could not be launched."""


class NoAnswerError(RuntimeError):
    """SLURM did not answer, or said that it cannot."""


def ask(*command: str) -> str:
    """Output of a SLURM command.

    Raises:
        NoAnswerError: naming the command and what went wrong.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except FileNotFoundError:
        raise NoAnswerError(f"{command[0]} is not installed here") from None
    except subprocess.TimeoutExpired:
        raise NoAnswerError(f"{command[0]} did not answer within {ANSWER_SECONDS:g} s") from None
    if done.returncode != 0:
        raise NoAnswerError(f"{command[0]}: {' '.join((done.stderr or done.stdout).split())}")
    return done.stdout


@dataclass(frozen=True)
class Job:
    """A job as the executor sees it: its id, SLURM's word for its state, and SLURM's reason where it waits."""

    id: str
    state: str
    reason: str = ""

    @property
    def ended(self) -> bool:
        """Whether it will do nothing more."""
        return self.state in _ENDED

    def __str__(self) -> str:
        stuck = self.state == "PENDING" and ("held" in self.reason.lower() or "Never" in self.reason)
        reason = f"{self.reason}; {STUCK}" if stuck else self.reason
        return f"{self.id} {self.state}" + (f" ({reason})" if reason else "")


@dataclass(frozen=True)
class Queue:
    """Jobs of submissions by (submission, array, index); those that ended a while ago are in it no more.

    Attributes:
        jobs: what is known.
        silent: why SLURM could not be asked, or None if it was.
    """

    jobs: dict[tuple[str, int, int], Job] = field(default_factory=dict)
    silent: str | None = None

    def waiting(self, places: Iterable[Place]) -> Job | None:
        """The first job at one of these places that has not ended."""
        found = (self.jobs.get(place.key) for place in places)
        return next((job for job in found if job is not None and not job.ended), None)


def look(sent: Collection[Submission]) -> Queue:
    """Where the jobs of these submissions are now."""
    executors = {array.cluster.executor for submission in sent for array in submission.arrays}
    jobs = _processes(sent) if "local" in executors else {}
    if "slurm" not in executors:
        return Queue(jobs)
    try:
        # Finished jobs are listed for some minutes; the reason comes last, for it may hold anything.
        lines = ask("squeue", "--me", "-h", "-r", "-t", "all", "-o", "%F|%K|%T|%k|%r").splitlines()
    except NoAnswerError as silent:
        return Queue(jobs, str(silent))
    names = {submission.name for submission in sent}
    for line in lines:
        array_job, task, state, comment, reason = line.split("|", 4)
        mark, _, rest = comment.partition(":")
        name, _, array = rest.partition(":")
        if mark == COMMENT and name in names and array.isdigit():
            number = int(task) if task.isdigit() else 0
            identity = f"{array_job}_{task}" if task.isdigit() else array_job
            jobs[name, int(array), number] = Job(identity, state, "" if reason == "None" else reason)
    return Queue(jobs)


def _processes(sent: Iterable[Submission]) -> dict[tuple[str, int, int], Job]:
    """Jobs of this machine whose process lives."""
    found = {}
    for submission in sent:
        for number, array in enumerate(submission.arrays if submission.host == socket.gethostname() else ()):
            if array.cluster.executor == "local":
                for index, pid in enumerate(array.jobs):
                    if _runs(pid, submission.jobs_folder):
                        found[submission.name, number, index] = Job(pid, "RUNNING")
    return found


def _runs(pid: str, folder: Path) -> bool:
    """Whether the process is still the one that serves this folder, and no other that got its number."""
    try:
        return str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def holders(cells: Collection[str], sent: Iterable[Submission], queue: Queue) -> dict[str, list[str]]:
    """Ids of the jobs that hold one of these cells and have not ended, by executor."""
    found: dict[str, list[str]] = {"slurm": [], "local": []}
    for cell, where in places(sent).items():
        for place in where if cell in cells else ():
            job = queue.jobs.get(place.key)
            if job is not None and not job.ended:
                known = found[place.submission.arrays[place.array].cluster.executor]
                known += [] if job.id in known else [job.id]
    return found


def fate(place: Place, queue: Queue) -> str:
    """What is known of how a job ended that left cells behind: its own words, else SLURM's, else its log's last."""
    if place.job is None:
        return "it was written down but not sent: the submitting command was refused or cut short"
    executor, host = place.submission.arrays[place.array].cluster.executor, place.submission.host
    if executor == "local" and host != socket.gethostname():
        return f"sent as process {place.job} of {host}, which cannot be asked here"
    end = place.submission.end_of(place.array, place.index)
    if end.exists():
        return f"job {place.job} {json.loads(end.read_text())['why']}"
    job = queue.jobs.get(place.key)
    said = job.state if job is not None else _from_accounting(place)
    log = place.submission.log_of(place.array, place.index, "err")
    lines = log.read_text(errors="replace").strip().splitlines() if log is not None and log.exists() else []
    parts = [f"job {place.job} ended without it", *([said] if said else []), *lines[-1:]]
    return ": ".join(parts)


def _from_accounting(place: Place) -> str:
    """The state that sacct remembers, where there is accounting."""
    if place.submission.arrays[place.array].cluster.executor != "slurm" or place.job is None:
        return ""
    try:
        return ask("sacct", "-n", "-X", "-P", "-j", place.job, "-o", "State").strip()
    except NoAnswerError:
        return ""
