"""Composition against the length of training: is the deep arm late, or does it stay where it is?"""

import json

from experiments.composing import LIMITS, METRIC, SPLIT, UPRIGHT, composition_sheet
from experiments.evidence import Evidence
from experiments.panels import Curves, Panel
from experiments.series import along, arms, column
from experiments.sheets import floor_of
from results.fits.bracket import Bracket
from results.fits.survival import restricted, steps_to, survival
from results.sheet import Entry, Measured, Sheet
from results.statistics import counted, mean_interval

TRAINED = "horizon"
LEVEL = 0.5
"""Accuracy at which an arm counts as having got there."""


def _steps(point: str) -> int:
    return int(json.loads(point)["budget.steps"])


def tables(evidence: Evidence) -> list[Sheet]:
    """Every arm after each length; then how many worlds have got there, and the length at which half have."""
    points = [point for point in evidence.points(TRAINED) if arms(evidence, TRAINED, point)]
    found = []
    for point in points:
        sheet = composition_sheet(evidence, TRAINED, f"{_steps(point):,} steps: accuracy in % at the last loop", point)
        found.append(Sheet(f"{TRAINED}-{_steps(point)}", sheet.title, sheet.columns, sheet.rows))
    return [*found, _arrivals(evidence, points)]


def _arrivals(evidence: Evidence, points: list[str]) -> Sheet:
    times = {arm: _times(evidence, arm, points) for arm in evidence.arms(TRAINED)}
    longest = max(_steps(point) for point in points)
    rows: list[tuple[Entry, ...]] = []
    for arm, found in times.items():
        if found:
            curve, cut = survival(found), restricted(found, longest)
            mean = mean_interval(counted(cut, cut, worst=longest))
            rows.append((arm, f"{curve.reached} of {len(found)}", Measured(curve.median, 0), Measured(mean, 0)))
    title = f"Steps to {LEVEL:.0%} on {SPLIT} given recall, each length being a training of its own"
    columns = ("arm", "worlds that got there", "median steps", f"mean steps, at most {longest:,}")
    return Sheet("arrivals", title, columns, tuple(rows))


def _times(evidence: Evidence, arm: str, points: list[str]) -> dict[int, Bracket]:
    """Steps to the level by world, over the worlds that were run at every length. A training that failed, or that
    recalled no fact, did not get there."""
    by_steps = {_steps(point): evidence.values(TRAINED, arm, SPLIT, METRIC, point) for point in points}
    worlds = sorted(set.intersection(*(set(values) for values in by_steps.values())))
    return {
        world: steps_to(LEVEL, {steps: values[world] or 0.0 for steps, values in by_steps.items()}) for world in worlds
    }


def panels(evidence: Evidence) -> list[Panel]:
    """One panel: accuracy against steps."""
    curves = along(evidence, TRAINED, column("steps"), SPLIT, METRIC)
    floors = [floor_of(evidence, TRAINED, SPLIT, point) for point in evidence.points(TRAINED)]
    if not curves:
        return []
    highest = max((floor.mean for floor in floors if floor is not None), default=None)
    return [Curves(curves=curves, axis="optimiser steps", log=True, values=UPRIGHT, floor=highest, limits=LIMITS)]
