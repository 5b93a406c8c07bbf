"""What a job does with its workers, whose deaths and deafness are played by the shell."""

import os
import pickle
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from results.store import Store
from slurm import job
from slurm.cluster import load
from slurm.job import Job
from slurm.queue import Queue, fate
from slurm.submission import Array, Submission, places
from sweeps.run import MOST_DEATHS


class Scripted(Job):
    """A job whose workers are these scripts, one after the other."""

    def __init__(self, submission: Submission, *scripts: str) -> None:
        super().__init__(str(submission.folder), 0, 0)
        self.scripts: Iterator[str] = iter(scripts)

    def _start(self, submission: Submission) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(["sh", "-c", next(self.scripts)])


@pytest.fixture
def submission(tmp_path: Path) -> Submission:
    """One job with one cell, sent."""
    folder = Store(tmp_path).root / "slurm" / "sent"
    (folder / "ends").mkdir(parents=True)
    array = Array((("cell",),), load("devcluster"), stage=0, after=(), seconds=(1.0,), jobs=("7_0",))
    sent = Submission(folder, "test", "devcluster", code=folder, sent=0.0, host="here", arrays=(array,))
    sent.write()
    return sent


def told(submission: Submission) -> str:
    ((place,),) = places([submission]).values()
    return fate(place, Queue())


def test_a_worker_that_dies_is_started_again_however_it_died(
    submission: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "RESTART_SECONDS", (0.0, 0.0, 0.0))
    work = Scripted(submission, "exit 3", "kill -KILL $$", "kill -SEGV $$", "exit 0", "echo too many")
    assert work() is None  # so that submitit can always pickle it
    assert list(work.scripts) == ["echo too many"]
    assert told(submission) == "job 7_0 ended when all that was left was somebody else's"


def test_a_job_whose_workers_die_and_die_gives_up_and_says_why(
    submission: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(job.RESTART_SECONDS) >= MOST_DEATHS, "a cell that kills every worker must fail before its job gives up"
    monkeypatch.setattr(job, "RESTART_SECONDS", (0.0, 0.0))
    with pytest.raises(RuntimeError, match="a worker died 3 times and no cell ended in between, last of exit code 4"):
        Scripted(submission, "exit 3", "kill -KILL $$", "exit 4", "exit 0")()
    assert told(submission).startswith("job 7_0 gave up: a worker died 3 times")


def test_workers_that_were_told_to_stop_in_error_work_on(
    submission: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "VERDICT_SECONDS", 0.2)
    work = Scripted(submission, f"exit {job.EXIT_STOPPED}", "exit 0")
    began = time.monotonic()
    work()
    assert time.monotonic() - began > 0.2, "meanwhile SLURM may take the job away: it must not end as if it were done"
    assert list(work.scripts) == []


def test_a_worker_deaf_in_a_long_call_is_killed_in_time_for_the_job_to_be_queued_again(submission: Submission) -> None:
    (array,) = submission.arrays
    replace(submission, arrays=(replace(array, cluster=replace(array.cluster, signal_seconds=1)),)).write()
    deaf = subprocess.Popen(["sh", "-c", "trap '' TERM; echo deaf; exec sleep 60"], stdout=subprocess.PIPE)
    assert deaf.stdout is not None
    assert deaf.stdout.readline() == b"deaf\n"
    work = Job(str(submission.folder), 0, 0)
    work._workers = [deaf]
    began = time.monotonic()
    again = work.checkpoint()
    assert 0.5 <= time.monotonic() - began < 30
    assert deaf.wait() == -signal.SIGKILL
    deaf.stdout.close()
    assert vars(pickle.loads(pickle.dumps(again.function))) == vars(Job(str(submission.folder), 0, 0))


def test_a_job_that_cannot_be_checkpointed_ends_and_says_why(
    submission: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    """submitit calls `checkpoint` from its signal handler: what it raises comes up in the midst of the job's work."""
    work = Job(str(submission.folder), 0, 0)
    before = signal.signal(signal.SIGUSR2, lambda *_: work.checkpoint())

    def warned(_: Submission) -> None:
        (submission.folder / "submission.json").write_text("{")
        os.kill(os.getpid(), signal.SIGUSR2)

    monkeypatch.setattr(work, "_work", warned)
    try:
        with pytest.raises(ValueError, match="is no submission of this version"):
            work()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert "gave up" in told(submission)
    assert "is no submission of this version" in told(submission)


def test_signals_that_slurm_sends_to_all_of_a_job_do_not_reach_its_workers(
    submission: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os, signal; print(sorted(map(int, signal.pthread_sigmask(0, []))))"
    work, started = Job(str(submission.folder), 0, 0), list[subprocess.Popen[bytes]]()
    (submission.folder / "lists").mkdir()
    popen = subprocess.Popen

    def instead(command: list[str], env: dict[str, str]) -> "subprocess.Popen[bytes]":
        started.append(popen([command[0], "-c", code], env=env, stdout=subprocess.PIPE))
        return started[-1]

    monkeypatch.setattr(job.subprocess, "Popen", instead)
    said, _ = work._start(submission).communicate()
    assert said == f"[{signal.SIGUSR1:d}, {signal.SIGUSR2:d}]\n".encode()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set(), "ours are as before"
