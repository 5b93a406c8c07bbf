"""Evaluations that are added to a published cell: once, whole, and apart from the cell's own rows."""

import polars as pl
import pytest

from results.collection import Collection
from results.store import Store


def further(records, evaluation: str = "depth@1") -> pl.DataFrame:
    return records("a").with_columns(evaluation=pl.lit(evaluation))


def test_a_further_evaluation_is_added_once_and_read_with_the_rest(tmp_path, cell, records):
    store = Store(tmp_path)
    store.publish(cell("a"), records("a"))
    assert not store.measured("a", "depth@1")
    assert store.add("a", "depth@1", further(records))
    assert not store.add("a", "depth@1", further(records))
    assert store.measured("a", "depth@1")
    for _ in range(2):
        assert store.read().records["evaluation"].value_counts(sort=True).rows() == [("answers@1", 6), ("depth@1", 6)]
    with pytest.raises(ValueError, match="must be 'other@1'"):
        store.add("a", "other@1", further(records))
    with pytest.raises(ValueError, match="with a cell it must be answers"):
        store.publish(cell("a"), further(records))


def test_a_damaged_evaluation_leaves_the_cells_own_rows(tmp_path, cell, records):
    store = Store(tmp_path)
    store.publish(cell("a"), records("a"))
    store.add("a", "depth@1", further(records))
    file = store.folder("a") / "evaluations" / "depth@1" / "records.parquet"
    file.write_bytes(file.read_bytes()[:-5])
    for _ in range(2):
        found = store.read()
        assert set(found.records["evaluation"]) == {"answers@1"}
        (problem,) = found.problems
        assert (problem.cell, problem.evaluation) == ("a", "depth@1")
    store.set_aside("a", "depth@1")
    assert not store.measured("a", "depth@1")
    assert store.read().problems == ()
    assert store.add("a", "depth@1", further(records))
    assert len(store.read().records) == 12


def test_a_collection_is_adopted_with_its_further_evaluations(tmp_path, cell, records):
    whole, part = Store(tmp_path / "whole"), Store(tmp_path / "part")
    for store in (whole, part):
        store.publish(cell("a"), records("a"))
    whole.add("a", "depth@1", further(records))
    rows = whole.read()
    collection = Collection(rows.cells, rows.records, pl.DataFrame())
    assert part.adopt(collection) == 0
    assert part.read().records.equals(rows.records)
    fresh = Store(tmp_path / "fresh")
    assert fresh.adopt(collection) == 1
    assert fresh.measured("a", "depth@1")
    assert fresh.read().records.equals(rows.records)
