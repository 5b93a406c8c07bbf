"""What has to be sent: the missing cells of a list, grouped by what they need and packed into jobs."""

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from results.store import Store
from slurm.cluster import Cluster
from slurm.packing import job_count, pack
from slurm.queue import holders, look
from slurm.status import statuses
from slurm.submission import submissions
from sweeps.cell import Cell
from sweeps.cost import estimated_seconds, total_parameters
from sweeps.status import OPEN, State

SAMPLE = 200
"""Finished cells by which a cluster's speed is measured."""


@dataclass(frozen=True)
class Batch:
    """Jobs that will be one array (or several, where the site's limit is lower): cells alike in what they need.

    They begin after the batches of earlier stages, and `after` jobs that were sent before.
    """

    cluster: Cluster
    stage: int
    after: tuple[str, ...]
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
    found = statuses(wanted, store, must_know=True)
    send = OPEN | ({State.FAILED} if retry_failed else set())
    todo = [status.cell for status in found if status.state in send]
    skipped = Counter(status.state for status in found if status.state not in send)
    speed = measured_speed(store, name) or cluster.speed
    missing = {cell.id for cell in todo}
    under_way = {status.cell.id for status in found if status.state in (State.QUEUED, State.RUNNING)}
    groups: dict[tuple[int, bool, int], list[Cell]] = defaultdict(list)
    classes: list[Cluster] = []
    for cell in todo:
        sized = cluster.sized(total_parameters(cell))
        if sized not in classes:
            classes.append(sized)
        before = [parent.id for parent in _ancestors(cell)]
        key = len(missing.intersection(before)), not under_way.isdisjoint(before), classes.index(sized)
        groups[key].append(cell)
    batches = []
    for (stage, waits, kind), group in sorted(groups.items()):
        awaited = under_way.intersection(parent.id for cell in group for parent in _ancestors(cell))
        jobs = _jobs_of(awaited, store) if waits and cluster.executor == "slurm" else ()
        batches.append(_batch(group, classes[kind], stage, jobs, speed))
    return Proposal(tuple(batches), skipped, speed)


def _with_parents(cells: Sequence[Cell]) -> list[Cell]:
    """The cells, and before each what it is pretrained from, in their order and without repetition."""
    own = {cell.id: cell for cell in cells}
    found: dict[str, Cell] = {}
    for cell in cells:
        for one in (*reversed(_ancestors(cell)), cell):
            found.setdefault(one.id, own.get(one.id, one))
    return list(found.values())


def _ancestors(cell: Cell) -> list[Cell]:
    """What has to be trained before a cell, the last first."""
    return [] if cell.pretrained is None else [cell.pretrained, *_ancestors(cell.pretrained)]


def _jobs_of(cells: Collection[str], store: Store) -> tuple[str, ...]:
    """SLURM's jobs that hold these cells."""
    sent = submissions(store)
    return tuple(holders(cells, sent, look(sent))["slurm"])


def _batch(cells: Sequence[Cell], cluster: Cluster, stage: int, after: tuple[str, ...], speed: float) -> Batch:
    costs = [estimated_seconds(cell) / speed / cluster.workers / cluster.devices for cell in cells]
    limit = cluster.time_minutes * 60 - cluster.signal_seconds - 60
    jobs = job_count(costs, limit, cluster.throttle, cluster.least_minutes * 60)
    if cluster.executor != "slurm":
        jobs = min(jobs, cluster.throttle)
    runs = pack(costs, jobs)
    packs = tuple(tuple(cells[index] for index in run) for run in runs)
    return Batch(cluster, stage, after, packs, tuple(sum(costs[index] for index in run) for run in runs))


def measured_speed(store: Store, name: str) -> float | None:
    """Estimated over measured seconds of cells that this cluster has trained: the median of some, None if none."""
    sent = [submission for submission in submissions(store) if submission.cluster == name]
    cells = {cell for submission in sent for array in submission.arrays for pack in array.packs for cell in pack}
    if not cells:
        return None
    done = store.read(cells).cells.filter(status="done").tail(SAMPLE)
    ratios = [
        estimated_seconds(Cell.from_config(json.loads(config))) / seconds
        for config, seconds in done.select("config", "seconds").iter_rows()
        if seconds > 0
    ]
    return statistics.median(ratios) if ratios else None
