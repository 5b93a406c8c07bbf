"""After a fact is changed: does the fact follow, and do the compositions that use it as first or as second fact?"""

from experiments.composing import LIMITS, composition_sheet
from experiments.evidence import Evidence
from experiments.panels import Dots, Panel
from experiments.series import arms, by_arm
from experiments.sheets import arm_rows, floor_of, reading
from results.sheet import Sheet

TRAINED, EDITED = "trained", "edited"
_SPLITS = (
    "new_facts",
    "kept_facts",
    "new_first",
    "old_first",
    "new_second",
    "old_second",
    "kept_compositions",
)


def tables(evidence: Evidence) -> list[Sheet]:
    """Before the edit, composition; after it, how much gives the new answer and how much still the old one."""
    found = [composition_sheet(evidence, TRAINED, "Before the edit: accuracy in %")] if arms(evidence, TRAINED) else []
    if arms(evidence, EDITED):
        columns = {split: reading(evidence, EDITED, split, "accuracy", digits=1, factor=100) for split in _SPLITS}
        floors = {split: floor_of(evidence, EDITED, split) for split in _SPLITS}
        title = "After the edit: share that gives the answer of the name, in % (new: follows; old: has not)"
        found.append(arm_rows(evidence, EDITED, title, columns, floors))
    return found


def panels(evidence: Evidence) -> list[Panel]:
    """Compositions that follow: by their first fact on the left, by their second on the right."""
    found: list[Panel] = []
    for split, fact in (("new_first", "first"), ("new_second", "second")):
        if rows := by_arm(evidence, EDITED, split, "accuracy"):
            floor = floor_of(evidence, EDITED, split)
            values = f"share of compositions that follow\nwhen their {fact} fact is changed"
            found.append(Dots(rows=rows, values=values, floor=None if floor is None else floor.mean, limits=LIMITS))
    return found
