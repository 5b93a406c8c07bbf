import polars as pl

from results.schema import RECORDS
from results.versions import newest_evaluations


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
