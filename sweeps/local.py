"""All cells of a plan on this machine: one worker process per core, one thread each."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from results.store import Store
from sweeps.cell import Cell
from sweeps.listing import Listing
from sweeps.status import OPEN, CellStatus, State, statuses
from sweeps.worker import NOTICE

POLL_SECONDS = 0.5


def run_local(
    cells: Sequence[Cell],
    store: Store,
    execution: dict[str, Any],
    workers: int | None = None,
    retry_failed: bool = False,
    watch: Callable[[list[CellStatus]], None] = lambda found: None,
    notify: Callable[[str], None] = lambda notice: None,
) -> list[CellStatus]:
    """Run what is not done yet and return where every cell stands in the end. What somebody else trains is waited for.

    Ctrl-C stops each worker at its next checkpoint and then raises `KeyboardInterrupt`; the next call carries on.

    Args:
        cells: in running order.
        store: where the cells live.
        execution: fields of `looplm.training.Execution`, passed on to the workers.
        workers: processes; by default one per core, and never more than there is work.
        retry_failed: whether cells that failed before are tried again.
        watch: called with the state of every cell twice a second.
        notify: called once for each different thing that the workers want the user to know.

    Raises:
        RuntimeError: if a worker died of something that is not a cell's own failure (its output is in the message).
    """
    found = statuses(cells, store)
    wanted = OPEN | {State.RUNNING} | ({State.FAILED} if retry_failed else set())
    todo = [status.cell for status in found if status.state in wanted]
    if not todo:
        return found
    folder = store.root / "local"
    folder.mkdir(parents=True, exist_ok=True)
    listing = folder / f"{os.getpid()}.json"
    Listing(todo, execution, retry_failed).write(listing)
    count = min(workers or len(os.sched_getaffinity(0)), len(todo))
    logs = [folder / f"{os.getpid()}.{index}.log" for index in range(count)]
    processes = [_start(listing, store.root, log) for log in logs]
    try:
        while any(process.poll() is None for process in processes):
            watch(statuses(cells, store))
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait()
        raise
    finally:
        listing.unlink()
    found = statuses(cells, store)
    watch(found)
    lines = [line for log in logs for line in log.read_text(errors="replace").splitlines()]
    for notice in sorted({line.removeprefix(NOTICE) for line in lines if line.startswith(NOTICE)}):
        notify(notice)
    for process, log in zip(processes, logs, strict=True):
        if process.returncode != 0:
            raise RuntimeError(
                f"a worker ended with exit code {process.returncode}: {_last_line(log)} (all of it: {log})"
            )
        log.unlink()
    return found


def _start(listing: Path, root: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "sweeps.worker", str(listing), str(root)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"
