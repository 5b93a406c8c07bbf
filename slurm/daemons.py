"""Daemons of the development cluster, known by their pid files. Standard library only."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path


def alive(pid_file: Path) -> bool:
    """Whether the process named in a file runs; one that has ended but was not yet reaped does not."""
    try:
        state = Path(f"/proc/{int(pid_file.read_text())}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return False
    return state not in "ZX"


def stop(pid_file: Path) -> None:
    """End the process named in a file, if it runs, and remove the file."""
    if alive(pid_file):
        process = int(pid_file.read_text())
        os.kill(process, signal.SIGTERM)
        deadline = time.monotonic() + 5
        while alive(pid_file) and time.monotonic() < deadline:
            time.sleep(0.05)
        if alive(pid_file):
            os.kill(process, signal.SIGKILL)
    pid_file.unlink(missing_ok=True)


def wait(condition: Callable[[], bool], otherwise: str, seconds: float = 60) -> None:
    """Wait until `condition` is true.

    Raises:
        RuntimeError: saying `otherwise`, if it does not become so in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(otherwise)
        time.sleep(0.1)
