"""Every question goes the whole way: its cells at scale smoke train and are measured, and their rows become a report.

The headline's way is that of the README's commands, and is tested there.
"""

from pathlib import Path

import pytest

from experiments.evidence import Evidence
from experiments.panels import draw_figure
from experiments.questions import figure, grid, questions
from experiments.report import Report
from looplm.execution import Execution
from results.store import Store
from sweeps.grid import SCALES
from sweeps.measure import measure
from sweeps.run import Outcome, run_cell

QUESTIONS = [name for name in questions() if name != "capacity_vs_manipulation"]


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_becomes_a_report(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.run.measure", lambda cell, model: measure(cell, model, limit=64))
    plan, store = grid(name).expand("smoke"), Store(tmp_path)
    for member in plan.members:
        if member.replicate == 0:
            outcome = run_cell(plan.cells[member.cell.id], store, Execution(compile="off"))
            assert outcome in (Outcome.DONE, Outcome.ALREADY), store.error(member.cell.id)
    evidence = Evidence.of_store(plan, store)
    assert not evidence.problems
    report = Report(name, evidence, "the command")
    assert {verdict.outcome for verdict in report.verdicts.values()} == {"undecided"}
    assert len(report.headline) == len(grid(name).text["hypotheses"])
    assert report.sheets
    assert all(sheet.rows for sheet in report.sheets)
    assert len({sheet.name for sheet in report.sheets}) == len(report.sheets)
    panels = figure(name).panels(evidence)
    assert panels
    draw_figure(panels, report.headline, tmp_path / "figure")


@pytest.mark.parametrize("name", questions())
def test_hypotheses_read_what_the_grid_has_at_the_scale_that_decides(name: str) -> None:
    found = grid(name)
    plan = found.expand("lab")
    assert set(found.text["scales"]) >= set(SCALES) - {"paper"}
    for hypothesis in found.text["hypotheses"].values():
        arms = {member.arm for member in plan.members if member.part == hypothesis["part"]}
        assert {hypothesis["arm"], *hypothesis.get("partners", ())} <= arms
        replicates = {m.replicate for m in plan.members if (m.part, m.arm) == (hypothesis["part"], hypothesis["arm"])}
        assert len(replicates) >= hypothesis["decision"]["minimum_replicates"]
