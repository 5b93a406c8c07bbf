"""Packing as a pure function, and a simulated cluster whose jobs are preempted all the time."""

import heapq
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm.packing import job_count, pack, turns

COSTS = st.lists(st.floats(0.1, 1e4), min_size=1, max_size=30)


@given(COSTS, st.integers(1, 40))
def test_packs_are_runs_of_neighbours_that_hold_every_cell_once(costs: list[float], jobs: int) -> None:
    packs = pack(costs, jobs)
    assert [index for run in packs for index in run] == list(range(len(costs)))
    assert all(packs)
    assert len(packs) <= jobs


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 4))
def test_the_longest_pack_is_as_short_as_any_split_allows(costs: list[int], jobs: int) -> None:
    longest = max(sum(costs[index] for index in run) for run in pack(costs, jobs))
    cuts = (
        [0, *cut, len(costs)]
        for count in range(min(jobs, len(costs)))
        for cut in itertools.combinations(range(1, len(costs)), count)
    )
    best = min(max(sum(costs[a:b]) for a, b in itertools.pairwise(cut)) for cut in cuts)
    assert longest <= best * 1.002


@pytest.mark.parametrize(
    ("costs", "limit", "at_once", "least", "jobs"),
    [
        ([60.0] * 24, 14_000, 64, 600, 3),  # 24 minutes of work: three jobs of at least ten minutes
        ([3600.0] * 24, 14_000, 8, 600, 8),  # as many as run at once
        ([3600.0] * 240, 14_000, 8, 600, 62),  # more than run at once: none may exceed its limit
        ([6.0] * 24, 14_000, 8, 0, 8),
        ([6.0] * 3, 14_000, 8, 0, 3),
        ([90_000.0], 14_000, 8, 600, 1),
    ],
)
def test_as_many_jobs_as_the_work_is_worth(
    costs: list[float], limit: float, at_once: int, least: float, jobs: int
) -> None:
    assert job_count(costs, limit, at_once, least) == jobs


def test_a_job_begins_with_its_own_pack() -> None:
    assert turns(2, 4) == [2, 3, 0, 1]


@dataclass
class Simulated:
    """Jobs on slots, preempted at exponential times without warning; cells checkpoint on a clock. Times in seconds."""

    costs: Sequence[float]
    packs: list[range]
    slots: int
    limit: float
    mean_up: float
    start: float = 60.0
    checkpoint: float = 300.0
    seed: int = 0
    held: float = 0.0
    redone: float = 0.0
    done: dict[int, float] = field(default_factory=dict)

    def run(self) -> None:
        draw = np.random.default_rng(self.seed)
        queue, claimed, progress = deque(range(len(self.packs))), set[int](), [0.0] * len(self.costs)
        events: list[tuple[float, int, int, float, float]] = []  # when, job, cell, when the job must go, its due time
        now, free = 0.0, self.slots

        def take(job: int, at: float, until: float, due: float) -> bool:
            for turn in turns(job, len(self.packs)):
                for cell in self.packs[turn]:
                    if cell not in self.done and cell not in claimed:
                        claimed.add(cell)
                        end = at + self.costs[cell] - progress[cell]
                        heapq.heappush(events, (min(end, until, due), job, cell, until, due))
                        begun[job] = at
                        return True
            return False

        begun: dict[int, float] = {}
        started: dict[int, float] = {}
        while queue or events:
            while queue and free:
                job = queue.popleft()
                started[job] = now
                until = now + draw.exponential(self.mean_up)
                if until <= now + self.start:
                    self.held += until - now
                    queue.append(job)
                elif take(job, now + self.start, until, now + self.limit):
                    free -= 1
                else:
                    self.held += self.start
            if not events:
                continue
            now, job, cell, until, due = heapq.heappop(events)
            claimed.discard(cell)
            worked = now - begun[job]
            if progress[cell] + worked >= self.costs[cell] - 1e-6:
                assert cell not in self.done
                self.done[cell] = now
                if take(job, now, until, due):
                    continue
                free += 1
            else:
                kept = worked if now == due else worked - worked % self.checkpoint
                progress[cell] += kept
                self.redone += worked - kept
                queue.append(job)
                free += 1
            self.held += now - started[job]


def simulate(jobs: int, costs: Sequence[float]) -> Simulated:
    simulated = Simulated(costs, pack(costs, jobs), slots=64, limit=4 * 3600, mean_up=3600)
    simulated.run()
    return simulated


def waste(simulated: Simulated) -> float:
    """Time that jobs held slots beyond the work and what of it had to be done again, as a share of the work."""
    return (simulated.held - simulated.redone) / sum(simulated.costs) - 1


def test_a_cluster_that_preempts_all_the_time_loses_no_cell_and_little_time() -> None:
    costs = np.exp(np.random.default_rng(1).uniform(np.log(60), np.log(3600), 2000)).tolist()
    ours = simulate(job_count(costs, 4 * 3600, 64, 600), costs)
    assert len(ours.done) == len(costs)
    assert ours.redone > 0.01 * sum(costs)
    assert 0 < waste(ours) < 0.05
    assert waste(simulate(len(costs), costs)) > 1.5 * waste(ours)
