"""What is measured on a trained model, as rows for the `records` table.

A measurement has a name and a version, so that a new one can be added to cells that are already trained.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from looplm.evaluation import Scores, score
from looplm.model import LoopLM
from looplm.stability import Reading
from results.capacity import stored_bits
from results.schema import RECORDS
from sweeps.cell import Cell
from sweeps.cost import total_parameters
from synthdata.batch import Batch, pad
from synthdata.examples import NO_PART, Examples
from synthdata.floors import floors
from synthdata.streams import evaluation_set, world

ANSWERS = "answers@1"
FLOORS = "floors@1"
STABILITY = "stability@1"
LIMIT = 4096
"""Most examples of a split that are measured."""

MIXTURE = 0
"""`records.loop` of the reading through the gate's mixture over all exits."""

_ROWS = 256


@dataclass(frozen=True)
class Exit:
    """Scores of one split at one exit (or at the mixture): what was right, and at how many nats."""

    loop: int
    correct_N: npt.NDArray[np.bool_]
    nats_NP: npt.NDArray[np.float64]
    exit_N: npt.NDArray[np.float64] | None


class Row(NamedTuple):
    """A row of the `records` table but for the cell, the evaluation and the step."""

    loop: int | None
    split: str
    difficulty: int | None
    metric: str
    value: float | None
    n: int


def frame(cell: Cell, evaluation: str, rows: Iterable[Row]) -> pl.DataFrame:
    """The rows as records of a trained cell."""
    at = {"cell": cell.id, "evaluation": evaluation, "step": cell.budget.steps}
    return RECORDS.frame(at | row._asdict() for row in rows)


def levels(examples: Examples) -> list[tuple[int | None, npt.NDArray[np.bool_]]]:
    """Which examples are read together: all of them (None), then those of each difficulty if there are several."""
    found = np.unique(examples.difficulty_N)
    whole: list[tuple[int | None, npt.NDArray[np.bool_]]] = [(None, np.ones(len(examples), dtype=bool))]
    if len(found) < 2:
        return whole
    return [*whole, *((int(level), examples.difficulty_N == level) for level in found)]


def _readings(scores: Scores) -> list[Exit]:
    exits = len(scores.correct_RN)
    found = [
        Exit(r + 1, scores.correct_RN[r], scores.nats_RNP[r], scores.exit_RN[r] if exits > 1 else None)
        for r in range(exits)
    ]
    if exits > 1:
        found.append(Exit(MIXTURE, scores.mixture_correct_N, scores.mixture_nats_NP, None))
    return found


def batches(examples: Examples, context: int) -> Iterator[Batch]:
    """The examples in their order, one a row, a few hundred at a time."""
    for start in range(0, len(examples), _ROWS):
        yield pad(examples.take(slice(start, start + _ROWS)), context)


def measure(cell: Cell, model: LoopLM, limit: int = LIMIT) -> pl.DataFrame:
    """Every record of a trained cell: answers by split, loop and difficulty, and the floors they stand beside.

    Metrics, with value and n (examples): `accuracy`; `nats` and `nats/<span>`, mean summed cross-entropy of the scored
    tokens of an example; `exit_probability`; `accuracy_given_recall`, among the compositions whose every fact the
    model recalls at the same loop (null where it recalls none); `bits` and `bits_per_parameter` stored of names and
    values, or of facts, where the split is what the task stores; `floor/<predictor>` and `floor/best` of each split
    that is not itself trained on.
    """
    task, spans = cell.task, cell.task.spans
    sets = {split: evaluation_set(task, cell.seeds.data_seed, split, limit) for split in task.splits[1:]}
    read = {
        split: _readings(score(model, batches(examples, cell.context), len(spans)))
        for split, examples in sets.items()
        if len(examples)
    }
    constants = task.constants(world(task, cell.seeds.data_seed))
    recalled = {} if task.facts_split is None else {r.loop: r.correct_N for r in read[task.facts_split]}
    answers: list[Row] = []
    beside: list[Row] = []

    def add(split: str, loop: int | None, difficulty: int | None, metric: str, value: float | None, n: int) -> None:
        (beside if metric.startswith("floor") else answers).append(Row(loop, split, difficulty, metric, value, n))

    for split, readings in read.items():
        examples = sets[split]
        groups = levels(examples)
        for reading in readings:
            bits = _bits(cell, constants, split, reading)
            if bits is not None:
                add(split, reading.loop, None, "bits", bits, len(examples))
                per_parameter = bits / total_parameters(cell)
                add(split, reading.loop, None, "bits_per_parameter", per_parameter, len(examples))
            known = _known(examples, recalled.get(reading.loop))
            for difficulty, among in groups:
                n = int(among.sum())
                add(split, reading.loop, difficulty, "accuracy", float(reading.correct_N[among].mean()), n)
                nats_P = reading.nats_NP[among].mean(axis=0)
                add(split, reading.loop, difficulty, "nats", float(nats_P.sum()), n)
                if len(spans) > 1:
                    for span, nats in zip(spans, nats_P, strict=True):
                        add(split, reading.loop, difficulty, f"nats/{span}", float(nats), n)
                if reading.exit_N is not None:
                    add(split, reading.loop, difficulty, "exit_probability", float(reading.exit_N[among].mean()), n)
                if known is not None:
                    both = among & known
                    value = float(reading.correct_N[both].mean()) if both.any() else None
                    add(split, reading.loop, difficulty, "accuracy_given_recall", value, int(both.sum()))
        if split not in task.trained_splits:
            found = floors(task, cell.seeds.data_seed, split, limit)
            for predictor, accuracy in (found | {"best": max(found.values())}).items():
                add(split, None, None, f"floor/{predictor}", accuracy, len(examples))
    return pl.concat([frame(cell, ANSWERS, answers), frame(cell, FLOORS, beside)])


def stability(cell: Cell, found: Iterable[Reading]) -> pl.DataFrame:
    """What training read of itself at some of its steps, on the batch of that step (split `train`)."""
    return RECORDS.frame(
        {
            "cell": cell.id,
            "evaluation": STABILITY,
            "split": cell.task.splits[0],
            "difficulty": None,
            **reading._asdict(),
        }
        for reading in found
    )


def _known(examples: Examples, recalled: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_] | None:
    """Which examples have every part recalled; None where examples have no parts."""
    if recalled is None or not examples.parts_NP.shape[1] or (examples.parts_NP[:, 1:2] == NO_PART).all():
        return None
    known_N: npt.NDArray[np.bool_] = ((examples.parts_NP == NO_PART) | recalled[examples.parts_NP]).all(axis=1)
    return known_N


def _bits(cell: Cell, constants: Mapping[str, float], split: str, reading: Exit) -> float | None:
    """Bits stored of what a split holds, or None where it holds nothing that the task stores."""
    if split == cell.task.facts_split and "fact_bits" in constants:
        return constants["fact_bits"] - float(reading.nats_NP.sum()) / math.log(2)
    if cell.task.spans != ("name", "value") or "name_bits" not in constants:
        return None
    name_N, value_N = reading.nats_NP.T
    stored = stored_bits(
        name_N, value_N[:, None], int(constants["people"]), constants["name_bits"], [constants["value_bits"]]
    )
    of_each = constants["diversity_bits"] - value_N.mean() / constants["attributes"] / math.log(2)
    return stored.total + constants["diversity_strings"] * float(of_each)
