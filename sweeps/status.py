"""Where every cell of a plan stands, read from the run folders alone. Imports no torch."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from results.store import Store
from sweeps.cell import Cell
from sweeps.claim import owner
from sweeps.evaluations import EVALUATIONS


class State(StrEnum):
    """The state of a cell. `UNMEASURED` is trained and has rows, but an evaluation is still to come; `QUEUED` lies in a
    cluster's job, which the run folders do not know."""

    DONE = "done"
    RUNNING = "running"
    QUEUED = "queued"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    UNMEASURED = "unmeasured"
    MISSING = "missing"


OPEN = frozenset({State.MISSING, State.INTERRUPTED, State.UNMEASURED})
"""States of a cell that is still to be run and that nobody has."""


@dataclass(frozen=True)
class CellStatus:
    """One cell: its state, how far it is while it trains, the last line of its error if it failed, and its job."""

    cell: Cell
    state: State
    progress: dict[str, Any] | None = None
    error: str | None = None
    job: str | None = None

    @property
    def seconds_left(self) -> float | None:
        """Training time left at the present speed, or None where nothing has been measured."""
        if self.progress is None or not self.progress["steps_per_second"]:
            return None
        return float((self.progress["steps"] - self.progress["step"]) / self.progress["steps_per_second"])


def _status(cell: Cell, store: Store) -> CellStatus:
    """The state of a cell, without the error if training it failed."""
    published = store.status(cell.id)
    wanted = [EVALUATIONS[name].id for name in cell.evaluations] if published == "done" else []
    missing = [evaluation for evaluation in wanted if not store.measured(cell.id, evaluation)]
    if published == "done" and not missing:
        return CellStatus(cell, State.DONE)
    folder = store.folder(cell.id)
    if published is None and not folder.exists():
        return CellStatus(cell, State.MISSING)
    path = folder / "progress.json"
    progress = json.loads(path.read_text()) if path.exists() else None
    if (running := owner(folder)) is not None:
        return CellStatus(cell, State.RUNNING, progress, job=running.get("job"))
    if published == "failed":
        return CellStatus(cell, State.FAILED)
    if published == "done":
        errors = {evaluation: store.measuring_error(cell.id, evaluation) for evaluation in missing}
        said = "; ".join(f"{evaluation}: {error}" for evaluation, error in errors.items() if error is not None)
        return CellStatus(cell, State.FAILED if said else State.UNMEASURED, error=said or None)
    if (folder / "checkpoint.ckpt").exists():
        return CellStatus(cell, State.INTERRUPTED, progress)
    return CellStatus(cell, State.MISSING)


def statuses(cells: Iterable[Cell], store: Store) -> list[CellStatus]:
    """The state of each cell, in order. Of a done cell nothing is opened, and of a missing one there is nothing."""
    found = [_status(cell, store) for cell in cells]
    failed = [status.cell.id for status in found if status.state is State.FAILED and status.error is None]
    errors = store.errors(failed) if failed else {}
    return [
        dataclasses.replace(status, error=errors[status.cell.id]) if status.cell.id in errors else status
        for status in found
    ]


def tally(found: Iterable[CellStatus]) -> dict[State, int]:
    """How many cells are in each state."""
    counts = Counter(status.state for status in found)
    return {state: counts[state] for state in State}
