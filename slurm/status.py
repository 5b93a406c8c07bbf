"""Where every cell stands, from anywhere: the run folders say it, and the queue explains what they do not."""

import dataclasses
from collections.abc import Collection

from results.store import Store
from slurm.queue import NoAnswerError, Queue, fate, look
from slurm.submission import Place, places, submissions
from sweeps.cell import Cell
from sweeps.status import OPEN, CellStatus, State
from sweeps.status import statuses as from_folders


def statuses(cells: Collection[Cell], store: Store, must_know: bool = False) -> list[CellStatus]:
    """The state of each cell, in order; one that lies in a job is queued, one that a job left behind says why.

    Raises:
        NoAnswerError: with `must_know`, if there may be jobs in a queue that cannot be asked.
    """
    sent = submissions(store)
    queue = look(sent)  # before the folders: what has left the queue has left its traces there
    if must_know and queue.silent is not None:
        raise NoAnswerError(queue.silent)
    found = from_folders(cells, store)
    where = places(sent)
    fates: dict[tuple[str, int, int], str] = {}
    return [_explained(status, where.get(status.cell.id, []), queue, fates) for status in found]


def _explained(
    status: CellStatus, sent: list[Place], queue: Queue, fates: dict[tuple[str, int, int], str]
) -> CellStatus:
    """A cell's state with what is known of its job; `fates` keeps what has been asked about jobs that ended."""
    if status.state not in OPEN or not sent:
        return status
    waiting = queue.waiting(sent)
    if waiting is not None:
        return dataclasses.replace(status, state=State.QUEUED, job=str(waiting))
    newest = sent[0]
    if queue.silent is not None and newest.submission.arrays[newest.array].cluster.executor == "slurm":
        return dataclasses.replace(status, error=f"sent as job {newest.job}; {queue.silent}")
    if newest.key not in fates:
        fates[newest.key] = fate(newest, queue)
    return dataclasses.replace(status, error=fates[newest.key])
