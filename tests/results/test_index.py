"""Cells are read in batches that are checked together; what comes out is what reading each by itself gives."""

import hashlib
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from results import index
from results.bundle import SUMS, to_parquet, write_bundle
from results.store import Store

NAMES = [f"c{number:02d}" for number in range(23)]


@pytest.fixture
def store(tmp_path, cell, records):
    """Twenty-three cells: two failed, some with further evaluations, one without records."""
    store = Store(tmp_path)
    for number, name in enumerate(NAMES):
        if number in (4, 17):
            store.publish_failure(cell(name, status="failed", error=f"error {number}"))
            continue
        store.publish(cell(name), records(name, number / 100) if number != 9 else records(name).clear())
        if number % 5 == 0:
            store.add(name, "depth@1", records(name, number / 10).with_columns(evaluation=pl.lit("depth@1")))
    return store


def rewrite(folder: Path, **changes) -> None:
    """Change frames of a bundle in a way that its sums do not show."""
    frames = {path.stem: pl.read_parquet(path) for path in folder.glob("*.parquet")}
    write_bundle(folder, {name: changes.get(name, lambda frame: frame)(frame) for name, frame in frames.items()})


def hurt(store: Store) -> dict[tuple[str, str | None], str]:
    """Damage of many kinds, and what must be said of each."""
    rows = {name: store.folder(name) / "rows" for name in NAMES}
    (rows["c01"] / "records.parquet").unlink()
    (rows["c02"] / "cell.parquet").write_bytes(b"")
    rewrite(rows["c03"], records=lambda frame: frame.with_columns(cell=pl.lit("c06")))
    rewrite(rows["c07"], cell=lambda frame: frame.with_columns(cell=pl.lit("c08")))
    rewrite(rows["c11"], records=lambda frame: frame.with_columns(value=pl.lit(float("nan"))))
    rewrite(rows["c12"], records=lambda frame: frame.drop("n"))
    rewrite(rows["c13"], cell=lambda frame: pl.concat([frame, frame]))
    rewrite(rows["c14"], records=lambda frame: frame.with_columns(pl.col("n").cast(pl.Int32)))
    # The last rows of one cell among those of the one before it: the column of ids alone would look right.
    rewrite(rows["c21"], records=lambda frame: pl.concat([frame, frame.with_columns(cell=pl.lit("c22"))]))
    failure = store.folder("c17") / "failure.parquet"
    failure.write_bytes(to_parquet(pl.read_parquet(failure).with_columns(status=pl.lit("done"))))
    depth = store.folder("c10") / "evaluations" / "depth@1"
    (depth / SUMS).write_text(f"{hashlib.sha256(b'').hexdigest()}  records.parquet\n")
    return {
        ("c01", None): "records.parquet cannot be read: No such file",
        ("c02", None): "cell.parquet does not match its sum",
        ("c03", None): "records.cell is 'c06'; it must be 'c03'",
        ("c07", None): "cell row is [('c08', 'done')]; it must be c07 done",
        ("c10", "depth@1"): "records.parquet does not match its sum",
        ("c11", None): "records.value is nan; it must be finite",
        ("c12", None): "records has unknown columns [] and lacks [n]",
        ("c13", None): "cells.cell is 'c13'; it must be unique",
        ("c14", None): "records.n is Int32; it must be a column of Int64",
        ("c17", None): "cells.error is 'error 17'; it must be null for a done cell",
        ("c21", None): "records.cell is 'c22'; it must be 'c21'",
    }


@pytest.mark.parametrize("batch", [2, 5, 1000])
def test_a_batch_gives_what_its_cells_give_one_by_one(store, monkeypatch, batch):
    wanted = hurt(store)
    monkeypatch.setattr(index, "_BATCH", 1)
    alone = store.read()
    for file in (store.root / "index").iterdir():
        file.unlink()
    monkeypatch.setattr(index, "_BATCH", batch)
    together = store.read()
    assert_frame_equal(together.cells, alone.cells)
    assert_frame_equal(together.records, alone.records)
    assert together.problems == alone.problems
    told = {(problem.cell, problem.evaluation): problem.reason for problem in together.problems}
    assert told.keys() == wanted.keys()
    for what, reason in wanted.items():
        assert reason in told[what]
    sound = [name for name in NAMES if (name, None) not in wanted]
    assert together.cells["cell"].to_list() == sound
    assert_frame_equal(store.read().records, together.records)


def test_one_damaged_cell_does_not_make_the_others_be_checked_alone(store, monkeypatch):
    (store.folder("c08") / "rows" / "records.parquet").write_bytes(b"")
    alone = []
    read_alone = index.Index._read_alone
    monkeypatch.setattr(
        index.Index, "_read_alone", lambda self, name, status: alone.append(name) or read_alone(self, name, status)
    )
    assert [problem.cell for problem in store.read().problems] == ["c08"]
    assert len(alone) <= 2
    assert "c08" in alone


def test_an_unchanged_store_is_not_written_again(store):
    store.read()
    written = {path.name: path.stat().st_mtime_ns for path in (store.root / "index").iterdir()}
    store.read()
    store.read(["c00"])
    (store.folder("c08") / "rows" / "records.parquet").write_bytes(b"")
    store.read()
    kept = {path.name: path.stat().st_mtime_ns for path in (store.root / "index").iterdir()}
    assert all(kept[name] > written[name] for name in written)
    store.read()
    assert kept == {path.name: path.stat().st_mtime_ns for path in (store.root / "index").iterdir()}


def test_why_cells_failed_is_told_of_those_asked_for(store):
    for _ in range(2):
        assert store.errors(NAMES) == {"c04": "error 4", "c17": "error 17"}
        assert store.errors(["c00", "c17", "unknown"]) == {"c17": "error 17"}
        assert store.errors([]) == {}
        assert store.error("c04") == "error 4"
        assert store.error("c00") is None
        store.read()
    (store.folder("c17") / "failure.parquet").write_bytes(b"")
    assert store.errors(NAMES) == {"c04": "error 4"}
