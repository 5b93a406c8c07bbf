"""What a cluster starts: `python -m slurm.start ... FOLDER`, in front of submitit's own entry.

A pickle is a program, so submitit gets to read it only if it and its folder are this user's and nobody else can write
there. And what an earlier start of the same job left half-written is put right, which submitit would stumble over.
"""

import os
import runpy
import signal
import stat
import sys
import time
from pathlib import Path

PICKLE_SECONDS = 60.0
"""How long submitit's submitter may take to put a pickle in its place after the job has begun."""


def tidy(pickle: Path, result: Path) -> None:
    """Finish or remove what a start of this job that was killed left beside its pickles."""
    beside = pickle.with_suffix(".pkl.save_tmp")
    if beside.exists() and not pickle.exists():
        beside.rename(pickle)  # killed between removing the old pickle and renaming the new one, which is whole by then
    beside.unlink(missing_ok=True)
    result.with_suffix(".pkl.save_tmp").unlink(missing_ok=True)


def check_owner(pickle: Path) -> None:
    """Raise `PermissionError` unless the pickle and its folder belong to this user and nobody else may write there."""
    for path in (pickle.parent, pickle):
        found = path.stat()
        if found.st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to user {found.st_uid}; it must belong to {os.geteuid()} to be run")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(f"{path} can be written by others; it must not be, to be run")


def main() -> None:
    """Check, tidy, and hand over to submitit."""
    # Until submitit listens, its signal would kill the job for good; unheard, the job is merely not warned. Nobody
    # listens to a site's own SIGUSR1.
    for unheard in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(unheard, signal.SIG_IGN)
    import submitit

    os.environ["SUBMITIT_FOLDER"] = sys.argv[-1]
    paths = submitit.JobEnvironment().paths
    deadline = time.monotonic() + PICKLE_SECONDS
    tidy(paths.submitted_pickle, paths.result_pickle)
    while not paths.submitted_pickle.exists():
        if time.monotonic() > deadline:
            raise FileNotFoundError(f"{paths.submitted_pickle} did not appear within {PICKLE_SECONDS:g} s")
        time.sleep(0.2)
    check_owner(paths.submitted_pickle)
    sys.argv = [sys.argv[0], sys.argv[-1]]
    runpy.run_module("submitit.core._submit", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
