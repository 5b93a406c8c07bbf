"""Bits by attribute: what they add up to, and that each attribute is scored where it is told."""

from typing import Any

import polars as pl
import pytest

from looplm.model import LoopLM
from sweeps.cell import Cell
from sweeps.evaluations import EVALUATIONS
from sweeps.measure import measure
from synthdata.streams import pool, world
from synthdata.tasks.bios import VALUE, Bios
from synthdata.tasks.records import Records

SMALL = ["model.hidden_size=16", "model.loops=2", "budget.steps=1"]


@pytest.mark.parametrize(
    "task",
    [Records(people=20), Records(people=20, diversity=9, attributes=3), Bios(people=12), Bios(pronouns="neutral")],
)
def test_attributes_share_out_the_values(task: Any) -> None:
    drawn = world(task, 0)
    found, whole = task.stored(drawn), pool(task, 0, "people")
    assert sum(found.bits.values()) == pytest.approx(task.constants(drawn)["value_bits"])
    assert ((found.examples.scored_NL >= 0) == (whole.scored_NL == VALUE)).all()
    assert (found.examples.tokens_NL == whole.tokens_NL).all()
    assert set(found.examples.scored_NL.ravel()) == {-1, *range(len(found.bits))}


def test_a_record_tells_its_attribute_before_the_value() -> None:
    task = Records(people=5)
    found = task.stored(world(task, 3)).examples
    for tokens, scored in zip(found.tokens_NL, found.scored_NL, strict=True):
        for place in range(4, task.max_length, 3):
            assert task.vocabulary.symbols[tokens[place]] == f"a{scored[place + 1]}"
            assert scored[place] == -1
            assert scored[place + 1] == scored[place + 2]


@pytest.mark.parametrize("task", ["records", "bios"])
def test_bits_by_attribute_add_up_to_the_bits_of_values(task: str) -> None:
    cell = Cell.compose([f"task={task}", "task.people=12", *SMALL])
    model = LoopLM(cell.model, cell.vocab_size, init_seed=1)
    rows = EVALUATIONS["attributes"].measure(cell, model)
    assert set(rows["evaluation"]) == {"attributes@1"}
    answers = measure(cell, model)
    for loop in (1, 2):
        stored = rows.filter(pl.col("loop") == loop)["value"].sum()
        nats = answers.filter(pl.col("loop") == loop, pl.col("metric") == "nats/value")["value"].item()
        value_bits = cell.task.constants(world(cell.task, 0))["value_bits"]
        assert stored == pytest.approx(value_bits - nats / 0.6931471805599453, abs=1e-4)


def test_a_task_that_stores_nothing_is_refused() -> None:
    cell = Cell.compose(["task=addition", *SMALL])
    with pytest.raises(ValueError, match="'addition' stores nothing attribute by attribute"):
        EVALUATIONS["attributes"].measure(cell, LoopLM(cell.model, cell.vocab_size))
