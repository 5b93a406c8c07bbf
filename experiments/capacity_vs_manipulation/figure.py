"""The answer in one picture: what each arm stores on the left, what it does with it on the right, verdicts above."""

from experiments.composing import composition_dots, composition_sheet
from experiments.evidence import MIXTURE, Evidence, ceiling
from experiments.panels import Dots, Panel
from experiments.series import arms, by_arm
from experiments.sheets import Column, arm_rows, best, point_sheet, reading
from results.sheet import Number, Sheet

STORE, STORE_SPLIT, STORE_METRIC = "capacity", "people", "bits_per_parameter"
USE = "manipulation"

_PAPER = {
    "ouro_capo": ("people", "bits_per_parameter"),
    "ouro_mano": ("test", "accuracy"),
    "ouro_multihop": ("test", "accuracy"),
}
"""What is read in the parts that are the paper's own grid; they have tables and no panel."""


def tables(evidence: Evidence) -> list[Sheet]:
    """One table for each part that has rows, at the last loop, with 95 % t-intervals."""
    halves = ((STORE, _storage), (USE, composition_sheet))
    both = [table(evidence, part) for part, table in halves if arms(evidence, part)]
    paper = [_paper(evidence, part) for part in _PAPER]
    return [*both, *(sheet for sheet in paper if sheet.rows)]


def _paper(evidence: Evidence, part: str) -> Sheet:
    split, metric = _PAPER[part]

    def columns(point: str) -> dict[str, Column]:
        found = {f"{metric} on {split}": reading(evidence, part, split, metric, point, digits=3)}
        if part == "ouro_mano":
            found["best"] = best(evidence, part, split, metric, point, digits=3)  # the paper prints a best of 12
        return found

    return point_sheet(evidence, part, columns, f"{part}: the paper's own grid (mean ± half of the 95 % interval)")


def _storage(evidence: Evidence, part: str) -> Sheet:
    columns: dict[str, Column] = {
        "last loop": reading(evidence, part, STORE_SPLIT, STORE_METRIC, digits=3),
        "gate's mixture": reading(evidence, part, STORE_SPLIT, STORE_METRIC, digits=3, loop=MIXTURE),
        "R_max": lambda arm: Number(ceiling(evidence, part, arm), 2),
    }
    return arm_rows(evidence, part, "Records: bits per parameter (mean ± half of the 95 % interval)", columns)


def panels(evidence: Evidence) -> list[Panel]:
    """Storage against the ceiling of each arm's own size; use against the best floor."""
    found: list[Panel] = []
    if stored := by_arm(evidence, STORE, STORE_SPLIT, STORE_METRIC, ceiling=ceiling):
        found.append(Dots(rows=stored, values="stored: bits per parameter", limits=(0, None)))
    return [*found, *composition_dots(evidence, USE)]
