"""Taking back what was sent. What has been trained stays: cells carry on from their checkpoints when sent again."""

import os
import signal
from collections.abc import Collection

from results.store import Store
from slurm.queue import NoAnswerError, ask, holders, look
from slurm.submission import submissions

_AT_ONCE = 200
"""Jobs named in one call of scancel."""


def cancel(cells: Collection[str], store: Store) -> list[str]:
    """Cancel every job that holds one of these cells, waiting or running; returns the jobs' ids.

    Raises:
        NoAnswerError: if the queue cannot be asked.
    """
    sent = submissions(store)
    queue = look(sent)
    if queue.silent is not None:
        raise NoAnswerError(queue.silent)
    found = holders(cells, sent, queue)
    for first in range(0, len(found["slurm"]), _AT_ONCE):
        ask("scancel", *found["slurm"][first : first + _AT_ONCE])
    for job_id in found["local"]:
        os.kill(int(job_id), signal.SIGINT)
    return [*found["slurm"], *found["local"]]
