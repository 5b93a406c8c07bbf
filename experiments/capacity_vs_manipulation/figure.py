"""The answer in one picture: what each arm stores on the left, what it does with it on the right, verdicts above."""

from experiments.evidence import MIXTURE, Evidence, ceiling
from experiments.panels import Dots, Panel
from experiments.series import arms, by_arm
from experiments.sheets import Column, arm_rows, best, floor_of, point_sheet, reading, solved
from results.sheet import Number, Sheet

STORE, STORE_SPLIT, STORE_METRIC = "capacity", "people", "bits_per_parameter"
USE, USE_SPLIT, USE_METRIC = "manipulation", "ood_both", "accuracy_given_recall"

_PAPER = {
    "ouro_capo": ("people", "bits_per_parameter"),
    "ouro_mano": ("test", "accuracy"),
    "ouro_multihop": ("test", "accuracy"),
}
"""What is read in the parts that are the paper's own grid; they have tables and no panel."""

_SPLITS = ("facts", "seen", "id", "ood_first", "ood_second", "ood_both")


def tables(evidence: Evidence) -> list[Sheet]:
    """One table for each part that has rows, at the last loop, with 95 % t-intervals."""
    halves = [table(evidence) for part, table in ((STORE, _storage), (USE, _use)) if arms(evidence, part)]
    paper = [_paper(evidence, part) for part in _PAPER]
    return [*halves, *(sheet for sheet in paper if sheet.rows)]


def _paper(evidence: Evidence, part: str) -> Sheet:
    split, metric = _PAPER[part]

    def columns(point: str) -> dict[str, Column]:
        found = {f"{metric} on {split}": reading(evidence, part, split, metric, point, digits=3)}
        if part == "ouro_mano":
            found["best"] = best(evidence, part, split, metric, point, digits=3)  # the paper prints a best of 12
        return found

    return point_sheet(evidence, part, columns, f"{part}: the paper's own grid (mean ± half of the 95 % interval)")


def _storage(evidence: Evidence) -> Sheet:
    columns: dict[str, Column] = {
        "last loop": reading(evidence, STORE, STORE_SPLIT, STORE_METRIC, digits=3),
        "gate's mixture": reading(evidence, STORE, STORE_SPLIT, STORE_METRIC, digits=3, loop=MIXTURE),
        "R_max": lambda arm: Number(ceiling(evidence, STORE, arm), 2),
    }
    return arm_rows(evidence, STORE, "Records: bits per parameter (mean ± half of the 95 % interval)", columns)


def _use(evidence: Evidence) -> Sheet:
    columns = {split: reading(evidence, USE, split, "accuracy", digits=1, factor=100) for split in _SPLITS}
    columns["ood_both | recall"] = reading(evidence, USE, USE_SPLIT, USE_METRIC, digits=1, factor=100)
    columns["above 90 %"] = solved(evidence, USE, USE_SPLIT, USE_METRIC)
    floors = {split: floor_of(evidence, USE, split) for split in _SPLITS}
    title = "Two-hop composition: accuracy in % at the last loop (mean ± half of the 95 % interval)"
    return arm_rows(evidence, USE, title, columns, floors)


def panels(evidence: Evidence) -> list[Panel]:
    """Storage against the ceiling of each arm's own size; use against the best floor."""
    found: list[Panel] = []
    if stored := by_arm(evidence, STORE, STORE_SPLIT, STORE_METRIC, ceiling=ceiling):
        found.append(Dots(rows=stored, values="stored: bits per parameter", limits=(0, None)))
    if used := by_arm(evidence, USE, USE_SPLIT, USE_METRIC):
        floor = floor_of(evidence, USE, USE_SPLIT)
        found.append(
            Dots(
                rows=used,
                values="used: accuracy composing recalled facts\nthat training never composed",
                floor=None if floor is None else floor.mean,
                limits=(-0.03, 1.03),
            )
        )
    return found
