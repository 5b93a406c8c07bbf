"""Every task goes the whole way: its default parameters make a cell that trains, is measured and has valid rows."""

import json
from pathlib import Path

import polars as pl
import pytest

from looplm.execution import Execution
from results.store import Store
from sweeps.cell import Cell
from sweeps.measure import measure
from sweeps.run import Outcome, run_cell
from synthdata.task import tasks

SMALL = ["model.hidden_size=16", "model.loops=2", "objective.name=entropy", "budget.steps=1", "budget.batch_size=16"]


@pytest.mark.parametrize("name", tasks())
def test_a_task_becomes_rows(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.run.measure", lambda cell, model: measure(cell, model, limit=64))
    cell, store = Cell.compose([f"task={name}", *SMALL]), Store(tmp_path)
    assert run_cell(cell, store, Execution(compile="off")) is Outcome.DONE
    rows = store.read()
    assert not rows.problems
    accuracy = rows.records.filter(pl.col("metric") == "accuracy")
    assert set(accuracy["split"]) == set(cell.task.splits[1:])
    assert accuracy["value"].is_between(0, 1).all()
    floors = rows.records.filter(pl.col("metric") == "floor/best")
    assert set(floors["split"]) == set(cell.task.splits[1:]) - set(cell.task.trained_splits)
    bits = rows.records.filter(pl.col("metric") == "bits")
    constants = json.loads(rows.cells["constants"][0])
    stores_facts = cell.task.facts_split is not None and "fact_bits" in constants
    assert bits.is_empty() == (not stores_facts and cell.task.spans != ("name", "value"))
    assert all(value <= constants.get("ceiling_bits", constants.get("fact_bits")) for value in bits["value"])
