"""How fast tasks are generated: tokens per second of each against its slow oracle, taken in turns on one thread."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from random import Random
from typing import Any

from experiments.bench.measure import Options, Row, chosen
from experiments.bench.oracles import oracle
from synthdata.streams import Stream, world
from synthdata.task import Task, tasks

TARGETS = {"mano": 15e6}
"""Least tokens per second where a task has a target of its own."""

TARGET, TARGET_RATIO = 5e6, 15
"""Elsewhere this many tokens per second, or this many times those of the oracle."""

_BLOCKS, _ORACLE_EXAMPLES = 8, 500
"""What a round times: blocks in a row, as a data worker draws them, and examples of the oracle."""


def rows(rounds: int = 15) -> list[dict[str, Any]]:
    """Two rows for each of the suite's tasks at default parameters: `side` is `vectorised` or `oracle`, `median` that
    of tokens per second over the rounds, `ratio` the median of the rounds' quotients, to the oracle.

    A round times some training blocks, never drawn before, and then some of the oracle's examples; both end in tokens,
    and worlds are drawn beforehand. Seconds are those that the thread was on a core, so that other processes slow it
    down by no more than they share caches and clock.
    """
    return [row for task in _own_tasks().values() for row in _timed(task, rounds)]


def run(options: Options) -> Iterator[Row]:
    """The same rows for `looplm bench data`, where a ratio stands beside the side that ours is compared with; and the
    bytes that a token takes in the block it is handed out in, which have to be written once.

    Raises:
        ValueError: if the device is not the CPU.
    """
    if options.device != "cpu":
        raise ValueError(f"device is {options.device!r}; data are made on the cpu")
    own = _own_tasks()
    for name in chosen(own, options):
        ours, theirs = (Row(**row) for row in _timed(own[name], 1 if options.quick else options.repeats))
        yield replace(ours, ratio=1.0)
        yield replace(theirs, ratio=ours.ratio)
        block = Stream(own[name], 0, 0).block(0)
        written = sum(getattr(block, field.name).nbytes for field in fields(block)) / int(block.lengths_N.sum())
        yield Row("data", name, "roofline", "traffic", written, "B/token", None)


def _own_tasks() -> dict[str, Task]:
    """The suite's tasks at default parameters, by name."""
    own = (cls() for cls in tasks().values() if cls.__module__.startswith("synthdata.tasks."))
    return {task.name: task for task in own}


def met(found: list[dict[str, Any]]) -> dict[str, bool]:
    """Whether each task of these rows reaches its target."""
    ours = {row["case"]: row for row in found if row["side"] == "vectorised"}
    return {
        case: row["median"] >= TARGETS[case]
        if case in TARGETS
        else row["median"] >= TARGET or row["ratio"] >= TARGET_RATIO
        for case, row in ours.items()
    }


def _timed(task: Task, rounds: int) -> list[dict[str, Any]]:
    stream, draw, rng = Stream(task, 0, 0), oracle(task, world(task, 0)), Random(0)
    token = {symbol: place for place, symbol in enumerate(task.vocabulary.symbols)}
    stream.block(0)

    def slow() -> int:
        return sum(len([token[word] for word in draw(rng)]) for _ in range(_ORACLE_EXAMPLES))

    def fast(first: int) -> int:
        return sum(int(stream.block(first + i).lengths_N.sum()) for i in range(_BLOCKS))

    pairs = [(_rate(partial(fast, 1 + _BLOCKS * turn)), _rate(slow)) for turn in range(rounds)]
    ours, theirs = zip(*pairs, strict=True)
    ratio = statistics.median(one / other for one, other in pairs)
    return [
        _row(task.name, "vectorised", statistics.median(ours), ratio),
        _row(task.name, "oracle", statistics.median(theirs), 1.0),
    ]


def _rate(run: Callable[[], int]) -> float:
    start = time.thread_time()
    count = run()
    return count / (time.thread_time() - start)


def _row(case: str, side: str, median: float, ratio: float) -> dict[str, Any]:
    return {
        "bench": "data",
        "case": case,
        "side": side,
        "metric": "throughput",
        "median": median,
        "unit": "tokens/s",
        "ratio": ratio,
    }
