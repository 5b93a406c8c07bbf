"""One worker process: takes the next cell of a list that nobody has, until none is left.

Run as `python -m sweeps.worker LIST STORE`, where LIST is a file written by `listing.py`; `--then` names lists to help
with afterwards. One process, one thread: small models run slower on two. SIGINT and SIGTERM end the cell at the next
chunk of steps with a checkpoint; so does the death of the parent.
"""

import argparse
import math
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from results.store import Store
    from sweeps.listing import Listing

EXIT_STOPPED = 130
NOTICE = "notice: "
"""What a line of output begins with that the user should see."""

CLAIMED_SECONDS = 1.0
"""Pause before cells that somebody else had are looked at again."""


def run_listing(
    listing: "Listing", store: "Store", should_stop: "Callable[[], bool]" = lambda: False, patience: float = math.inf
) -> bool:
    """Bring every cell of a listing to its end, in order; False if `should_stop` ended that early.

    A cell that somebody else has, or whose pretrained cell somebody else has, is come back to until it has ended. After
    `patience` seconds in which nothing but that was left, the rest is somebody else's.
    """
    from sweeps.run import Outcome, local_execution, run_cell

    execution = local_execution(store, **listing.execution)
    left, idle_since = list(listing.cells), time.monotonic()
    while left and not should_stop():
        claimed = []
        for cell in left:
            outcome = run_cell(
                cell,
                store,
                execution,
                should_stop=should_stop,
                notify=lambda notice: print(f"{NOTICE}{notice}", flush=True),
                retry_failed=listing.retry_failed,
            )
            if outcome is not Outcome.ALREADY:
                print(f"{cell.id} {outcome}", flush=True)
            if outcome is Outcome.STOPPED or should_stop():
                return False
            if outcome is Outcome.CLAIMED:
                claimed.append(cell)
            else:
                idle_since = time.monotonic()
        left = claimed
        if time.monotonic() - idle_since >= patience:
            break
        if left:
            time.sleep(CLAIMED_SECONDS)
    return not should_stop()


def main(arguments: list[str]) -> int:
    """Work through the lists; 0 if every cell ended (done or failed) or is somebody else's, 130 if stopped."""
    parser = argparse.ArgumentParser(prog="python -m sweeps.worker")
    parser.add_argument("list", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("--patience", type=float, default=math.inf)
    parser.add_argument("--then", type=Path, nargs="*", default=[])
    chosen = parser.parse_args(arguments)
    parent, stopping = os.getppid(), False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    def should_stop() -> bool:
        return stopping or os.getppid() != parent

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    from results.store import Store
    from sweeps.listing import Listing

    store, listing = Store(chosen.store), Listing.read(chosen.list)
    finished = run_listing(listing, store, should_stop, chosen.patience)
    for path in chosen.then:
        finished = finished and run_listing(Listing.read(path), store, should_stop, patience=0.0)
    if listing.execution.get("devices", 1) > 1:
        # A process group whose other processes have died may keep its threads, and with them this process, for ever.
        sys.stdout.flush()
        os._exit(0 if finished else EXIT_STOPPED)
    return 0 if finished else EXIT_STOPPED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
