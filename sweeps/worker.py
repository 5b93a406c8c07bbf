"""One worker process: takes the next cell of a list that nobody has, until none is left.

Run as `python -m sweeps.worker LIST STORE`, where LIST is a file written by `listing.py`. One
process, one thread: small models run slower on two. SIGINT and SIGTERM end the cell at the next chunk of steps with a
checkpoint; so does the death of the parent.
"""

import os
import signal
import sys
from pathlib import Path
from types import FrameType

EXIT_STOPPED = 130
NOTICE = "notice: "
"""What a line of output begins with that the user should see."""


def main(arguments: list[str]) -> int:
    """Work through the list; 0 if every cell ended (done or failed) or is somebody else's, 130 if stopped."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    from results.store import Store
    from sweeps.listing import Listing
    from sweeps.run import Outcome, local_execution, run_cell

    listing = Listing.read(Path(arguments[0]))
    store = Store(Path(arguments[1]))
    parent, stopping = os.getppid(), False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    for cell in listing.cells:
        outcome = run_cell(
            cell,
            store,
            local_execution(store, **listing.execution),
            should_stop=lambda: stopping or os.getppid() != parent,
            notify=lambda notice: print(f"{NOTICE}{notice}", flush=True),
            retry_failed=listing.retry_failed,
        )
        if stopping or outcome is Outcome.STOPPED:
            return EXIT_STOPPED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
