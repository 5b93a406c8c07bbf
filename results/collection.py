"""A collection: the rows behind one report, gathered in a folder that can be committed and reported from again.

    folder/cells.parquet, records.parquet, members.parquet, SHA256SUMS

Unlike a store it is written once, by one process, and refused as a whole if any of it is wrong.
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from results.bundle import read_bundle, write_bundle
from results.schema import CELLS, MEMBERS, RECORDS


@dataclass(frozen=True)
class Collection:
    """Frames of `schema.CELLS`, `schema.RECORDS` and `schema.MEMBERS`, sorted by key.

    Every record belongs to a done cell. A member may name a cell that has no row: it was planned and has not run.
    """

    cells: pl.DataFrame
    records: pl.DataFrame
    members: pl.DataFrame


def write_collection(folder: Path, cells: pl.DataFrame, records: pl.DataFrame, members: pl.DataFrame) -> Collection:
    """Check the frames and write them to `folder`, which is made if need be. Equal frames give equal bytes."""
    collection = _checked(cells, records, members)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_bundle(folder, {"cells": collection.cells, "records": collection.records, "members": collection.members})
    except OSError as error:
        raise OSError(f"collection folder {folder} cannot be written: {error.strerror}") from error
    return collection


def read_collection(folder: Path) -> Collection:
    """The collection in `folder`. `ValueError` names the file, or the column and value, that is wrong."""
    if not folder.is_dir():
        raise ValueError(f"collection folder {folder} does not exist")
    frames = read_bundle(folder, ("cells", "records", "members"))
    try:
        return _checked(frames["cells"], frames["records"], frames["members"])
    except ValueError as error:
        raise ValueError(f"collection {folder}: {error}") from error


def _checked(cells: pl.DataFrame, records: pl.DataFrame, members: pl.DataFrame) -> Collection:
    cells, records, members = CELLS.validate(cells), RECORDS.validate(records), MEMBERS.validate(members)
    done = cells.filter(pl.col("status") == "done")
    strays = records.join(done, on="cell", how="anti")
    if not strays.is_empty():
        raise ValueError(f"records.cell is {strays['cell'][0]!r}; it must be a done cell of the collection")
    return Collection(cells.sort(CELLS.key), records.sort(RECORDS.key), members.sort(MEMBERS.key))
