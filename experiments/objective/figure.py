"""Shared weights or paid exits: every objective with both, and what Stage II makes of the gate."""

from experiments.composing import METRIC, SPLIT, composition_dots, composition_sheet
from experiments.evidence import MIXTURE, Evidence
from experiments.panels import Dots, Panel
from experiments.series import arms, by_arm
from experiments.sheets import arm_rows, reading
from results.sheet import Sheet

COMPOSE, STAGE_TWO = "manipulation", "stage_two"


def tables(evidence: Evidence) -> list[Sheet]:
    """Every arm on every split; then the gate's reading before and after Stage II, which changes nothing else."""
    found = [composition_sheet(evidence, COMPOSE)] if arms(evidence, COMPOSE) else []
    if arms(evidence, STAGE_TWO):
        columns = {
            "last exit": reading(evidence, STAGE_TWO, SPLIT, METRIC, digits=1, factor=100),
            "gate's mixture": reading(evidence, STAGE_TWO, SPLIT, METRIC, digits=1, factor=100, loop=MIXTURE),
        }
        title = f"After Stage II: accuracy on {SPLIT} given recall, in %"
        found.append(arm_rows(evidence, STAGE_TWO, title, columns))
    return found


def panels(evidence: Evidence) -> list[Panel]:
    """Composition at the last exit; beside it what the gate's mixture says after Stage II."""
    found: list[Panel] = [*composition_dots(evidence, COMPOSE)]
    if rows := by_arm(evidence, STAGE_TWO, SPLIT, METRIC, loop=MIXTURE):
        values = "the same through the gate's mixture,\nafter Stage II"
        found.append(Dots(rows=rows, values=values, limits=(-0.03, 1.03)))
    return found
