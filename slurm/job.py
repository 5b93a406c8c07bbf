"""What runs in a job: worker processes, the same as on a laptop, and one that looks after them and owns the signal.

submitit warns by SIGUSR2 before the job has to go, and asks for `checkpoint`: the workers are told to stop, each
leaves a checkpoint, and submitit queues the job again. SLURM's SIGTERM reaches the workers too (a preemption without
warning, a cancelled job): they stop, and what becomes of the job is SLURM's to say. Whatever is lost besides, the next
start finds in the cells' own folders.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from submitit.helpers import DelayedSubmission

from slurm.submission import Submission
from sweeps.claim import JOB_VARIABLE
from sweeps.files import write_atomically
from sweeps.listing import Listing
from sweeps.worker import EXIT_STOPPED

POLL_SECONDS = 0.2
RESTART_SECONDS = (1.0, 5.0, 20.0, 60.0)
"""Pauses before a worker that died is started again; with none left, and no cell ended in between, the job gives up.

More than the deaths after which a cell counts as failed (`sweeps.run.MOST_DEATHS`): one bad cell stops no others.
"""

VERDICT_SECONDS = 300.0
"""How long workers that SLURM has told to stop stay stopped. If the job is alive then, they were told in error."""

_NOT_FOR_WORKERS = {signal.SIGUSR1, signal.SIGUSR2}
"""Signals that SLURM sends to every process of a job and that this one answers for all."""


class Job:
    """One job, as submitit pickles it: nothing but names."""

    def __init__(self, folder: str, array: int, index: int) -> None:
        self.folder, self.array, self.index = folder, array, index
        self._workers: list[subprocess.Popen[bytes]] = []

    def checkpoint(self) -> DelayedSubmission:
        """Stop the workers at their next checkpoint; what is left to do is what this job was, from the beginning."""
        submission = Submission.read(Path(self.folder))
        self._stop(submission.arrays[self.array].cluster.signal_seconds / 2)
        return DelayedSubmission(Job(self.folder, self.array, self.index))

    def __call__(self) -> None:
        """Work until nothing is left for this job, and note how it ended."""
        submission = Submission.read(Path(self.folder))
        end = submission.end_of(self.array, self.index)
        end.unlink(missing_ok=True)
        try:
            self._work(submission)
        except Exception as error:
            write_atomically(end, json.dumps({"why": f"gave up: {' '.join(str(error).split())}"}))
            raise
        finally:
            self._stop(1.0)
        write_atomically(end, json.dumps({"why": "ended when all that was left was somebody else's"}))

    def _work(self, submission: Submission) -> None:
        deaths, ended = 0, self._ended(submission)
        count = submission.arrays[self.array].cluster.workers
        self._workers = [self._start(submission) for _ in range(count)]
        while self._workers:
            time.sleep(POLL_SECONDS)
            codes = [worker.poll() for worker in self._workers]
            if EXIT_STOPPED in codes:
                _say("SLURM has told the workers to stop; waiting for what it does with this job")
                self._stop(VERDICT_SECONDS)
                time.sleep(VERDICT_SECONDS)
                self._workers = [self._start(submission) for _ in range(count)]
                continue
            for worker, code in list(zip(self._workers, codes, strict=True)):
                if code is None:
                    continue
                self._workers.remove(worker)
                if code != 0:
                    now = self._ended(submission)
                    deaths, ended = (deaths + 1 if now == ended else 1), now
                    self._after_death(code, deaths)
                    self._workers.append(self._start(submission))

    def _after_death(self, code: int, deaths: int) -> None:
        """Pause before a worker is started again, or raise if that has been tried enough."""
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        _say(f"a worker died of {how}")
        if deaths > len(RESTART_SECONDS):
            raise RuntimeError(f"a worker died {deaths} times and no cell ended in between, last of {how}")
        time.sleep(RESTART_SECONDS[deaths - 1])

    def _ended(self, submission: Submission) -> int:
        """How many cells of this job are done or failed."""
        pack = submission.arrays[self.array].packs[self.index]
        return sum(submission.store.status(cell) is not None for cell in pack)

    def _start(self, submission: Submission) -> subprocess.Popen[bytes]:
        own, *others = submission.lists_for(self.array, self.index)
        patience = 60 * submission.arrays[self.array].cluster.patience_minutes
        command = [sys.executable, "-m", "sweeps.worker", str(own), str(submission.store.root)]
        command += ["--patience", str(patience), "--then", *map(str, others)]
        name = f"{submission.name}/{self.array}-{self.index}"
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_WORKERS)
        try:
            return subprocess.Popen(command, env={**os.environ, JOB_VARIABLE: name})
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _stop(self, seconds: float) -> None:
        """Ask every worker to stop at its next checkpoint, and kill those that have not within `seconds`."""
        deadline = time.monotonic() + seconds
        for worker in self._workers:
            if worker.poll() is None:
                worker.terminate()
        for worker in self._workers:
            try:
                worker.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        self._workers = []


def _say(line: str) -> None:
    """Put a line into the job's log, where there is room for it: a full disk must not end the job."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


class InProcess(Job):
    """The same in this very process, where a debugger can follow."""

    def _work(self, submission: Submission) -> None:
        from sweeps.worker import run_listing

        for path in submission.lists_for(self.array, self.index):
            run_listing(Listing.read(path), submission.store)
