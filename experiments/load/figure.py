"""Composition against load: fact bits for each parameter of one model that stores facts and composes them."""

import json

from experiments.composing import LIMITS, METRIC, SPLIT, UPRIGHT, composition_sheet
from experiments.evidence import Evidence
from experiments.panels import Curves, Panel
from experiments.series import along, arms
from results.fits.threshold import fit_threshold
from results.sheet import Sheet

LOAD = "load"


def fact_bits(evidence: Evidence, part: str, arm: str, point: str) -> float:
    """Bits of the facts that there are to store, for each parameter of the arm."""
    row = evidence.cell_rows(part, arm, point).row(0, named=True)
    return float(json.loads(row["constants"])["fact_bits"]) / int(row["parameters"])


def tables(evidence: Evidence) -> list[Sheet]:
    """Every arm at each load; then the load up to which it composes half of what could be composed."""
    points = [point for point in evidence.points(LOAD) if arms(evidence, LOAD, point)]
    found = []
    for point in points:
        entities = json.loads(point)["task.entities"]
        sheet = composition_sheet(evidence, LOAD, f"{entities} entities: accuracy in % at the last loop", point)
        found.append(Sheet(f"{LOAD}-{entities}", sheet.title, sheet.columns, sheet.rows))
    if len(points) >= 3:
        found.append(_thresholds(evidence, points))
    return found


def _thresholds(evidence: Evidence, points: list[str]) -> Sheet:
    rows = []
    for arm in evidence.arms(LOAD):
        sweep = {
            fact_bits(evidence, LOAD, arm, point): values
            for point in points
            if (values := evidence.values(LOAD, arm, SPLIT, METRIC, point))
        }
        if len(sweep) >= 3:
            rows.append((arm, fit_threshold(sweep, direction="falling", scale="log", floor=0.0).reading))
    title = f"Load, in bits a parameter, at which accuracy on {SPLIT} given recall has fallen to 50 %"
    return Sheet("thresholds", title, ("arm", "load"), tuple(rows))


def panels(evidence: Evidence) -> list[Panel]:
    """What is used on the left; on the right, whether the facts are there at all."""
    found: list[Panel] = []
    for split, metric, values in (
        (SPLIT, METRIC, UPRIGHT),
        ("facts", "accuracy", "stored: share of the facts recalled"),
    ):
        if curves := along(evidence, LOAD, fact_bits, split, metric):
            found.append(
                Curves(curves=curves, axis="load: fact bits a parameter", log=True, values=values, limits=LIMITS)
            )
    return found
