"""Two-hop composition as tables and panels: what the questions that ask for it share.

The reading is accuracy on compositions whose facts occur in no training composition, among those whose facts the model
recalls; beside it stand the other splits and the best predictor that composes nothing.
"""

from experiments.evidence import Evidence
from experiments.panels import Dots
from experiments.series import by_arm
from experiments.sheets import arm_rows, floor_of, reading, solved
from results.sheet import Sheet

SPLIT, METRIC = "ood_both", "accuracy_given_recall"
SPLITS = ("facts", "seen", "id", "ood_first", "ood_second", "ood_both")

TITLE = "Two-hop composition: accuracy in % at the last loop (mean ± half of the 95 % interval)"
VALUES = "used: accuracy composing recalled facts\nthat training never composed"
UPRIGHT = "used: accuracy composing\nfacts never composed"
"""The same where it is written along an upright axis."""
LIMITS = (-0.03, 1.03)
"""Of an axis of accuracies."""


def composition_sheet(evidence: Evidence, part: str, title: str = TITLE, point: str = "{}") -> Sheet:
    """Accuracy of every arm on every split, and how many of its worlds found the rule."""
    columns = {split: reading(evidence, part, split, "accuracy", point, digits=1, factor=100) for split in SPLITS}
    columns[f"{SPLIT} | recall"] = reading(evidence, part, SPLIT, METRIC, point, digits=1, factor=100)
    columns["above 90 %"] = solved(evidence, part, SPLIT, METRIC, point)
    floors = {split: floor_of(evidence, part, split, point) for split in SPLITS}
    return arm_rows(evidence, part, title, columns, floors, point)


def composition_dots(evidence: Evidence, part: str, point: str = "{}", values: str = VALUES) -> list[Dots]:
    """A panel of the arms' readings; none where the part has no rows."""
    rows = by_arm(evidence, part, SPLIT, METRIC, point)
    floor = floor_of(evidence, part, SPLIT, point)
    if not rows:
        return []
    return [Dots(rows=rows, values=values, floor=None if floor is None else floor.mean, limits=LIMITS)]
