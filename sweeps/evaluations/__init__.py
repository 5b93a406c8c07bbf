"""What can be measured of a trained cell beside its answers, by name. Each is computed in the module of that name here.

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
    """

    name: str
    version: int

    @property
    def id(self) -> str:
        """What `records.evaluation` says."""
        return f"{self.name}@{self.version}"

    def measure(self, cell: "Cell", model: "LoopLM") -> "pl.DataFrame":
        """The records of a trained cell."""
        module = importlib.import_module(f"{__name__}.{self.name}")
        found: pl.DataFrame = module.measure(cell, model, self.id)
        return found


_ALL = (Evaluation("attributes", 1), Evaluation("depth", 1), Evaluation("exit_rules", 1), Evaluation("faithfulness", 1))

EVALUATIONS: dict[str, Evaluation] = {each.name: each for each in _ALL}
"""Every evaluation by name."""


def check_evaluations(names: Iterable[str]) -> None:
    """Raise `ValueError` for a name that does not exist, with the nearest one that does."""
    for name in names:
        if name not in EVALUATIONS:
            raise unknown("evaluation", name, EVALUATIONS)
