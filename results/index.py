"""Reading a store through its index, a bundle that remembers the rows of every cell and can always be rebuilt.

    root/index/files.parquet     size and time of every file behind a row: a row counts while all of these are unchanged
    root/index/cells.parquet, records.parquet   the rows

What the files mean, and how they come to be, is `store.py`'s business.
"""

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from results.bundle import from_parquet, read_bundle, write_bundle
from results.collection import Problem
from results.schema import CELLS, RECORDS

_FILES = pl.Schema(
    {
        "cell": pl.String,
        "status": pl.String,
        "size": pl.Int64,
        "mtime_ns": pl.Int64,
        "records_size": pl.Int64,
        "records_mtime_ns": pl.Int64,
        "evaluations": pl.String,
    }
)

_SCHEMAS = {"files": _FILES, "cells": CELLS.schema, "records": RECORDS.schema}

_BATCH = 1000
"""Cells whose rows are checked together: checking costs by the frame rather than by the row."""


@dataclass(frozen=True)
class Rows:
    """What a store holds.

    Attributes:
        cells: rows of `schema.CELLS`, sorted by cell; done and failed ones.
        records: rows of `schema.RECORDS` of the done cells, sorted by key.
        problems: files left out of both.
    """

    cells: pl.DataFrame
    records: pl.DataFrame
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Index:
    """The rows of the store under `root`. Any number of processes may read, and write the index, at once."""

    root: Path

    def read(self, cells: Iterable[str] | None = None) -> Rows:
        """All rows, or those of `cells`, and the index brought up to date."""
        files = self._scan()
        known = self._load("files", "cells", "records")
        rows = Rows(known["cells"], known["records"], ())
        if not files.equals(known["files"]):
            rows = self._updated(files, known)
        if cells is None:
            return rows
        cells = set(cells)
        asked = pl.col("cell").is_in(cells)
        problems = tuple(problem for problem in rows.problems if problem.cell in cells)
        return Rows(rows.cells.filter(asked), rows.records.filter(asked), problems)

    def problems(self, cells: Iterable[str]) -> tuple[Problem, ...]:
        """What `read` would leave out of `cells`. Those that have not changed are not opened, and the index is brought
        up to date only where many have: that takes longer than to read a few again."""
        cells = set(cells)
        changed = _changed(self._scan(), self._load("files")["files"]).filter(pl.col("cell").is_in(cells))
        if len(changed) > _BATCH:
            return self.read(cells).problems
        return self._read_cells(changed.select("cell", "status").rows()).problems

    def errors(self, cells: Iterable[str]) -> dict[str, str]:
        """Why each of `cells` failed, by cell; without those that have not, or whose failure cannot be read."""
        files = self._scan(cells).filter(status="failed")
        if files.is_empty():
            return {}
        known = self._load("files", "cells")
        changed = _changed(files, known["files"])
        remembered = known["cells"].join(files, on="cell", how="semi").join(changed, on="cell", how="anti")
        frames = [remembered, self._read_cells(changed.select("cell", "status").rows()).cells]
        return dict(pl.concat(frames).select("cell", "error").iter_rows())

    def _scan(self, cells: Iterable[str] | None = None) -> pl.DataFrame:
        """A row of `_FILES` for each cell, or each of `cells`, that has rows or a failure."""
        if cells is None:
            try:
                cells = os.listdir(self.root / "cells")
            except FileNotFoundError:
                cells = ()
        found = []
        for name in sorted(cells):
            folder = self._folder(name)
            cell, records = _stat(f"{folder}/rows/cell.parquet"), _stat(f"{folder}/rows/records.parquet")
            if cell != _ABSENT or records != _ABSENT or os.path.isdir(f"{folder}/rows"):
                found.append((name, "done", *cell, *records, _seen(_evaluations(folder))))
            elif (failure := _stat(f"{folder}/failure.parquet")) != _ABSENT:
                found.append((name, "failed", *failure, *_ABSENT, ""))
        return pl.DataFrame(found, schema=_FILES, orient="row")

    def _updated(self, files: pl.DataFrame, known: dict[str, pl.DataFrame]) -> Rows:
        """The rows behind `files`, of which `known` is remembered; the index is written if it has changed."""
        changed = _changed(files, known["files"])
        fresh = files.join(changed, on="cell", how="anti")
        rows = self._read_cells(changed.select("cell", "status").rows())
        frames = ((known["cells"], rows.cells, CELLS.key), (known["records"], rows.records, RECORDS.key))
        cells, records = (
            pl.concat([old.join(fresh, on="cell", how="semi"), new]).sort(key) for old, new, key in frames
        )
        sound = files.join(cells, on="cell", how="semi")
        sound = sound.filter(~pl.col("cell").is_in([problem.cell for problem in rows.problems]))
        if not sound.equals(known["files"]):
            self._write(sound, *(frame.join(sound, on="cell", how="semi") for frame in (cells, records)))
        return Rows(cells, records, rows.problems)

    def _read_cells(self, entries: Sequence[tuple[str, str]]) -> Rows:
        """The rows of cells, given with their status, from their own files."""
        batches = [self._read_batch(entries[start : start + _BATCH]) for start in range(0, len(entries), _BATCH)]
        return _joined(batches)

    def _read_batch(self, entries: Sequence[tuple[str, str]]) -> Rows:
        """The same for a few, checked together; where something is wrong, halves are until the cell is found."""
        if len(entries) == 1:
            return self._read_alone(*entries[0])
        try:
            return self._read_together(entries)
        except (ValueError, OSError):
            middle = len(entries) // 2
            return _joined([self._read_batch(entries[:middle]), self._read_batch(entries[middle:])])

    def _read_together(self, entries: Sequence[tuple[str, str]]) -> Rows:
        """The rows of cells with which nothing is wrong; a `ValueError` or `OSError` if there is."""
        rows, records, owners = [], [], []
        for name, status in entries:
            row, own = self._read_files(name, status)
            rows.append(row)
            for frame in (own, *(_measured(path) for path in _evaluations(self._folder(name)))):
                records.append(frame)
                owners.append(pl.Series([name]).new_from_index(0, len(frame)))
        cells, measured = CELLS.validate(_stacked(rows)), RECORDS.validate(_stacked(records))
        if cells.select("cell", "status").rows() != list(entries) or not measured["cell"].equals(pl.concat(owners)):
            raise ValueError("rows of another cell")
        return Rows(cells, measured, ())

    def _read_alone(self, name: str, status: str) -> Rows:
        """The rows of one cell, or what is wrong with them; a damaged evaluation leaves the cell's own rows."""
        folder = self._folder(name)
        try:
            row, own = self._read_files(name, status)
            row, records, problems = CELLS.validate(row), [checked_records(own, name)], []
            if row.select("cell", "status").rows() != [(name, status)]:
                raise ValueError(f"cell row is {row.select('cell', 'status').rows()}; it must be {name} {status}")
        except (ValueError, OSError) as error:
            return Rows(_NO_CELLS, _NO_RECORDS, (Problem(Path(folder), str(error), name),))
        for path in _evaluations(folder):
            try:
                records.append(checked_records(_measured(path), name))
            except (ValueError, OSError) as error:
                problems.append(Problem(Path(path), str(error), name, os.path.basename(path)))
        return Rows(row, pl.concat(records), tuple(problems))

    def _read_files(self, name: str, status: str) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The row and the own records of a cell as they are written, neither checked."""
        folder = Path(self._folder(name))
        if status == "done":
            frames = read_bundle(folder / "rows", ("cell", "records"))
            return frames["cell"], frames["records"]
        failure = folder / "failure.parquet"
        return from_parquet(failure.read_bytes(), failure), _NO_RECORDS

    def _folder(self, name: str) -> str:
        return os.path.join(self.root, "cells", name)

    def _load(self, *names: str) -> dict[str, pl.DataFrame]:
        """These frames of the index; empty ones where it is missing, damaged or of another time."""
        schemas = {name: _SCHEMAS[name] for name in names}
        try:
            index = read_bundle(self.root / "index", names)
        except ValueError:
            index = {}
        if {name: frame.schema for name, frame in index.items()} != schemas:
            return {name: pl.DataFrame(schema=schema) for name, schema in schemas.items()}
        return index

    def _write(self, files: pl.DataFrame, cells: pl.DataFrame, records: pl.DataFrame) -> None:
        # The index is a convenience: where the folder is read-only, every read is merely slower.
        with contextlib.suppress(OSError):
            (self.root / "index").mkdir(exist_ok=True)
            write_bundle(self.root / "index", {"files": files, "cells": cells, "records": records})


_NO_CELLS, _NO_RECORDS = CELLS.frame([]), RECORDS.frame([])
_ABSENT = (None, None)


def checked_records(records: pl.DataFrame, cell: str) -> pl.DataFrame:
    """The records of one cell, sorted by key; a `ValueError` if they are not valid, or another cell's."""
    records = RECORDS.validate(records)
    others = records["cell"].filter(records["cell"] != cell)
    if not others.is_empty():
        raise ValueError(f"records.cell is {others[0]!r}; it must be {cell!r}")
    return records.sort(RECORDS.key)


def _changed(files: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """The rows of `files` that are not just so in `known`."""
    return files.join(known, on=_FILES.names(), how="anti", nulls_equal=True)


def _stacked(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Frames one below the other; a `ValueError` if they differ in their columns."""
    try:
        return pl.concat(frames)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"files do not fit together: {error}") from error


def _joined(parts: Sequence[Rows]) -> Rows:
    """What several readings found."""
    return Rows(
        pl.concat([_NO_CELLS, *(part.cells for part in parts)]),
        pl.concat([_NO_RECORDS, *(part.records for part in parts)]),
        tuple(problem for part in parts for problem in part.problems),
    )


def _stat(path: str) -> tuple[int, int] | tuple[None, None]:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return _ABSENT
    return stat.st_size, stat.st_mtime_ns


def _evaluations(folder: str) -> list[str]:
    """The bundles of a cell's further evaluations, by name."""
    try:
        names = os.listdir(f"{folder}/evaluations")
    except FileNotFoundError:
        return []
    paths = [f"{folder}/evaluations/{name}" for name in sorted(names) if "@" in name and not name.startswith(".")]
    return [path for path in paths if os.path.isdir(path)]


def _seen(evaluations: Sequence[str]) -> str:
    """What the index knows of a cell's further evaluations: name, size and time of each."""
    found = [(os.path.basename(path), *_stat(f"{path}/records.parquet")) for path in evaluations]
    return " ".join(":".join(map(str, entry)) for entry in found)


def _measured(path: str) -> pl.DataFrame:
    return read_bundle(Path(path), ("records",))["records"]
