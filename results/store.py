"""The store: a folder of cells, each published whole or not at all. They are read through `index.py`.

    root/cells/<id>/rows/        a bundle of `cell` and `records`: its presence means that the cell is done
    root/cells/<id>/evaluations/<name>@<version>/   a bundle of further `records` of a done cell
    root/cells/<id>/failure.parquet   one row of the last failure; without meaning once `rows` is there
    root/index/                  what `index.py` remembers of all of the above; delete it at will

Whoever trains a cell may keep other files in its folder. Which cells answer which question is not known here.
"""

import contextlib
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from results.bundle import sync_folder, to_parquet, write_bundle, write_durably
from results.collection import Collection, Problem
from results.index import Index, Rows, checked_records
from results.schema import CELLS, RECORDS, WITH_CELL, evaluation_name


@dataclass(frozen=True)
class Store:
    """The results under `root`. Any number of processes may read and publish at once, and be killed at any instant."""

    root: Path

    def folder(self, cell: str) -> Path:
        """The folder of a cell. It need not exist."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", cell):
            raise ValueError(f"cell is {cell!r}; it must be letters, digits, - and _")
        return self.root / "cells" / cell

    def status(self, cell: str) -> Literal["done", "failed"] | None:
        """Whether rows of a cell are published, or else its failure, or neither. Looks at names, not into files."""
        folder = self.folder(cell)
        if (folder / "rows").exists():
            return "done"
        return "failed" if (folder / "failure.parquet").exists() else None

    def publish(
        self, cell: Mapping[str, Any], records: pl.DataFrame, confirm: Callable[[], bool] = lambda: True
    ) -> bool:
        """Publish a finished cell: its row of `CELLS` and its rows of `RECORDS`, both or neither.

        Both are written to a folder beside, which is then renamed; the system refuses to rename over a folder that
        holds files, so that the first of several processes wins and nothing is ever overwritten. `confirm` is asked
        between the two; whoever takes the cell over first makes it say no, and then calls `discard_drafts`.

        Returns:
            True if these rows were published, False if the cell already had rows or `confirm` said no.
        """
        row = CELLS.frame([cell])
        if cell["status"] != "done":
            raise ValueError(f"cells.status is {cell['status']!r}; it must be done to be published")
        records = checked_records(records, cell["cell"])
        for evaluation in records["evaluation"].unique():
            if evaluation_name(evaluation) not in WITH_CELL:
                raise ValueError(
                    f"records.evaluation is {evaluation!r}; with a cell it must be {' | '.join(WITH_CELL)}"
                )
        folder = self._writable(cell["cell"])
        return _publish_folder(folder, folder / "rows", {"cell": row, "records": records}, confirm)

    def discard_drafts(self, cell: str) -> None:
        """Remove what was written beside and not renamed into place: whoever was about to publish it no longer can."""
        folder = self.folder(cell)
        for draft in (*folder.glob(".rows-*"), *self._measured(cell).glob(".*@*")):
            if _SET_ASIDE not in draft.name:
                doomed = folder / f".discarded-{uuid.uuid4().hex}"
                with contextlib.suppress(FileNotFoundError):
                    draft.rename(doomed)
                _remove(doomed)

    def add(
        self, cell: str, evaluation: str, records: pl.DataFrame, confirm: Callable[[], bool] = lambda: True
    ) -> bool:
        """Publish a further evaluation of a done cell, whole or not at all; `confirm` as for `publish`.

        Returns:
            True if these records were published, False if the cell already had this evaluation or `confirm` said no.
        """
        records = checked_records(records, cell)
        if others := [name for name in records["evaluation"].unique() if name != evaluation]:
            raise ValueError(f"records.evaluation is {others[0]!r}; it must be {evaluation!r}")
        folder = self._measured(cell)
        folder.mkdir(parents=True, exist_ok=True)
        added = _publish_folder(folder, folder / evaluation, {"records": records}, confirm)
        (folder / f"{evaluation}.error").unlink(missing_ok=True)
        return added

    def add_failure(self, cell: str, evaluation: str, error: str) -> None:
        """Say in one line why an evaluation of a done cell failed. It counts until the evaluation is published."""
        folder = self._measured(cell)
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / f"{evaluation}.error", error.encode())

    def measured(self, cell: str, evaluation: str) -> bool:
        """Whether this further evaluation of a cell is published."""
        return (self._measured(cell) / evaluation).is_dir()

    def measuring_error(self, cell: str, evaluation: str) -> str | None:
        """Why this further evaluation failed, or None if it has not."""
        try:
            return (self._measured(cell) / f"{evaluation}.error").read_text()
        except FileNotFoundError:
            return None

    def _measured(self, cell: str) -> Path:
        return self.folder(cell) / "evaluations"

    def adopt(self, collection: Collection) -> int:
        """Publish what a collection holds of done cells and this store does not; returns how many cells were new."""
        records = collection.records.partition_by("cell", "evaluation", as_dict=True)
        of_cell: dict[str, dict[str, pl.DataFrame]] = {}
        for (cell, evaluation), frame in records.items():
            of_cell.setdefault(str(cell), {})[str(evaluation)] = frame
        new = 0
        for row in collection.cells.filter(pl.col("status") == "done").iter_rows(named=True):
            found = of_cell.get(row["cell"], {})
            if self.status(row["cell"]) != "done":
                own = [frame for name, frame in found.items() if evaluation_name(name) in WITH_CELL]
                new += self.publish(row, pl.concat([RECORDS.frame([]), *own]))
            for name, frame in found.items():
                if evaluation_name(name) not in WITH_CELL and not self.measured(row["cell"], name):
                    self.add(row["cell"], name, frame)
        return new

    def publish_failure(self, cell: Mapping[str, Any]) -> None:
        """Publish why a cell failed, in place of an earlier failure. It counts until the cell's rows are published."""
        row = CELLS.frame([cell])
        if cell["status"] != "failed":
            raise ValueError(f"cells.status is {cell['status']!r}; it must be failed to be published as a failure")
        write_durably(self._writable(cell["cell"]) / "failure.parquet", to_parquet(row))

    def forget_failure(self, cell: str) -> None:
        """Set aside that a cell failed, and that evaluations of it did, so that they are tried again."""
        if self.status(cell) == "failed":
            self.set_aside(cell)
        for error in self._measured(cell).glob("*.error"):
            error.unlink()

    def error(self, cell: str) -> str | None:
        """The last line of why a cell failed, or None if it has not."""
        return self.errors([cell]).get(cell)

    def errors(self, cells: Iterable[str]) -> dict[str, str]:
        """The last line of why each of these cells failed; those that have not are left out."""
        return Index(self.root).errors(cells)

    def set_aside(self, cell: str, evaluation: str | None = None) -> Path:
        """Move what a cell, or one further evaluation of it, has published out of the way, to be made again. Returns
        where it is now."""
        mark = f"{_SET_ASIDE}-{uuid.uuid4().hex[:8]}"
        if evaluation is not None:
            published = self._measured(cell) / evaluation
            aside = published.with_name(f".{evaluation}-{mark}")
        else:
            published = self.folder(cell) / ("rows" if self.status(cell) == "done" else "failure.parquet")
            aside = published.with_name(f"{published.stem}-{mark}{published.suffix}")
        published.rename(aside)
        return aside

    def read(self, cells: Iterable[str] | None = None) -> Rows:
        """All rows, or those of `cells`. Empty where nothing was published; damaged files are left out and listed."""
        return Index(self.root).read(cells)

    def problems(self, cells: Iterable[str]) -> tuple[Problem, ...]:
        """What `read` leaves out of these cells. Opens no file of a cell that the index knows as it is now."""
        return Index(self.root).problems(cells)

    def _writable(self, cell: str) -> Path:
        folder = self.folder(cell)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"results folder {self.root} cannot be written: {error.strerror}") from error
        return folder


_SET_ASIDE = "set-aside"


def _publish_folder(
    folder: Path, target: Path, frames: Mapping[str, pl.DataFrame], confirm: Callable[[], bool]
) -> bool:
    """Write a bundle beside `target`, in `folder`, and rename it into place, unless somebody was first."""
    beside = folder / f".{target.name}-{uuid.uuid4().hex}"
    beside.mkdir()
    try:
        write_bundle(beside, frames)
        return confirm() and _rename_exclusively(beside, target)
    finally:
        _remove(beside)


def _rename_exclusively(folder: Path, target: Path) -> bool:
    try:
        folder.rename(target)
    except OSError:
        if target.exists():
            return False
        raise
    sync_folder(target.parent)
    return True


def _remove(folder: Path) -> None:
    if folder.exists():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
