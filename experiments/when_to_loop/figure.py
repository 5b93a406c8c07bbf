"""Loops in the facts phase against loops in the question phase: two-hop compositions, and questions about people."""

from experiments.composing import LIMITS, composition_dots, composition_sheet
from experiments.evidence import Evidence
from experiments.panels import Dots, Panel
from experiments.series import arms, by_arm
from experiments.sheets import Column, arm_rows, floor_of, reading
from results.sheet import Sheet

COMPOSE, ASK = "questions", "bio_questions"
_KINDS = ("people", "seen", "extraction", "partial", "dual", "classification", "comparison", "inverse")


def tables(evidence: Evidence) -> list[Sheet]:
    """Compositions after both phases; questions about people, by kind."""
    found = [composition_sheet(evidence, COMPOSE)] if arms(evidence, COMPOSE) else []
    if arms(evidence, ASK):
        columns: dict[str, Column] = {
            kind: reading(evidence, ASK, kind, "accuracy", digits=1, factor=100) for kind in _KINDS
        }
        floors = {kind: floor_of(evidence, ASK, kind) for kind in _KINDS}
        title = "Questions about people that training did not ask about: accuracy in % at the last loop"
        found.append(arm_rows(evidence, ASK, title, columns, floors))
    return found


def panels(evidence: Evidence) -> list[Panel]:
    """Compositions; and extraction and comparison, which need one fact and two."""
    found: list[Panel] = [*composition_dots(evidence, COMPOSE)]
    for kind in ("extraction", "comparison"):
        if rows := by_arm(evidence, ASK, kind, "accuracy"):
            floor = floor_of(evidence, ASK, kind)
            values = f"people never asked about: accuracy of {kind}"
            found.append(Dots(rows=rows, values=values, floor=None if floor is None else floor.mean, limits=LIMITS))
    return found
