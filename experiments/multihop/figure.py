"""Held-out multi-hop questions against how many different ones were trained, for two hops and for three."""

import json

from experiments.composing import LIMITS
from experiments.evidence import Evidence
from experiments.panels import Curves, Panel
from experiments.series import along, arms, setting
from experiments.sheets import arm_rows, floor_of, reading, solved
from results.fits.gap import gap_closed
from results.sheet import Entry, Sheet

ASK, SPLIT, METRIC = "multihop", "test", "accuracy"
LEAST_GAP = 0.05
"""Least accuracy that depth must give before it is asked how much of that looping gives."""


def _hops(point: str) -> int:
    return int(json.loads(point)["task.hops"])


def _title(point: str) -> str:
    return f"{_hops(point)} hops, {json.loads(point)['task.training_questions']:,} different questions trained"


def tables(evidence: Evidence) -> list[Sheet]:
    """Every arm at each number of hops and questions; then how much of what equal FLOPs give looping gives too."""
    found = []
    for point in evidence.points(ASK):
        if arms(evidence, ASK, point):
            columns = {
                split: reading(evidence, ASK, split, METRIC, point, digits=1, factor=100)
                for split in ("facts", "seen", SPLIT)
            }
            columns["above 90 %"] = solved(evidence, ASK, SPLIT, METRIC, point)
            floors = {SPLIT: floor_of(evidence, ASK, SPLIT, point)}
            sheet = arm_rows(evidence, ASK, f"{_title(point)}: accuracy in %", columns, floors, point)
            values = "-".join(str(value) for value in json.loads(point).values())
            found.append(Sheet(f"{ASK}-{values}", sheet.title, sheet.columns, sheet.rows))
    gaps = _gaps(evidence)
    return [*found, gaps] if gaps.rows else found


def _gaps(evidence: Evidence) -> Sheet:
    rows: list[tuple[Entry, ...]] = []
    for point in evidence.points(ASK):
        values = {arm: evidence.values(ASK, arm, SPLIT, METRIC, point) for arm in ("looped", "plain", "deep")}
        paired = tuple(sorted(set.intersection(*(set(found) for found in values.values()))))
        if len(paired) > 1:
            closed = gap_closed(values["looped"], values["plain"], values["deep"], paired, LEAST_GAP)
            interval = closed.interval
            said = (
                f"not given: {closed.reason}"
                if interval is None
                else f"{100 * interval.mean:.0f} ({100 * interval.low:.0f} to {100 * interval.high:.0f})"
            )
            rows.append((_title(point), said))
    return Sheet(
        "gap", "%Gap: share of deep less plain that looped less plain makes up", ("questions", "%Gap"), tuple(rows)
    )


def panels(evidence: Evidence) -> list[Panel]:
    """A panel for each number of hops."""
    points = [point for point in evidence.points(ASK) if arms(evidence, ASK, point)]
    found: list[Panel] = []
    for hops in sorted({_hops(point) for point in points}):
        here = [point for point in points if _hops(point) == hops]
        floors = [floor.mean for point in here if (floor := floor_of(evidence, ASK, SPLIT, point)) is not None]
        found.append(
            Curves(
                curves=along(evidence, ASK, setting("task.training_questions"), SPLIT, METRIC, here),
                axis=f"different questions of {hops} hops in training",
                log=True,
                values="accuracy on questions never trained",
                floor=max(floors, default=None),
                limits=LIMITS,
            )
        )
    return found
