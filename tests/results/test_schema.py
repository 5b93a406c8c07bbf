import datetime
import json

import polars as pl
import pytest

from results.schema import CELLS, MEMBERS, RECORDS, json_text


@pytest.mark.parametrize("table", [CELLS, RECORDS, MEMBERS])
def test_columns_are_named_once_documented_and_keyed(table):
    names = [column.name for column in table.columns]
    assert len(set(names)) == len(names)
    assert set(table.key) <= set(names)
    assert all(column.doc for column in table.columns)
    assert table.frame([]).schema == table.schema


def test_frame_keeps_values_and_orders_columns(cell):
    row = cell()
    shuffled = dict(reversed(row.items()))
    frame = CELLS.frame([shuffled])
    assert frame.columns == CELLS.schema.names()
    assert frame.row(0, named=True) == row


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "dne"}, r"cells\.status is 'dne'; it must be done \| failed"),
        ({"layers": 0}, r"cells\.layers is 0; it must be at least 1"),
        ({"layers": "one"}, r"cells\.layers is 'one'; it must be Int64"),
        ({"layers": None}, r"cells\.layers is None; it must be given"),
        ({"seconds": float("nan")}, r"cells\.seconds is nan; it must be finite"),
        ({"seconds": -1.0}, r"cells\.seconds is -1\.0; it must be at least 0"),
        ({"tokens": 2**70}, r"cells\.tokens is \d+; it must be Int64"),
        ({"config": "{"}, r"cells\.config is '\{'; it must be the text of a JSON object"),
        ({"constants": "[1]"}, r"cells\.constants is '\[1\]'; it must be the text of a JSON object"),
        ({"error": "late"}, r"cells\.error is 'late'; it must be null for a done cell"),
        ({"status": "failed"}, r"cells\.error is None; .* a line of text for a failed one"),
        ({"parameters_by_group": '{"blocks":1}'}, r"cells\.parameters_by_group is .*; it must be groups that add up"),
        ({"train_flops_by_group": '{"head":3e9}'}, r"cells\.train_flops_by_group is .*; it must be groups that add"),
        ({"parameters_nonembedding": 9_001}, r"cells\.parameters_nonembedding is 9001; it must be at most"),
        ({"finished_at": "today"}, r"cells\.finished_at is 'today'; it must be Datetime"),
    ],
)
def test_a_wrong_cell_names_column_value_and_rule(cell, change, message):
    with pytest.raises(ValueError, match=message):
        CELLS.frame([cell(**change)])


def test_missing_and_unknown_columns_are_named(cell):
    row = cell()
    del row["host"]
    with pytest.raises(ValueError, match=r"unknown columns \[hots\] and lacks \[host\]"):
        CELLS.frame([row | {"hots": "x"}])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.lit(float("inf")).alias("value"), r"records\.value is inf; it must be finite"),
        (pl.lit(None, pl.Float64).alias("value"), r"records\.value is None; it must be null where n is 0"),
        (pl.lit(0, pl.Int64).alias("n"), r"records\.value is 0\.5; it must be null where n is 0"),
        (pl.lit(-1, pl.Int64).alias("loop"), r"records\.loop is -1; it must be at least 0"),
        (pl.col("loop").cast(pl.Int32), r"records\.loop is Int32; it must be a column of Int64"),
        (pl.lit("facts").alias("split"), r"records cell/evaluation.* must be unique"),
    ],
)
def test_a_wrong_record_names_column_value_and_rule(records, change, message):
    with pytest.raises(ValueError, match=message):
        RECORDS.validate(records().with_columns(change))


def test_rows_that_differ_only_in_a_null_are_different(records):
    by_difficulty = records().with_columns(difficulty=pl.lit(2, pl.Int64))
    assert len(RECORDS.validate(pl.concat([records(), by_difficulty]))) == 12
    with pytest.raises(ValueError, match="unique"):
        RECORDS.validate(pl.concat([records(), records()]))


def test_an_unmet_condition_is_null_over_zero_examples(records):
    unmet = records().with_columns(value=pl.lit(None, pl.Float64), n=pl.lit(0, pl.Int64))
    assert RECORDS.validate(unmet)["value"].null_count() == 6


def test_json_text_does_not_depend_on_the_order_of_keys_and_refuses_nan():
    assert json_text({"b": 1, "a": {"d": 2, "c": "⊗"}}) == '{"a":{"c":"⊗","d":2},"b":1}'
    assert json.loads(json_text({"x": 0.1})) == {"x": 0.1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text({"x": float("nan")})


def test_times_are_kept_in_utc(cell):
    zone = datetime.timezone(datetime.timedelta(hours=2))
    frame = CELLS.frame([cell(finished_at=datetime.datetime(2026, 1, 2, 5, tzinfo=zone))])
    assert frame["finished_at"][0] == datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC)
