"""Which cells go into which job: pure functions of estimated seconds. Whatever they say, a claim decides who trains."""

import itertools
import math
from collections.abc import Sequence


def job_count(seconds: Sequence[float], job_seconds: float, at_once: int, least_seconds: float) -> int:
    """How many jobs cells of these costs are worth.

    Enough that none exceeds its time limit `job_seconds`, and as many as may run `at_once` if each then has at least
    `least_seconds` of work; never more than there are cells.
    """
    total = sum(seconds)
    side_by_side = at_once if least_seconds == 0 else min(at_once, math.ceil(total / least_seconds))
    return min(len(seconds), max(1, side_by_side, math.ceil(total / job_seconds)))


def pack(seconds: Sequence[float], jobs: int) -> list[range]:
    """Split cells, in their order, into at most `jobs` runs of neighbours whose longest is as short as can be.

    The order stays because it is seed-major: what a sweep loses when it is cut short is replicates, not arms.
    """
    if not seconds:
        return []
    low, high = max(seconds), math.fsum(seconds)
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        if len(_filled(seconds, middle)) <= jobs:
            high = middle
        else:
            low = middle
    return _filled(seconds, high)


def _filled(seconds: Sequence[float], capacity: float) -> list[range]:
    """Runs of neighbours, each filled up to `capacity` (a cell that is larger has a run of its own)."""
    starts, load = [0], 0.0
    for index, cost in enumerate(seconds):
        if load > 0 and load + cost > capacity * (1 + 1e-9):
            starts.append(index)
            load = 0.0
        load += cost
    return [range(start, stop) for start, stop in itertools.pairwise([*starts, len(seconds)])]


def turns(own: int, jobs: int) -> list[int]:
    """In which order a job looks for work in the packs of its array: its own, then those after it, round and round."""
    return [(own + step) % jobs for step in range(jobs)]
