"""Accuracy against mean depth for every exit rule, beside the same exits at random and what an oracle would reach."""

from collections.abc import Iterator

from experiments.composing import LIMITS
from experiments.evidence import Evidence
from experiments.panels import Curves, Panel
from experiments.series import Series, arms, model, point_at
from experiments.sheets import Column, arm_rows, reading
from results.sheet import Measured, Sheet
from results.statistics import Interval

PARTS = ("exits", "stage_two")
SPLIT = "id"
RULES = {
    "q_exit": "gate: CDF",
    "gate": "gate: its own word",
    "entropy": "entropy",
    "loop_kl": "KL between loops",
    "state_difference": "state moves little",
    "second_difference": "state turns little",
    "argmax_stability": "answer repeats",
    "fixed": "fixed",
}
DRAWN = {"exits": ("fixed", "q_exit", "argmax_stability"), "stage_two": ("fixed", "gate", "argmax_stability")}
"""Rules that have curves of their own, the second beside its control; the tables have all."""


def settings(evidence: Evidence, rule: str) -> list[str]:
    """Settings at which a rule was tried, in the order of their rows."""
    prefix = f"exits/loops/{rule}/"
    metrics = evidence.records["metric"].unique(maintain_order=True)
    return [metric.removeprefix(prefix) for metric in metrics if metric.startswith(prefix)]


def _mean(evidence: Evidence, part: str, arm: str, metric: str) -> Interval | None:
    return evidence.interval(part, arm, SPLIT, f"exits/{metric}")


def _curve(evidence: Evidence, part: str, arm: str, rule: str, metric: str, label: str) -> Iterator[Series]:
    """Accuracy (or that of the control) at each setting's mean depth."""
    points = []
    for setting in settings(evidence, rule):
        depth = _mean(evidence, part, arm, f"loops/{rule}/{setting}")
        values = evidence.values(part, arm, SPLIT, f"exits/{metric}/{rule}/{setting}")
        if depth is not None and depth.n and values:
            points.append(point_at(depth.mean, values, f"exits/{metric}/{rule}/{setting}"))
    if points:
        row = evidence.cell_rows(part, arm).row(0, named=True)
        ordered = tuple(sorted(points, key=lambda point: point.at))
        yield Series(label, model(evidence, part, arm), row["layers"], row["loops"], ordered)


def tables(evidence: Evidence) -> list[Sheet]:
    """For each arm a row a rule and setting; then whether exits follow what a question needs, within its hops."""
    found = [
        _rules(evidence, part, arm) for part in PARTS for arm in arms(evidence, part) if _measured(evidence, part, arm)
    ]
    return [*found, *(_tracking(evidence, part) for part in PARTS if arms(evidence, part))]


def _measured(evidence: Evidence, part: str, arm: str) -> bool:
    return _mean(evidence, part, arm, "loops/oracle") is not None


def _percent(interval: Interval | None) -> Measured | None:
    return None if interval is None else Measured(interval, 1, 100)


def _rules(evidence: Evidence, part: str, arm: str) -> Sheet:
    tried = [(rule, setting) for rule in RULES for setting in settings(evidence, rule)]
    rows = []
    for rule, setting in [*tried, ("oracle", "")]:
        label = f"{rule}/{setting}".rstrip("/")
        depth = _mean(evidence, part, arm, f"loops/{label}")
        accuracy, control = (
            _percent(_mean(evidence, part, arm, f"{kind}/{label}")) for kind in ("accuracy", "control")
        )
        rows.append((RULES.get(rule, rule), setting, None if depth is None else Measured(depth, 2), accuracy, control))
    title = f"{part}, {arm} ({model(evidence, part, arm)}): split {SPLIT}, accuracy in %"
    columns = ("rule", "setting", "mean loops", "accuracy", "same exits at random")
    return Sheet(f"{part}-{arm}", title, columns, tuple(rows))


def _tracking(evidence: Evidence, part: str) -> Sheet:
    columns: dict[str, Column] = {
        f"{RULES[rule]} {setting}, {split}": reading(
            evidence, part, split, f"exits/tracking/{rule}/{setting}", digits=2
        )
        for rule, setting in (("q_exit", "0.5"), ("gate", "0.5"), ("entropy", "0.1"), ("argmax_stability", "2"))
        for split in ("seen", SPLIT)
    }
    title = "Within two hops: rank correlation of loops run with the loops that a question needs"
    sheet = arm_rows(evidence, part, title, columns)
    return Sheet(f"{part}-tracking", f"{part}: {title}", sheet.columns, sheet.rows)


def panels(evidence: Evidence) -> list[Panel]:
    """A panel for the looped arm as it was trained, one after Stage II."""
    found: list[Panel] = []
    for part in PARTS:
        if "looped" in arms(evidence, part) and _measured(evidence, part, "looped"):
            drawn = DRAWN[part]
            curves = [
                each for rule in drawn for each in _curve(evidence, part, "looped", rule, "accuracy", RULES[rule])
            ]
            curves += _curve(evidence, part, "looped", drawn[1], "control", "its exits at random")
            oracle = _mean(evidence, part, "looped", "accuracy/oracle")
            name = "as trained" if part == "exits" else "after Stage II"
            found.append(
                Curves(
                    curves=curves,
                    axis="mean loops run",
                    values=f"held-out accuracy, {name}",
                    references={} if oracle is None else {"oracle": oracle.mean},
                    limits=LIMITS,
                )
            )
    return found
