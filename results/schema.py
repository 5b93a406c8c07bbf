"""The three tables, column by column: what each means, its unit, its type, and what it may hold.

`CELLS` has a row per finished or failed cell, `RECORDS` a row per measured number, `MEMBERS` says which cell plays
which part in a question. Where the files lie is `store.py`'s and `collection.py`'s business.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: as in the files.
        dtype: its Polars type, exactly.
        doc: what it means, with its unit.
        nullable: whether null may stand in it.
        allowed: the only strings it may hold, if they are few.
        least: smallest number it may hold.
        json: whether each value is the text of a JSON object.
    """

    name: str
    dtype: pl.DataType
    doc: str
    nullable: bool = False
    allowed: tuple[str, ...] | None = None
    least: int | None = None
    json: bool = False

    def check(self, series: pl.Series) -> tuple[Any, str] | None:
        """The first value that may not stand in this column with what may, or None if all are right."""
        if series.dtype != self.dtype:
            return series.dtype, f"a column of {self.dtype}"
        values = series.drop_nulls()
        if not self.nullable and len(values) < len(series):
            return None, "given"
        wrong, rule = values.clear(), ""
        if self.allowed is not None:
            wrong, rule = values.filter(~values.is_in(self.allowed)), " | ".join(self.allowed)
        elif self.json:
            faulty = pl.Series([not _is_object(text) for text in values], dtype=pl.Boolean)
            wrong, rule = values.filter(faulty), "the text of a JSON object"
        elif self.dtype.is_float() and not values.is_finite().all():
            wrong, rule = values.filter(~values.is_finite()), "finite"
        elif self.least is not None:
            wrong, rule = values.filter(values < self.least), f"at least {self.least}"
        return None if wrong.is_empty() else (wrong[0], rule)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except json.JSONDecodeError:
        return False


RowRule = Callable[[Mapping[str, Any]], tuple[str, str] | None]
"""Looks at a whole row; returns the name of a wrong column with what it must be, or None."""


@dataclass(frozen=True)
class Table:
    """A table with a fixed schema.

    Attributes:
        name: used in messages.
        columns: in the order of the files.
        key: columns that together tell one row from every other.
        rule: what must hold between the columns of one row.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    rule: RowRule = lambda row: None

    @property
    def schema(self) -> pl.Schema:
        """Names and types, for `polars.DataFrame(rows, schema=TABLE.schema)`."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    def frame(self, rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
        """A valid frame of `rows`, each a mapping with every column and no other."""
        rows = list(rows)
        for row in rows:
            self._check_names(row)
        series = []
        for column in self.columns:
            values = [row[column.name] for row in rows]
            try:
                series.append(pl.Series(column.name, values, dtype=column.dtype, strict=True))
            except (TypeError, OverflowError, pl.exceptions.PolarsError) as error:
                shown = repr(values[0]) if len(values) == 1 else f"not all {column.dtype}"
                raise ValueError(f"{self.name}.{column.name} is {shown}; it must be {column.dtype}") from error
        return self.validate(pl.DataFrame(series, schema=self.schema))

    def validate(self, frame: pl.DataFrame) -> pl.DataFrame:
        """`frame` with its columns in order, or a `ValueError` naming the column, a value and what is allowed."""
        self._check_names(frame.schema)
        frame = frame.select(self.schema.names())
        for column in self.columns:
            if (wrong := column.check(frame[column.name])) is not None:
                value, rule = wrong
                shown = value if isinstance(value, pl.DataType) else repr(value)
                raise ValueError(f"{self.name}.{column.name} is {shown}; it must be {rule}")
        for row in frame.iter_rows(named=True):
            if (broken := self.rule(row)) is not None:
                name, rule = broken
                raise ValueError(f"{self.name}.{name} is {row[name]!r}; it must be {rule}")
        twice = frame.filter(frame.select(self.key).is_duplicated())
        if not twice.is_empty():
            raise ValueError(f"{self.name} {'/'.join(self.key)} is {twice.select(self.key).row(0)}; it must be unique")
        return frame

    def _check_names(self, names: Iterable[str]) -> None:
        known, given = set(self.schema), set(names)
        if known != given:
            missing, unknown = ", ".join(sorted(known - given)), ", ".join(sorted(given - known))
            raise ValueError(f"{self.name} has unknown columns [{unknown}] and lacks [{missing}]")


def json_text(value: Mapping[str, Any]) -> str:
    """The canonical JSON text of a mapping: sorted keys, no spaces, no NaN. The same mapping gives the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def _groups_add_up(row: Mapping[str, Any], total: str, groups: str) -> tuple[str, str] | None:
    parts = math.fsum(json.loads(row[groups]).values())
    return None if math.isclose(parts, row[total], rel_tol=1e-9) else (groups, f"groups that add up to {row[total]}")


def _cell_rule(row: Mapping[str, Any]) -> tuple[str, str] | None:
    if (row["error"] is None) != (row["status"] == "done"):
        return "error", "null for a done cell, a line of text for a failed one"
    if row["parameters_nonembedding"] > row["parameters"]:
        return "parameters_nonembedding", f"at most parameters = {row['parameters']}"
    return _groups_add_up(row, "parameters", "parameters_by_group") or _groups_add_up(
        row, "train_flops", "train_flops_by_group"
    )


def _record_rule(row: Mapping[str, Any]) -> tuple[str, str] | None:
    return (
        ("value", f"null where n is 0 and only there (n is {row['n']})")
        if (row["value"] is None) != (row["n"] == 0)
        else None
    )


_TEXT, _INT, _FLOAT = pl.String(), pl.Int64(), pl.Float64()

CELLS = Table(
    "cells",
    (
        Column("cell", _TEXT, "id of the cell: hash of its canonical configuration, and name of its folder"),
        Column("status", _TEXT, "whether it was trained and measured to the end", allowed=("done", "failed")),
        Column("error", _TEXT, "last line of what made it fail; null if done", nullable=True),
        Column("config", _TEXT, "the canonical configuration", json=True),
        Column("task", _TEXT, "name and version of the task"),
        Column("objective", _TEXT, "name of the training objective"),
        Column("precision", _TEXT, "precision of the training arithmetic"),
        Column("layers", _INT, "distinct blocks", least=1),
        Column("loops", _INT, "times that the stack of blocks runs", least=1),
        Column("exits", _INT, "states that a head reads: the range of records.loop", least=1),
        Column("hidden_size", _INT, "width of the residual stream", least=1),
        Column("vocab_size", _INT, "tokens, every one of which the task can say", least=1),
        Column("parameters", _INT, "distinct trained numbers, embeddings included", least=1),
        Column("parameters_nonembedding", _INT, "the same without embedding and head", least=0),
        Column("parameters_by_group", _TEXT, "parameters of each group; they add up to `parameters`", json=True),
        Column("steps", _INT, "optimiser steps", least=1),
        Column("batch_size", _INT, "examples a step", least=1),
        Column("train_flops", _FLOAT, "floating-point operations of the whole training, by formula", least=0),
        Column("train_flops_by_group", _TEXT, "the same by group; they add up to `train_flops`", json=True),
        Column("data_seed", _INT, "which world of facts", least=0),
        Column("order_seed", _INT, "which examples when", least=0),
        Column("init_seed", _INT, "which initial weights", least=0),
        Column("constants", _TEXT, "exact quantities of the world, by name (bits, people, floors)", json=True),
        Column("device", _TEXT, "provenance: model name of the CPU or GPU"),
        Column("backend", _TEXT, "provenance: eager or compiled, and which kernels"),
        Column("torch", _TEXT, "provenance: version of torch"),
        Column("suite_commit", _TEXT, "provenance: git commit of the suite; null outside a checkout", nullable=True),
        Column("host", _TEXT, "provenance: name of the machine"),
        Column("seconds", _FLOAT, "provenance: wall time of training, in seconds, over all sittings", least=0),
        Column("tokens", _INT, "tokens trained on, padding excluded", least=0),
        Column("finished_at", pl.Datetime("us", "UTC"), "provenance: when the row was made"),
    ),
    key=("cell",),
    rule=_cell_rule,
)
"""One row per finished or failed cell."""

RECORDS = Table(
    "records",
    (
        Column("cell", _TEXT, "id of the cell that was measured"),
        Column("evaluation", _TEXT, "name and version of the measurement, such as answers@1"),
        Column("step", _INT, "optimiser steps that the measured weights had seen", least=0),
        Column(
            "loop", _INT, "exit 1 … R that was read; 0 for the gate's mixture; null if none", nullable=True, least=0
        ),
        Column("split", _TEXT, "split of the task"),
        Column("difficulty", _INT, "the task's own measure; null for all together", nullable=True),
        Column("metric", _TEXT, "what `value` is, with its unit in the name unless it is a share"),
        Column("value", _FLOAT, "the number; null where no example met the metric's condition", nullable=True),
        Column("n", _INT, "examples behind the number", least=0),
    ),
    key=("cell", "evaluation", "step", "loop", "split", "difficulty", "metric"),
    rule=_record_rule,
)
"""One row per measured number."""

WITH_CELL = ("answers", "floors", "stability")
"""Evaluations that are published together with the cell's row; every other is added to a published cell, on its own."""


def evaluation_name(evaluation: str) -> str:
    """The name in `records.evaluation`, without the version."""
    return evaluation.partition("@")[0]


MEMBERS = Table(
    "members",
    (
        Column("question", _TEXT, "name of the question"),
        Column("scale", _TEXT, "scale of the grid, such as lab"),
        Column("part", _TEXT, "part of the question, such as storage or use"),
        Column("arm", _TEXT, "the arm of the contrast that the cell stands for"),
        Column("point", _TEXT, "values of the axes crossed with the arm", json=True),
        Column("replicate", _INT, "which world and initialisation; arms are paired on it", least=0),
        Column("cell", _TEXT, "id of the cell; it may be one that has not run yet"),
    ),
    key=("question", "scale", "part", "arm", "point", "replicate"),
)
"""Which cell plays which part. A member whose cell has no row stays in its arm's denominator."""
