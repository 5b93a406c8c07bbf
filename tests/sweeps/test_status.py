"""Where cells stand: every state at once, and how little is looked at to say so."""

import dataclasses
import io
import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from experiments.bench.scale import fill, grid
from results.schema import CELLS
from results.store import Store
from sweeps.cell import Cell
from sweeps.claim import Claim
from sweeps.grid import Plan
from sweeps.status import CellStatus, State, statuses

PLAN = grid(1, 1).expand("paper").only(arms=["looped"])
CELLS_OF_PLAN = list(PLAN.cells.values())


class Looked:
    """What has been opened, listed and asked for its size or time, by path below `root`."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[str] = []
        self.listed: list[str] = []
        self.asked: list[str] = []
        for module, name, seen in (
            (io, "open", self.opened),
            (os, "listdir", self.listed),
            (os, "scandir", self.listed),
            (os, "stat", self.asked),
        ):
            self._watch(module, name, seen, root, monkeypatch)

    def _watch(self, module: Any, name: str, seen: list[str], root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = getattr(module, name)

        def watched(path: Any = ".", *arguments: Any, **named: Any) -> Any:
            if not isinstance(path, int) and Path(path).is_relative_to(root):
                seen.append(str(Path(path).relative_to(root)))
            return real(path, *arguments, **named)

        monkeypatch.setattr(module, name, watched)


def publish_failure(store: Store, cell: Cell, error: str) -> None:
    done = store.read([CELLS_OF_PLAN[3].id]).cells
    row = done.with_columns(cell=pl.lit(cell.id), status=pl.lit("failed"), error=pl.lit(error))
    store.publish_failure(CELLS.validate(row).row(0, named=True))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def full(store: Store) -> Store:
    """Every cell of the plan is done, and the index knows it."""
    fill(store, PLAN)
    store.read()
    return store


def test_of_done_cells_no_file_is_opened_and_few_are_looked_at(full: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = Looked(full.root, monkeypatch)
    assert {status.state for status in statuses(CELLS_OF_PLAN, full)} == {State.DONE}
    assert looked.opened == looked.listed == []
    assert len(looked.asked) == len(CELLS_OF_PLAN)
    looked.asked.clear()
    assert full.problems(PLAN.cells) == ()
    assert sorted(looked.opened) == ["index/SHA256SUMS", "index/files.parquet"]
    assert len(looked.asked) == 2 * len(CELLS_OF_PLAN)
    assert sorted(looked.listed) == ["cells", *sorted(f"cells/{cell}/evaluations" for cell in PLAN.cells)]


def test_of_missing_cells_nothing_is_opened_or_listed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = Looked(store.root, monkeypatch)
    assert {status.state for status in statuses(CELLS_OF_PLAN, store)} == {State.MISSING}
    assert looked.opened == looked.listed == []
    assert len(looked.asked) <= 3 * len(CELLS_OF_PLAN)


def test_failures_that_the_index_knows_are_not_opened(full: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = CELLS_OF_PLAN[:3]
    for number, cell in enumerate(failed):
        full.set_aside(cell.id)
        publish_failure(full, cell, f"error {number}")
    full.read()
    publish_failure(full, failed[2], "another error")
    looked = Looked(full.root, monkeypatch)
    assert [status.error for status in statuses(failed, full)] == ["error 0", "error 1", "another error"]
    assert [path for path in looked.opened if path.startswith("cells/")] == [f"cells/{failed[2].id}/failure.parquet"]
    assert "index/records.parquet" not in looked.opened


@pytest.fixture
def mixed(store: Store) -> tuple[Store, list[Cell], list[CellStatus]]:
    """A store with a cell in every state, its cells, and what is true of them."""
    measured = [dataclasses.replace(cell, evaluations=("depth",)) for cell in CELLS_OF_PLAN[:3]]
    fill(store, Plan("q", "paper", tuple(m for m in PLAN.members if m.cell in CELLS_OF_PLAN[:6]), {}))
    records = store.read([measured[0].id]).records.with_columns(evaluation=pl.lit("depth@1"))
    store.add(measured[0].id, "depth@1", records)
    store.add_failure(measured[1].id, "depth@1", "too deep")
    progress = {"step": 3, "steps": 10, "loss": 1.0, "steps_per_second": 2.0}
    failed, running, interrupted, released, untouched, retried = CELLS_OF_PLAN[6:12]
    publish_failure(store, failed, "boom")
    publish_failure(store, retried, "boom")
    for cell in (running, interrupted, retried):
        store.folder(cell.id).mkdir(parents=True, exist_ok=True)
        (store.folder(cell.id) / "progress.json").write_text(json.dumps(progress))
        (store.folder(cell.id) / "checkpoint.ckpt").touch()
    for cell in (running, interrupted, released, retried, failed, CELLS_OF_PLAN[5]):
        claim = Claim.acquire(store.folder(cell.id))
        assert claim is not None
        if cell not in (running, retried):
            with claim:
                pass
    truth = [
        CellStatus(measured[0], State.DONE),
        CellStatus(measured[1], State.FAILED, error="depth@1: too deep"),
        CellStatus(measured[2], State.UNMEASURED),
        CellStatus(CELLS_OF_PLAN[3], State.DONE),
        CellStatus(CELLS_OF_PLAN[5], State.DONE),
        CellStatus(failed, State.FAILED, error="boom"),
        CellStatus(running, State.RUNNING, progress),
        CellStatus(interrupted, State.INTERRUPTED, progress),
        CellStatus(released, State.MISSING),
        CellStatus(untouched, State.MISSING),
        CellStatus(retried, State.RUNNING, progress),
    ]
    return store, [status.cell for status in truth], truth


@pytest.mark.parametrize("with_index", [False, True])
def test_every_state_is_told_with_and_without_an_index(
    mixed: tuple[Store, list[Cell], list[CellStatus]], with_index: bool
) -> None:
    store, cells, truth = mixed
    if with_index:
        store.read()
    else:
        for file in (store.root / "index").iterdir():
            file.unlink()
    assert statuses(cells, store) == truth
    assert [status for cell in cells for status in statuses([cell], store)] == truth
    assert statuses([], store) == []


def test_damage_is_told_once_it_is_there(full: Store) -> None:
    rows, evaluation = CELLS_OF_PLAN[0].id, CELLS_OF_PLAN[1].id
    records = full.read([evaluation]).records.with_columns(evaluation=pl.lit("depth@1"))
    full.add(evaluation, "depth@1", records)
    assert full.problems(PLAN.cells) == ()
    for folder in (full.folder(rows) / "rows", full.folder(evaluation) / "evaluations" / "depth@1"):
        file = folder / "records.parquet"
        file.write_bytes(file.read_bytes()[:-7])
    for _ in range(2):
        found = full.problems(PLAN.cells)
        assert sorted((each.cell, each.evaluation) for each in found) == sorted([(rows, None), (evaluation, "depth@1")])
        assert found == full.read(PLAN.cells).problems
    assert full.problems([CELLS_OF_PLAN[2].id]) == ()
