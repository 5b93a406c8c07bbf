"""The parameters that a plain model needs to store as much, and to use as well, as a looped one; and capacity laws."""

import json
from dataclasses import replace

from experiments.composing import LIMITS, METRIC, SPLIT, UPRIGHT, composition_sheet
from experiments.evidence import Evidence, ceiling
from experiments.panels import Curves, Panel
from experiments.series import Series, along, arms, by_arm, column
from experiments.sheets import point_sheet, reading
from results.fits.capacity_law import CapacityPoint, fit_capacity_laws
from results.fits.multiplier import parameter_multiplier
from results.sheet import Entry, Measured, Number, Sheet
from results.statistics import Contrast, Values

STORE, STORE_SPLIT = "storage", "people"
USE, LOOPED = "use", "looped"


def tables(evidence: Evidence) -> list[Sheet]:
    """What was measured at each size; the law of each arm; how many times the parameters match."""
    found: list[Sheet] = []
    if _points(evidence):
        found.append(
            point_sheet(
                evidence,
                STORE,
                lambda point: {
                    "bits a parameter": reading(evidence, STORE, STORE_SPLIT, "bits_per_parameter", point, digits=3),
                    "R_max": lambda arm: Number(ceiling(evidence, STORE, arm, point), 2),
                },
                "Records: bits a parameter at each width",
            )
        )
        found.append(_laws(evidence))
    if arms(evidence, USE):
        found.append(composition_sheet(evidence, USE))
    return [*found, _multipliers(evidence)]


def _points(evidence: Evidence) -> list[str]:
    return [point for point in evidence.points(STORE) if arms(evidence, STORE, point)]


def _size(evidence: Evidence, part: str, arm: str, point: str = "{}") -> int:
    return int(evidence.cell_rows(part, arm, point)["parameters"][0])


def _laws(evidence: Evidence) -> Sheet:
    """bits = soft minimum of rho * P and the ceiling, fitted over sizes, one world at a time."""
    points = {
        arm: [
            CapacityPoint(world, _size(evidence, STORE, arm, point), _ceiling_bits(evidence, arm, point), bits)
            for point in _points(evidence)
            if not evidence.cell_rows(STORE, arm, point).is_empty()
            for world, bits in evidence.values(STORE, arm, STORE_SPLIT, "bits", point).items()
        ]
        for arm in evidence.arms(STORE)
    }
    laws = fit_capacity_laws({arm: found for arm, found in points.items() if found})
    rows: list[tuple[Entry, ...]] = [
        (arm, None if law.interval is None else Measured(law.interval, 3)) for arm, law in laws.items()
    ]
    if {"looped", "plain"} <= laws.keys():
        ours, theirs = laws["looped"].values, laws["plain"].values
        if both := tuple(sorted(set(ours) & set(theirs))):
            rows.append(("looped / plain", Measured(Contrast("plain", ours, theirs, both).ratio(), 3)))
    title = "Capacity law, bits = soft minimum of rho * parameters and the ceiling: rho, bits a parameter"
    return Sheet("laws", title, ("arm", "rho"), tuple(rows))


def _ceiling_bits(evidence: Evidence, arm: str, point: str) -> float:
    return float(json.loads(evidence.cell_rows(STORE, arm, point)["constants"][0])["ceiling_bits"])


def _multipliers(evidence: Evidence) -> Sheet:
    rows: list[tuple[Entry, ...]] = []
    stored: dict[int, Values] = {
        _size(evidence, STORE, "plain", point): evidence.values(STORE, "plain", STORE_SPLIT, "bits", point)
        for point in _points(evidence)
        if not evidence.cell_rows(STORE, "plain", point).is_empty()
    }
    for point in _points(evidence):
        looped = evidence.values(STORE, LOOPED, STORE_SPLIT, "bits", point)
        if looped and len(stored) > 1:
            size, most = _size(evidence, STORE, LOOPED, point), _ceiling_bits(evidence, LOOPED, point)
            rows.append((f"storage, {size:,} parameters", parameter_multiplier(looped, size, stored, most).reading))
    used: dict[int, Values] = {
        _size(evidence, USE, arm): values
        for arm in arms(evidence, USE)
        if arm != LOOPED and (values := evidence.values(USE, arm, SPLIT, METRIC))
    }
    if looped := evidence.values(USE, LOOPED, SPLIT, METRIC) if LOOPED in arms(evidence, USE) else {}:
        size = _size(evidence, USE, LOOPED)
        if len(used) > 1:
            rows.append((f"use, {size:,} parameters", parameter_multiplier(looped, size, used).reading))
    title = "Times the looped model's parameters at which a plain model matches it"
    return Sheet("multiplier", title, ("of the looped model", "parameter multiplier"), tuple(rows))


def _placed(series: Series, at: float) -> Series:
    """The series with its one point there."""
    return replace(series, points=tuple(replace(point, at=at) for point in series.points))


def panels(evidence: Evidence) -> list[Panel]:
    """Bits against parameters on the left, use against parameters on the right."""
    found: list[Panel] = []
    if curves := along(evidence, STORE, column("parameters"), STORE_SPLIT, "bits"):
        most = max(
            _ceiling_bits(evidence, arm, point) for point in _points(evidence) for arm in arms(evidence, STORE, point)
        )
        found.append(
            Curves(curves=curves, axis="parameters", log=True, values="stored: bits", ceiling=most, limits=(0, None))
        )
    if rows := by_arm(evidence, USE, SPLIT, METRIC):
        found.append(
            Curves(
                curves=[_placed(row, float(_size(evidence, USE, row.label))) for row in rows],
                axis="parameters",
                log=True,
                values=UPRIGHT,
                limits=LIMITS,
            )
        )
    return found
