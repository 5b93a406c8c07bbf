"""Accuracy after each of 1 to 16 loops, by split, of models that were trained with two, four or eight."""

from experiments.composing import LIMITS
from experiments.evidence import Evidence
from experiments.panels import Curves, Panel
from experiments.series import arms, over
from experiments.sheets import Column, arm_rows, reading
from results.sheet import Sheet

METRIC = "depth/accuracy"
SPLITS = {
    "dial": {"seen": "trained questions", "id": "held-out questions", "ood_both": "facts never composed in training"},
    "dial_hops": {"test": "hops as in training", "longer": "more hops than in training"},
}
_LOOPS = (1, 2, 3, 4, 6, 8, 12, 16)


def tables(evidence: Evidence) -> list[Sheet]:
    """Every arm after some of the loops, a table a split; then by hops where questions differ in them."""
    found = []
    for part, splits in SPLITS.items():
        for split, title in splits.items() if arms(evidence, part) else ():
            columns: dict[str, Column] = {
                f"{loop} loops": reading(evidence, part, split, METRIC, digits=1, factor=100, loop=loop)
                for loop in _LOOPS
            }
            sheet = arm_rows(evidence, part, f"{title} ({split}): accuracy in % after so many loops", columns)
            found.append(Sheet(f"{part}-{split}", sheet.title, sheet.columns, sheet.rows))
            found += _by_difficulty(evidence, part, split, title)
    return found


def _by_difficulty(evidence: Evidence, part: str, split: str, title: str) -> list[Sheet]:
    first = arms(evidence, part)[0]
    levels = list(evidence.values_over("difficulty", part, first, split, METRIC, loop=4))
    if len(levels) < 2:
        return []
    found = []
    for loop in (4, 8):
        columns: dict[str, Column] = {
            f"{level} hops": reading(evidence, part, split, METRIC, digits=1, factor=100, loop=loop, difficulty=level)
            for level in levels
        }
        sheet = arm_rows(evidence, part, f"{title}: accuracy in % after {loop} loops, by hops", columns)
        found.append(Sheet(f"{part}-{split}-{loop}", sheet.title, sheet.columns, sheet.rows))
    return found


def panels(evidence: Evidence) -> list[Panel]:
    """A panel a split. Early loops of an arm under `last` are untrained readouts, and are named so."""
    found: list[Panel] = []
    for part, splits in SPLITS.items():
        for split, title in splits.items():
            if curves := over(evidence, part, "loop", split, METRIC):
                axis = "loops run (of loops_4_last, early ones untrained)"
                found.append(Curves(curves=curves, axis=axis, values=f"accuracy: {title}", limits=LIMITS))
    return found
