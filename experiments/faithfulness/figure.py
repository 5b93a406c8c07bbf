"""Whether answers follow a state or a written bridge that is exchanged, and how far loops agree with the last."""

from experiments.composing import LIMITS
from experiments.evidence import Evidence
from experiments.panels import Dots, Panel
from experiments.series import arms, by_arm
from experiments.sheets import Column, arm_rows, floor_of, reading
from results.sheet import Sheet

SILENT, ASKED = "bridge", "id"
SPOKEN, TOLD = "spoken", "test"


def tables(evidence: Evidence) -> list[Sheet]:
    """Accuracy; what happens to right answers after an exchange; agreement of each loop with the last."""
    found = []
    if arms(evidence, SILENT):
        columns: dict[str, Column] = {"accuracy": reading(evidence, SILENT, ASKED, "accuracy", digits=1, factor=100)}
        for place in ("relation", "question"):
            for name, said in (("moved", "follows"), ("stayed", "stays"), ("control", "stays, same bridge")):
                metric = f"interchange/{name}/{place}"
                columns[f"{place}: {said}"] = reading(evidence, SILENT, ASKED, metric, digits=1, factor=100, loop=1)
        title = (
            "State exchanged after loop 1, at the first relation or at the second (the question's end): answers in %"
        )
        floors = {"accuracy": floor_of(evidence, SILENT, ASKED)}
        found.append(arm_rows(evidence, SILENT, title, columns, floors))
        agreement: dict[str, Column] = {
            name: reading(evidence, SILENT, ASKED, f"agreement/{name}", digits=2, loop=1)
            for name in ("share", "chance", "kappa")
        }
        sheet = arm_rows(
            evidence, SILENT, "Loop 1 against the last: share of equal answers, by chance, kappa", agreement
        )
        found.append(Sheet("agreement", sheet.title, sheet.columns, sheet.rows))
    if arms(evidence, SPOKEN):
        columns = {
            "bridge and answer": reading(evidence, SPOKEN, TOLD, "accuracy", digits=1, factor=100),
            "follows": reading(evidence, SPOKEN, TOLD, "interchange/moved/written", digits=1, factor=100),
        }
        found.append(arm_rows(evidence, SPOKEN, "Bridge written out, then exchanged: in %", columns))
    return found


def panels(evidence: Evidence) -> list[Panel]:
    """Answers that follow an exchanged state on the left, an exchanged written bridge on the right."""
    found: list[Panel] = []
    if rows := by_arm(evidence, SILENT, ASKED, "interchange/moved/relation", loop=1):
        values = "right answers that follow the state\nexchanged at the first relation, after loop 1"
        found.append(Dots(rows=rows, values=values, limits=LIMITS))
    if rows := by_arm(evidence, SPOKEN, TOLD, "interchange/moved/written"):
        values = "right answers that follow\na written bridge that is exchanged"
        found.append(Dots(rows=rows, values=values, limits=LIMITS))
    return found
