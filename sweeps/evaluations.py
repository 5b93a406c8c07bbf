"""What can be measured of a trained cell beside its answers, by name. Knows where each is computed; computes nothing.

Answers and floors are published together with the cell's row. An evaluation comes later, from the stored checkpoint,
and is published beside them: a new one never trains anything again. Its name and version stand in `records.evaluation`.
Torch is imported only when an evaluation is computed.
"""

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeps.config import unknown

if TYPE_CHECKING:
    import polars as pl

    from looplm.model import LoopLM
    from sweeps.cell import Cell


@dataclass(frozen=True)
class Evaluation:
    """One measurement.

    Attributes:
        name: as in a grid file.
        version: raised whenever the same checkpoint would give other rows.
        module: where `measure(cell, model) -> records` lives.
    """

    name: str
    version: int
    module: str

    @property
    def id(self) -> str:
        """What `records.evaluation` says."""
        return f"{self.name}@{self.version}"

    def measure(self, cell: "Cell", model: "LoopLM") -> "pl.DataFrame":
        """The records of a trained cell."""
        found: pl.DataFrame = importlib.import_module(self.module).measure(cell, model, self.id)
        return found


EVALUATIONS: dict[str, Evaluation] = {}
"""Every evaluation by name."""


def check_evaluations(names: Iterable[str]) -> None:
    """Raise `ValueError` for a name that does not exist, with the nearest one that does."""
    for name in names:
        if name not in EVALUATIONS:
            raise unknown("evaluation", name, EVALUATIONS)
