"""The three tables, column by column: what each means, its unit, its type, and what it may hold.

`CELLS` has a row per finished or failed cell, `RECORDS` a row per measured number, `MEMBERS` says which cell plays
which part in a question. Where the files lie is `store.py`'s and `collection.py`'s business.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
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

    def faults(self, series: pl.Series) -> tuple[pl.Series, str]:
        """Where values stand that may not, as a mask without nulls, and what may."""
        if not self.nullable and series.null_count():
            return series.is_null(), "given"
        wrong, rule = pl.repeat(False, len(series), dtype=pl.Boolean, eager=True), ""
        if self.allowed is not None:
            wrong, rule = ~series.is_in(self.allowed), " | ".join(self.allowed)
        elif self.json:
            texts = series.unique().drop_nulls()
            faulty = texts.filter(pl.Series([not _is_object(text) for text in texts], dtype=pl.Boolean))
            wrong, rule = series.is_in(faulty.implode()), "the text of a JSON object"
        elif self.dtype.is_float() and not series.is_finite().all():
            wrong, rule = ~series.is_finite(), "finite"
        elif self.least is not None:
            wrong, rule = series < self.least, f"at least {self.least}"
        return wrong.fill_null(False), rule


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except json.JSONDecodeError:
        return False


@dataclass(frozen=True)
class Fault:
    """What is wrong with some rows of a frame.

    Attributes:
        column: the column whose value is wrong, or the key's, joined by slashes.
        rows: a mask of the rows.
        rule: what must be, from such a row.
    """

    column: str
    rows: pl.Series
    rule: Callable[[Mapping[str, Any]], str]

    def first(self, table: str, frame: pl.DataFrame) -> str:
        """The first such row of `frame`, in a sentence."""
        row = frame.row(int(self.rows.arg_max() or 0), named=True)
        names = self.column.split("/")
        shown = repr(row[self.column]) if len(names) == 1 else str(tuple(row[name] for name in names))
        return f"{table}{'.' if len(names) == 1 else ' '}{self.column} is {shown}; it must be {self.rule(row)}"


Rule = Callable[[pl.DataFrame], Iterable[Fault]]
"""Looks at a whole frame for rows whose columns do not fit each other."""


def _always(rule: str) -> Callable[[Mapping[str, Any]], str]:
    """What must be, whatever the row."""
    return lambda row: rule


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
    rule: Rule = lambda frame: ()

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
        frame = self.typed(frame)
        for fault in self.faults(frame):
            raise ValueError(fault.first(self.name, frame))
        return frame

    def typed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """`frame` with its columns in order, or a `ValueError` for missing, unknown or differently typed columns."""
        self._check_names(frame.schema)
        frame = frame.select(self.schema.names())
        for column in self.columns:
            if (dtype := frame.schema[column.name]) != column.dtype:
                raise ValueError(f"{self.name}.{column.name} is {dtype}; it must be a column of {column.dtype}")
        return frame

    def faults(self, frame: pl.DataFrame) -> Iterator[Fault]:
        """What is wrong with the rows of a typed frame: single values, then whole rows, then keys that occur twice."""
        for column in self.columns:
            wrong, rule = column.faults(frame[column.name])
            if wrong.any():
                yield Fault(column.name, wrong, _always(rule))
        yield from (fault for fault in self.rule(frame) if fault.rows.any())
        twice = frame.select(self.key).is_duplicated()
        if twice.any():
            yield Fault("/".join(self.key), twice, _always("unique"))

    def _check_names(self, names: Iterable[str]) -> None:
        known, given = set(self.schema), set(names)
        if known != given:
            missing, unknown = ", ".join(sorted(known - given)), ", ".join(sorted(given - known))
            raise ValueError(f"{self.name} has unknown columns [{unknown}] and lacks [{missing}]")


def json_text(value: Mapping[str, Any]) -> str:
    """The canonical JSON text of a mapping: sorted keys, no spaces, no NaN. The same mapping gives the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def _groups_add_up(frame: pl.DataFrame, total: str, groups: str) -> Fault:
    off = [
        not math.isclose(math.fsum(json.loads(text).values()), wanted, rel_tol=1e-9)
        for text, wanted in frame.select(groups, total).iter_rows()
    ]
    return Fault(groups, pl.Series(off, dtype=pl.Boolean), lambda row: f"groups that add up to {row[total]}")


def _cell_rule(frame: pl.DataFrame) -> Iterator[Fault]:
    told = frame["error"].is_null() != (frame["status"] == "done")
    yield Fault("error", told, lambda row: "null for a done cell, a line of text for a failed one")
    more = frame["parameters_nonembedding"] > frame["parameters"]
    yield Fault("parameters_nonembedding", more, lambda row: f"at most parameters = {row['parameters']}")
    yield _groups_add_up(frame, "parameters", "parameters_by_group")
    yield _groups_add_up(frame, "train_flops", "train_flops_by_group")


def _record_rule(frame: pl.DataFrame) -> Iterator[Fault]:
    told = frame["value"].is_null() != (frame["n"] == 0)
    yield Fault("value", told, lambda row: f"null where n is 0 and only there (n is {row['n']})")


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
