"""What has to be sent, and sending it: a proposal that can be looked at, then job arrays through submitit."""

import contextlib
import dataclasses
import os
import secrets
import signal
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.helpers import DelayedSubmission, clean_env

from results.store import Store
from slurm import snapshot
from slurm.cluster import Cluster
from slurm.job import InProcess, Job
from slurm.packing import job_count, pack
from slurm.queue import NoAnswerError, ask
from slurm.status import statuses
from slurm.submission import Array, Submission, submissions
from sweeps.cell import Cell
from sweeps.claim import Claim
from sweeps.cost import estimated_seconds, total_parameters
from sweeps.listing import Listing
from sweeps.status import OPEN, CellStatus, State

LOCK_SECONDS = 120.0
"""How long one command waits for another that is submitting to the same runs."""


@dataclass(frozen=True)
class Batch:
    """Jobs that will be one array (or several, where the site's limit is lower): cells alike in what they need."""

    cluster: Cluster
    stage: int
    packs: tuple[tuple[Cell, ...], ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Proposal:
    """What a command will send, and what it will not.

    Attributes:
        batches: the jobs.
        skipped: cells that are left out, by state.
        speed: how many times faster than the estimates the cluster was so far, or what its file says.
    """

    batches: tuple[Batch, ...]
    skipped: Mapping[State, int]
    speed: float

    @property
    def jobs(self) -> int:
        """How many jobs."""
        return sum(len(batch.packs) for batch in self.batches)

    @property
    def cells(self) -> int:
        """How many cells."""
        return sum(len(cells) for batch in self.batches for cells in batch.packs)


def propose(cells: Sequence[Cell], store: Store, name: str, cluster: Cluster, retry_failed: bool = False) -> Proposal:
    """What is missing of these cells, packed into jobs. What a cell is pretrained from goes before it.

    Raises:
        NoAnswerError: if jobs were sent before and the queue cannot be asked: nothing may be sent twice.
    """
    wanted = _with_parents(cells)
    found = statuses(wanted, store)
    send = OPEN | ({State.FAILED} if retry_failed else set())
    todo = [status.cell for status in found if status.state in send]
    skipped = Counter(status.state for status in found if status.state not in send)
    speed = measured_speed(store, name) or cluster.speed
    missing = {cell.id for cell in todo}
    groups: dict[tuple[int, int], list[Cell]] = defaultdict(list)
    classes: list[Cluster] = []
    for cell in todo:
        sized = cluster.sized(total_parameters(cell))
        if sized not in classes:
            classes.append(sized)
        groups[_stage(cell, missing), classes.index(sized)].append(cell)
    batches = [_batch(group, classes[kind], stage, speed) for (stage, kind), group in sorted(groups.items())]
    return Proposal(tuple(batches), skipped, speed)


def _with_parents(cells: Sequence[Cell]) -> list[Cell]:
    """The cells, and before each what it is pretrained from, in their order and without repetition."""
    found: dict[str, Cell] = {}

    def add(cell: Cell) -> None:
        if cell.pretrained is not None:
            add(cell.pretrained)
        found.setdefault(cell.id, cell)

    for cell in cells:
        add(cell)
    return list(found.values())


def _stage(cell: Cell, missing: Collection[str]) -> int:
    """How many missing cells have to be trained, one after the other, before this one can begin."""
    if cell.pretrained is None:
        return 0
    return _stage(cell.pretrained, missing) + (cell.pretrained.id in missing)


def _batch(cells: Sequence[Cell], cluster: Cluster, stage: int, speed: float) -> Batch:
    costs = [estimated_seconds(cell) / speed / cluster.workers for cell in cells]
    limit = cluster.time_minutes * 60 - cluster.signal_seconds - 60
    jobs = job_count(costs, limit, cluster.throttle, cluster.least_minutes * 60)
    if cluster.executor != "slurm":
        jobs = min(jobs, cluster.throttle)
    runs = pack(costs, jobs)
    packs = tuple(tuple(cells[index] for index in run) for run in runs)
    return Batch(cluster, stage, packs, tuple(sum(costs[index] for index in run) for run in runs))


def measured_speed(store: Store, name: str) -> float | None:
    """Estimated over measured seconds of the cells that this cluster has trained so far: the median, None if none."""
    sent = [submission for submission in submissions(store) if submission.cluster == name]
    cells = {cell for submission in sent for array in submission.arrays for pack in array.packs for cell in pack}
    if not cells:
        return None
    import json

    done = store.read(cells).cells.filter(status="done")
    ratios = [
        estimated_seconds(Cell.from_config(json.loads(config))) / seconds
        for config, seconds in done.select("config", "seconds").iter_rows()
        if seconds > 0
    ]
    return statistics.median(ratios) if ratios else None
