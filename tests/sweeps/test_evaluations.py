"""Further evaluations: measured once, from the stored checkpoint, and each a failure of its own."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from looplm.execution import Execution
from results.schema import RECORDS
from results.store import Store
from sweeps.cell import Cell
from sweeps.evaluations import EVALUATIONS
from sweeps.listing import Listing
from sweeps.run import Outcome, run_cell
from sweeps.status import State, statuses

EAGER = Execution(compile="off")
TINY = ["task.entities=12", "task.relations=3", "model.hidden_size=16", "budget.batch_size=64", "budget.steps=6"]


@dataclass
class Weighing:
    """An evaluation that sums the model's weights, and counts how often it is asked."""

    id: str = "weighing@1"
    fails: bool = False
    asked: list[str] = field(default_factory=list)

    def measure(self, cell: Cell, model: Any) -> pl.DataFrame:
        self.asked.append(cell.id)
        if self.fails:
            raise ZeroDivisionError("no scales")
        total = sum(float(weight.detach().double().sum()) for weight in model.parameters())
        row = {"cell": cell.id, "evaluation": self.id, "step": cell.budget.steps, "loop": None, "split": "train"}
        return RECORDS.frame([row | {"difficulty": None, "metric": "weight", "value": total, "n": 1}])


@pytest.fixture
def weighing(monkeypatch: pytest.MonkeyPatch) -> Weighing:
    evaluation = Weighing()
    monkeypatch.setitem(EVALUATIONS, "weighing", evaluation)
    return evaluation


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def cell(*evaluations: str) -> Cell:
    return Cell.from_config(Cell.compose(TINY).config(), evaluations)


def test_what_is_measured_is_no_part_of_what_a_cell_is(weighing: Weighing) -> None:
    assert cell("weighing").id == cell().id
    assert cell("weighing") == cell()
    with pytest.raises(ValueError, match="Did you mean 'weighing'"):
        cell("weihing")


def test_a_new_evaluation_reads_the_stored_checkpoint(store: Store, weighing: Weighing) -> None:
    assert run_cell(cell(), store, EAGER) is Outcome.DONE
    trained = (store.folder(cell().id) / "checkpoint.ckpt").stat().st_mtime_ns
    (status,) = statuses([cell("weighing")], store)
    assert status.state is State.UNMEASURED
    assert run_cell(cell("weighing"), store, EAGER) is Outcome.DONE
    assert run_cell(cell("weighing"), store, EAGER) is Outcome.ALREADY
    assert weighing.asked == [cell().id]
    assert (store.folder(cell().id) / "checkpoint.ckpt").stat().st_mtime_ns == trained
    assert statuses([cell("weighing")], store)[0].state is State.DONE
    records = store.read().records
    assert set(records["evaluation"]) == {"answers@1", "floors@1", "stability@1", "weighing@1"}
    assert records.equals(store.read().records)


def test_where_only_rows_were_taken_over_the_weights_are_made_again(
    store: Store, weighing: Weighing, tmp_path: Path
) -> None:
    run_cell(cell(), store, EAGER)
    (store.folder(cell().id) / "checkpoint.ckpt").unlink()
    assert run_cell(cell(), store, EAGER) is Outcome.ALREADY
    assert run_cell(cell("weighing"), store, EAGER) is Outcome.DONE
    quiet = Store(tmp_path / "quiet")
    run_cell(cell("weighing"), quiet, EAGER)
    assert store.read().records.equals(quiet.read().records)


def test_an_evaluation_that_raises_fails_alone(store: Store, weighing: Weighing) -> None:
    weighing.fails = True
    assert run_cell(cell("weighing"), store, EAGER) is Outcome.FAILED
    assert store.read().cells["status"].to_list() == ["done"]
    (status,) = statuses([cell("weighing")], store)
    assert (status.state, status.error) == (State.FAILED, "weighing@1: ZeroDivisionError: no scales")
    assert statuses([cell()], store)[0].state is State.DONE
    assert run_cell(cell("weighing"), store, EAGER) is Outcome.ALREADY
    weighing.fails = False
    assert run_cell(cell("weighing"), store, EAGER, retry_failed=True) is Outcome.DONE
    assert statuses([cell("weighing")], store)[0].state is State.DONE


def test_weights_that_cannot_be_had_again_fail_what_needs_them(
    store: Store, weighing: Weighing, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_cell(cell(), store, EAGER)

    def refuse(*arguments: Any, **named: Any) -> None:
        raise ValueError("not this checkpoint")

    monkeypatch.setattr("sweeps.run.fit", refuse)
    assert run_cell(cell("weighing"), store, EAGER) is Outcome.FAILED
    assert store.read().cells["status"].to_list() == ["done"]
    (status,) = statuses([cell("weighing")], store)
    assert (status.state, status.error) == (State.FAILED, "weighing@1: ValueError: not this checkpoint")


def test_a_listing_carries_them(weighing: Weighing, tmp_path: Path) -> None:
    Listing([cell("weighing"), cell()], {"compile": "off"}, True).write(tmp_path / "list.json")
    found = Listing.read(tmp_path / "list.json")
    assert found == Listing([cell(), cell()], {"compile": "off"}, True)
    assert [each.evaluations for each in found.cells] == [("weighing",), ()]
