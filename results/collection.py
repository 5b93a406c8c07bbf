"""A collection: the rows behind one report, gathered in a folder that can be committed and reported from again.

    folder/cells.parquet, records.parquet, members.parquet, SHA256SUMS

Unlike a store it is written once, by one process, whole and right. Read again, a file that is damaged is refused; cells
whose rows cannot be right (they occur twice, or break a rule of the schema) are left out and listed.
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from results.bundle import read_bundle, write_bundle
from results.schema import CELLS, MEMBERS, RECORDS, Table

_NAMES = ("cells", "records", "members")


@dataclass(frozen=True)
class Problem:
    """Rows that could not be used, and why in one line: a whole cell's, or one further evaluation's."""

    file: Path
    reason: str
    cell: str
    evaluation: str | None = None


@dataclass(frozen=True)
class Collection:
    """Frames of `schema.CELLS`, `schema.RECORDS` and `schema.MEMBERS`, sorted by key.

    Every record belongs to a done cell. A member may name a cell that has no row: it was planned and has not run.
    `problems` are what was left out.
    """

    cells: pl.DataFrame
    records: pl.DataFrame
    members: pl.DataFrame
    problems: tuple[Problem, ...] = ()


def write_collection(folder: Path, cells: pl.DataFrame, records: pl.DataFrame, members: pl.DataFrame) -> Collection:
    """Check the frames and write them to `folder`, which is made if need be. Equal frames give equal bytes."""
    collection = _checked(cells, records, members)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_bundle(folder, {"cells": collection.cells, "records": collection.records, "members": collection.members})
    except OSError as error:
        raise OSError(f"collection folder {folder} cannot be written: {error.strerror}") from error
    return collection


def is_collection(folder: Path) -> bool:
    """Whether `folder` holds a collection, whole or not."""
    return (folder / f"{_NAMES[0]}.parquet").exists()


def read_collection(folder: Path) -> Collection:
    """The sound part of the collection in `folder`, and what was left out of it.

    Raises:
        ValueError: if a file is missing or damaged, its columns are not those of the schema, or the members are wrong.
    """
    if not folder.is_dir():
        raise ValueError(f"collection folder {folder} does not exist")
    frames = read_bundle(folder, _NAMES)
    try:
        members = MEMBERS.validate(frames["members"].unique(maintain_order=True))
        cells, wrong_cells = _sound(CELLS, frames["cells"])
        records, wrong_records = _sound(RECORDS, frames["records"])
    except ValueError as error:
        raise ValueError(f"collection {folder}: {error}") from error
    problems = wrong_cells | wrong_records
    done = cells.filter(pl.col("status") == "done")
    for cell in records.join(done, on="cell", how="anti")["cell"].unique(maintain_order=True):
        problems.setdefault(cell, f"records.cell is {cell!r}; it must be a done cell of the collection")
    lost = list(problems)
    cells, records = (frame.filter(~pl.col("cell").is_in(lost)) for frame in (cells, records))
    return Collection(
        cells.sort(CELLS.key),
        records.sort(RECORDS.key),
        members.sort(MEMBERS.key),
        tuple(Problem(folder, reason, cell) for cell, reason in sorted(problems.items())),
    )


def _sound(table: Table, frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, str]]:
    """The rows of the cells of which no row is wrong, and why of each other cell. Repeated rows count once."""
    problems: dict[str, str] = {}
    frame = table.typed(frame).unique(maintain_order=True)
    while (fault := next(table.faults(frame), None)) is not None:
        cells = frame.filter(fault.rows)["cell"].drop_nulls().unique(maintain_order=True)
        problems |= dict.fromkeys(cells, fault.first(table.name, frame))
        frame = frame.filter(~fault.rows).filter(~pl.col("cell").is_in(cells.implode()))
    return frame, problems


def _checked(cells: pl.DataFrame, records: pl.DataFrame, members: pl.DataFrame) -> Collection:
    cells, records, members = CELLS.validate(cells), RECORDS.validate(records), MEMBERS.validate(members)
    done = cells.filter(pl.col("status") == "done")
    strays = records.join(done, on="cell", how="anti")
    if not strays.is_empty():
        raise ValueError(f"records.cell is {strays['cell'][0]!r}; it must be a done cell of the collection")
    return Collection(cells.sort(CELLS.key), records.sort(RECORDS.key), members.sort(MEMBERS.key))
