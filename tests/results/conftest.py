import datetime

import polars as pl
import pytest

from results.schema import RECORDS, json_text


def make_cell(name: str = "cell0", **changes):
    row = {
        "cell": name,
        "status": "done",
        "error": None,
        "config": json_text({"model": {"layers": 1, "loops": 2}}),
        "task": "twohop@1",
        "objective": "last",
        "precision": "32-true",
        "layers": 1,
        "loops": 2,
        "exits": 2,
        "hidden_size": 64,
        "vocab_size": 100,
        "parameters": 9_000,
        "parameters_nonembedding": 2_600,
        "parameters_by_group": json_text({"blocks": 2_600, "embedding": 6_400}),
        "steps": 10,
        "batch_size": 8,
        "train_flops": 3.5e9,
        "train_flops_by_group": json_text({"blocks": 2.5e9, "head": 1e9}),
        "data_seed": 0,
        "order_seed": 1,
        "init_seed": 2,
        "constants": json_text({"fact_bits": 1410.5}),
        "device": "a CPU",
        "backend": "eager",
        "torch": "2.13.0",
        "suite_commit": None,
        "host": "here",
        "seconds": 1.5,
        "tokens": 480,
        "finished_at": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
    }
    assert changes.keys() <= row.keys()
    return row | changes


def make_records(name: str = "cell0", value: float = 0.5) -> pl.DataFrame:
    rows = [
        {
            "cell": name,
            "evaluation": "answers@1",
            "step": 10,
            "loop": loop,
            "split": split,
            "difficulty": None,
            "metric": "accuracy",
            "value": value,
            "n": 40,
        }
        for loop in (0, 1, 2)
        for split in ("facts", "ood_both")
    ]
    return pl.DataFrame(rows, schema=RECORDS.schema)


@pytest.fixture
def cell():
    return make_cell


@pytest.fixture
def records():
    return make_records
