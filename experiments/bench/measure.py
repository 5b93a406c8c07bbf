"""What every benchmark shares: sides timed in turn in one process, peak memory, and the row that says what came out."""

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

from looplm.execution import DeviceName


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        device: `cpu` or `cuda`.
        repeats: times each side runs; the median is reported.
        quick: tiny cases alone, which show that the benchmark runs and nothing else.
        only: cases whose name contains this.
        ouro: a folder with Ouro's public code, for `train`.
    """

    device: DeviceName = "cpu"
    repeats: int = 5
    quick: bool = False
    only: str = ""
    ouro: str | None = None


CaseType = TypeVar("CaseType")


def chosen(cases: Iterable[CaseType], options: Options) -> list[CaseType]:
    """The cases that `options.only` asks for; a `ValueError` where there is none."""
    cases = list(cases)
    found = [case for case in cases if options.only in str(case)]
    if not found:
        raise ValueError(f"--only is {options.only!r}; it must be part of one of: {'; '.join(map(str, cases))}")
    return found


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        bench: name of the benchmark.
        case: the sizes; the same for all its sides.
        side: what was measured, `roofline` for what the arithmetic asks at least of every side, or `limit` for what
            we allow.
        metric: `time`, `processor time`, `speed`, `peak memory`, `work`, `traffic`, `accuracy`, `mean depth` or
            `deviation of depth`.
        median: over the repeats, or the computed number.
        unit: of the median.
        ratio: ours against this side, above 1 where ours is better; None where nothing is compared. For times and
            speeds it is the median of the ratios of each repeat, in which both sides ran one after the other.
    """

    bench: str
    case: str
    side: str
    metric: str
    median: float
    unit: str
    ratio: float | None


def roofline_rows(bench: str, case: str, flops: int, traffic: int, side: str = "roofline") -> Iterator[Row]:
    """FLOPs and bytes that one of what is timed asks of the machine at least."""
    yield Row(bench, case, side, "work", flops / 1e9, "GFLOP", None)
    yield Row(bench, case, side, "traffic", traffic / 1e6, "MB", None)


Sides = Mapping[str, Callable[[], object]]
"""What is compared, by name; ours comes first."""


def clock(device: str) -> Callable[[], float]:
    """What tells seconds: on one thread of a CPU those that the process was on a core, else those of the wall.

    A process of one thread that waits, waits for other processes, which would slow down one side more than the other.
    """
    return time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def seconds(work: Callable[[], object], device: str) -> float:
    """Seconds that `work` takes by `clock`, until the device has finished."""
    now = clock(device)
    began = now()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return now() - began


def paired_seconds(sides: Sides, repeats: int, device: str) -> dict[str, list[float]]:
    """Seconds of each side in each repeat. Every side runs once unmeasured; every repeat runs all, in turned order."""
    for work in sides.values():
        seconds(work, device)
    taken: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for repeat in range(repeats):
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            taken[name].append(seconds(sides[name], device))
    return taken


def time_rows(bench: str, case: str, taken: Mapping[str, list[float]]) -> Iterator[Row]:
    """A row of milliseconds for each side."""
    ours = next(iter(taken.values()))
    for side, seconds in taken.items():
        ratio = statistics.median(theirs / mine for theirs, mine in zip(seconds, ours, strict=True))
        yield Row(bench, case, side, "time", 1e3 * statistics.median(seconds), "ms", ratio)


def speed_rows(bench: str, case: str, taken: Mapping[str, list[float]], count: float, unit: str) -> Iterator[Row]:
    """A row of `count` things a second for each side."""
    for row in time_rows(bench, case, taken):
        yield Row(bench, case, row.side, "speed", count / (row.median / 1e3), unit, row.ratio)


def memory_rows(bench: str, case: str, sides: Sides, device: str) -> Iterator[Row]:
    """A row of peak memory for each side: what it held at most above what was there before."""
    peaks = {side: peak_bytes(work, device) for side, work in sides.items()}
    ours = next(iter(peaks.values()))
    for side, peak in peaks.items():
        yield Row(bench, case, side, "peak memory", peak / 2**20, "MiB", peak / ours)


def peak_bytes(work: Callable[[], object], device: str) -> int:
    """Most bytes that torch's allocator held at once during `work`, above what it held before."""
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # above 5, the profiler's notes of having begun and ended
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    assert profile.profiler is not None
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak
