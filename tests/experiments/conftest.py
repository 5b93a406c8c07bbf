"""The command line in this process, and evidence with planted rows, for any test of this room."""

import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from experiments.cli.main import main
from experiments.evidence import Evidence, members
from experiments.questions import grid
from looplm.execution import Execution
from results.schema import CELLS, RECORDS
from sweeps.grid import Member, Plan
from sweeps.run import cell_row

QUESTION = "capacity_vs_manipulation"


@pytest.fixture
def looplm(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the command line in this process; its exit code."""

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["looplm", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return run


@pytest.fixture(scope="session")
def lab() -> Plan:
    """The use half of the headline at scale lab: eight worlds of each arm."""
    return grid(QUESTION).expand("lab").only(["manipulation"])


@pytest.fixture(scope="session")
def evidence_of(lab: Plan) -> Callable[..., Evidence]:
    """Evidence in which a cell holds the records that a function gives of its member; None is a failed cell."""

    def build(records_of: Callable[[Member], Iterable[dict[str, Any]] | None], plan: Plan = lab) -> Evidence:
        rows, records = [], []
        for member in plan.members:
            row = cell_row(member.cell, None, Execution()) | {"backend": "eager", "seconds": 60.0}
            found = records_of(member)
            rows.append(row if found is not None else row | {"status": "failed", "error": "ValueError: diverged"})
            place = {"cell": member.cell.id, "evaluation": "answers@1", "step": member.cell.budget.steps}
            place |= {"loop": member.cell.model.exits, "difficulty": None, "n": 40}
            records += [place | record for record in found or ()]
        cells = CELLS.frame(rows).unique("cell")
        return Evidence(members(plan), cells, RECORDS.frame(records).unique(maintain_order=True))

    return build
