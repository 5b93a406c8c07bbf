"""A list of cells as a file: everything that a worker process, here or in a cluster's job, needs to run them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.cell import Cell
from sweeps.files import write_atomically


@dataclass(frozen=True)
class Listing:
    """Cells in running order.

    Attributes:
        cells: what to run.
        execution: fields of `looplm.execution.Execution`, as plain data.
        retry_failed: whether cells that failed before are tried again.
    """

    cells: Sequence[Cell]
    execution: dict[str, Any] = field(default_factory=dict)
    retry_failed: bool = False

    def write(self, path: Path) -> None:
        """Write the listing, whole or not at all."""
        cells = [{"config": cell.config(), "evaluations": list(cell.evaluations)} for cell in self.cells]
        text = {"cells": cells, "execution": self.execution, "retry_failed": self.retry_failed}
        write_atomically(path, json.dumps(text))

    @classmethod
    def read(cls, path: Path) -> "Listing":
        """What `write` wrote."""
        text = json.loads(path.read_text())
        cells = [Cell.from_config(entry["config"], entry["evaluations"]) for entry in text["cells"]]
        return cls(cells, text["execution"], text["retry_failed"])
