"""What a cell costs before it runs: FLOPs by formula, and a rough time on one core of a laptop."""

from functools import cache

from looplm import accounting
from sweeps.cell import Cell
from synthdata.batch import pack
from synthdata.streams import BLOCK, Stream
from synthdata.task import Task

_STEP_SECONDS = 1.0e-3
_BLOCK_SECONDS = 1.0e-3
_FLOPS_PER_SECOND = 5.0e10
_CELL_SECONDS = 6.0
"""Set by eye to a few cells of `quick` on one core: what a step, a block and the arithmetic take, and start-up."""


def total_parameters(cell: Cell) -> int:
    """Parameters, embeddings included."""
    return accounting.total_parameters(cell.model, cell.vocab_size)


def training_flops_by_group(cell: Cell) -> dict[str, float]:
    """FLOPs of the whole training by group, for the batches that the beginning of the stream makes on average."""
    rows, trained = _batch_shape(cell)
    per_position = accounting.training_flops(
        cell.model, cell.vocab_size, cell.objective, steps=1, rows=1, context=cell.context, trained_positions=1
    )
    per_head = {"head", "gate"}
    steps = cell.budget.steps
    return {g: steps * flops * (trained if g in per_head else rows) for g, flops in per_position.items()}


def training_flops(cell: Cell) -> float:
    """FLOPs of the whole training."""
    return sum(training_flops_by_group(cell).values())


def estimated_seconds(cell: Cell) -> float:
    """Roughly how long a cell takes on one core, from start to published rows."""
    overhead = cell.budget.steps * (_STEP_SECONDS + _BLOCK_SECONDS * cell.model.depth)
    return _CELL_SECONDS + overhead + training_flops(cell) / _FLOPS_PER_SECOND


def _batch_shape(cell: Cell) -> tuple[float, float]:
    """Rows of a batch and trained positions in it, on average."""
    task, data_seed, size = cell.task, cell.seeds.data_seed, cell.batch_size
    rows = size if cell.budget.layout == "pad" else _packed_rows(task, data_seed, size, cell.context)
    return rows, _trained_positions(task, data_seed) / BLOCK * size


@cache
def _trained_positions(task: Task, data_seed: int) -> int:
    """Trained positions of the first block."""
    return int(Stream(task, data_seed, order_seed=0).block(0).trained_NL.sum())


@cache
def _packed_rows(task: Task, data_seed: int, size: int, context: int) -> float:
    """Rows of a packed batch, on average over the whole batches of the first block, or in the first."""
    stream = Stream(task, data_seed, order_seed=0)
    starts = range(0, max(BLOCK - size, 0) + 1, size)
    return sum(len(pack(stream.examples(start, size), context).tokens_BS) for start in starts) / len(starts)
