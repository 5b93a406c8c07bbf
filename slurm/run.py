"""Running cells on a cluster to their end: what `sweeps.local.run_local` does on this machine."""

import time
from collections.abc import Callable, Sequence

from results.store import Store
from slurm.cluster import Cluster
from slurm.propose import propose
from slurm.queue import STUCK
from slurm.send import alone, send
from slurm.status import statuses
from sweeps.cell import Cell
from sweeps.status import OPEN, CellStatus, State

POLL_SECONDS = 2.0

MOST_ROUNDS = 3
"""How often cells are sent that jobs left behind, with none ended in between."""


def run_on_cluster(
    cells: Sequence[Cell],
    store: Store,
    name: str,
    cluster: Cluster,
    title: str,
    tell: Callable[[str], None] = lambda line: None,
) -> list[CellStatus]:
    """Send what is missing, wait, and send again what jobs left behind; returns where every cell stands in the end.

    Interrupted, the jobs live on, and the same call waits for them again. `tell` hears of what is sent again, and of
    jobs that wait in vain.

    Raises:
        RuntimeError: if jobs leave cells behind again and again, with what is known of why.
    """
    rounds, left, told = 0, len(cells) + 1, set[str]()
    while True:
        with alone(store):
            proposal = propose(cells, store, name, cluster)
            if proposal.cells:
                send(proposal, store, title, name, tell=tell)
        found = statuses(cells, store)
        while any(status.state in (State.RUNNING, State.QUEUED) for status in found):
            for job in {status.job for status in found if status.job is not None and STUCK in status.job} - told:
                tell(f"job {job}: release it, or cancel it and it is sent again")
                told.add(job)
            time.sleep(POLL_SECONDS)
            found = statuses(cells, store)
        behind = [status for status in found if status.state in OPEN]
        if not behind:
            return found
        rounds, left = (1 if len(behind) < left else rounds + 1), len(behind)
        if rounds >= MOST_ROUNDS:
            raise RuntimeError(f"{left} cells were left behind {rounds} times in a row: {behind[0].error}")
        tell(f"sent again: {left} cells; {behind[0].error}")
