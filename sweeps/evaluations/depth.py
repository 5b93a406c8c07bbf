"""Fewer and more loops than were trained: accuracy after each of 1 to 16, on every split and difficulty."""

import polars as pl

from looplm.evaluation import score
from looplm.model import LoopLM
from sweeps.cell import Cell
from sweeps.measure import Row, batches, frame, levels
from synthdata.streams import evaluation_set

MOST_LOOPS = 16
LIMIT = 1024
"""Most examples of a split that are measured."""


def measure(cell: Cell, model: LoopLM, evaluation: str) -> pl.DataFrame:
    """Metric `depth/accuracy` at loops 1 to 16, read at the end of that loop as if it were the last.

    A loop that the objective does not pay (all but the last under `last`) was never trained to be read: what it says
    is an untrained readout. An untied stack has its own exits and no more.
    """
    loops = MOST_LOOPS if model.config.exit_every is None else None
    rows: list[Row] = []
    for split in cell.task.splits[1:]:
        examples = evaluation_set(cell.task, cell.seeds.data_seed, split, LIMIT)
        if len(examples):
            correct_RN = score(model, batches(examples, cell.context), len(cell.task.spans), loops).correct_RN
            for difficulty, among in levels(examples):
                for loop, correct_N in enumerate(correct_RN, start=1):
                    value = float(correct_N[among].mean())
                    rows.append(Row(loop, split, difficulty, "depth/accuracy", value, int(among.sum())))
    return frame(cell, evaluation, rows)
