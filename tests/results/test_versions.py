import polars as pl
import pytest

from results.schema import CELLS, RECORDS
from results.versions import mixed_versions, newest_evaluations


def frames(cell, records, *tasks):
    names = [f"cell{index}" for index in range(len(tasks))]
    cells = CELLS.frame([cell(name, task=task) for name, task in zip(names, tasks, strict=True)])
    return cells, pl.concat([records(name) for name in names])


def test_rows_of_one_version_may_be_averaged_whatever_their_tasks(cell, records):
    cells, rows = frames(cell, records, "twohop@1", "twohop@1", "records@3")
    floors = rows.with_columns(evaluation=pl.lit("floors@2"))
    assert mixed_versions(cells, pl.concat([rows, floors])) == []


def test_versions_of_a_task_are_not_mixed(cell, records):
    reasons = mixed_versions(*frames(cell, records, "twohop@1", "twohop@2", "records@1"))
    assert reasons == ["rows of several versions of task twohop are mixed (1, 2)"]


def test_versions_of_an_evaluation_are_not_mixed_within_a_cell_or_between_cells(cell, records):
    cells, rows = frames(cell, records, "twohop@1", "twohop@1")
    newer = pl.lit("answers@2")
    between = rows.with_columns(evaluation=pl.when(pl.col("cell") == "cell1").then(newer).otherwise("evaluation"))
    within = pl.concat([rows, rows.filter(pl.col("cell") == "cell0").with_columns(evaluation=newer)])
    for mixed in (between, within):
        assert mixed_versions(cells, mixed) == ["rows of several versions of evaluation answers are mixed (1, 2)"]


def test_failed_cells_and_rows_of_other_cells_do_not_count(cell, records):
    cells, rows = frames(cell, records, "twohop@1")
    failed = CELLS.frame([cell("gone", task="twohop@0", status="failed", error="out of memory")])
    stranger = records("stranger").with_columns(evaluation=pl.lit("answers@9"))
    assert mixed_versions(pl.concat([cells, failed]), pl.concat([rows, stranger])) == []


def test_a_name_without_a_version_is_an_error(cell, records):
    with pytest.raises(ValueError, match=r"task is 'twohop'; it must be name@version"):
        mixed_versions(*frames(cell, records, "twohop"))


def test_only_the_newest_version_of_each_evaluation_is_kept(records):
    old, new = records("a"), records("b").with_columns(evaluation=pl.lit("answers@10"))
    other = records("a").with_columns(evaluation=pl.lit("editing@2"))
    kept, lost = newest_evaluations(pl.concat([old, new, other]))
    assert kept.rows() == pl.concat([new, other]).rows()
    assert lost == [("a", "answers@1", "answers@10")]


def test_one_version_is_left_as_it_is(records):
    for frame in (records("a"), RECORDS.frame([])):
        kept, lost = newest_evaluations(frame)
        assert kept is frame
        assert lost == []
