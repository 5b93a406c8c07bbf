"""How many bits of each attribute are stored, a thing, at every exit."""

import math

import polars as pl

from looplm.evaluation import score
from looplm.model import LoopLM
from sweeps.cell import Cell
from sweeps.measure import Row, batches, frame
from synthdata.streams import world


def measure(cell: Cell, model: LoopLM, evaluation: str) -> pl.DataFrame:
    """Metric `stored/<attribute>`, bits a thing: the attribute's bits less its mean cross-entropy in bits.

    Read like Part 3.3's measure of values (its p2), but one attribute at a time; below 0 where a model is worse than
    one that knows nothing. By loop, on split `people`.

    Raises:
        ValueError: for a task that stores nothing attribute by attribute.
    """
    found = cell.task.stored(world(cell.task, cell.seeds.data_seed))
    if found is None:
        raise ValueError(f"task {cell.task.name!r} stores nothing attribute by attribute; evaluation {evaluation}")
    nats_RNP = score(model, batches(found.examples, cell.context), len(found.bits)).nats_RNP
    rows = [
        Row(loop, "people", None, f"stored/{name}", bits - float(nats) / math.log(2), len(found.examples))
        for loop, nats_P in enumerate(nats_RNP.mean(axis=1), start=1)
        for (name, bits), nats in zip(found.bits.items(), nats_P, strict=True)
    ]
    return frame(cell, evaluation, rows)
