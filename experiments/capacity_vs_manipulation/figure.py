"""The answer in one picture: what each arm stores on the left, what it does with it on the right, verdicts above."""

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from rich.table import Table

from experiments.evidence import Evidence
from results.statistics import Interval, mean_interval
from results.style import draw_interval, house_style, new_figure, save
from results.verdict import Verdict

USE, USE_SPLIT, USE_METRIC = "manipulation", "ood_both", "accuracy_given_recall"
_SPLITS = ("facts", "seen", "id", "ood_first", "ood_second", "ood_both")


def _percent(interval: Interval | None) -> str:
    if interval is None:
        return ""
    if math.isinf(interval.low):
        return f"{interval.mean:.1%}"
    return f"{interval.mean:.1%} ±{100 * (interval.high - interval.mean):.1f}"


def _floor(evidence: Evidence, split: str) -> Interval | None:
    """The best floor of a split, over every cell of the part: a property of its worlds, not of an arm."""
    worlds: dict[int, float | None] = {}
    for arm in evidence.arms(USE):
        worlds |= evidence.values(USE, arm, split, "floor/best")
    found = [value for value in worlds.values() if value is not None]
    return mean_interval(found) if found else None


def tables(evidence: Evidence) -> list[Table]:
    """Accuracy of every arm on every split at the last loop, with 95 % t-intervals, beside the floors."""
    table = Table(title="Two-hop composition: accuracy at the last loop (mean ± half of the 95 % interval)")
    table.title_justify = "left"
    table.add_column("arm")
    table.add_column("model")
    for name in ("parameters", "n", *_SPLITS, "ood_both | recall"):
        table.add_column(name, justify="right")
    for arm in evidence.arms(USE):
        rows = evidence.cell_rows(USE, arm)
        if rows.is_empty():
            continue
        values = [_percent(evidence.interval(USE, arm, split, "accuracy")) for split in _SPLITS]
        values.append(_percent(evidence.interval(USE, arm, USE_SPLIT, USE_METRIC)))
        table.add_row(arm, _model(rows.row(0, named=True)), f"{rows['parameters'][0]:,}", str(len(rows)), *values)
    floors = [_floor(evidence, split) for split in _SPLITS]
    table.add_row("floor", "best predictor", "", "", *[_percent(floor) for floor in floors], "", style="dim")
    return [table]


def _model(row: Mapping[str, Any]) -> str:
    exits = f", {row['exits']} exits" if row["loops"] == 1 and row["exits"] > 1 else ""
    objective = f", {row['objective']}" if row["exits"] > 1 else ""
    return f"{row['layers']}⊗{row['loops']} d={row['hidden_size']}{exits}{objective}"


def draw(
    evidence: Evidence, hypotheses: Mapping[str, Any], verdicts: Mapping[str, Verdict], out: Path
) -> tuple[Path, ...]:
    """Draw `out/figure.png` and `.svg`; returns their paths."""
    with house_style():
        arms = [arm for arm in evidence.arms(USE) if not evidence.cell_rows(USE, arm).is_empty()]
        figure = new_figure(columns=2, height=1.6 + 0.3 * len(arms))
        axes = figure.subplots(1, 1)
        _draw_use(axes, evidence, arms)
        figure.suptitle("\n".join(_heading(hypotheses[name]["claim"], verdict) for name, verdict in verdicts.items()))
        out.mkdir(parents=True, exist_ok=True)
        return save(figure, out / "figure")


def _heading(claim: str, verdict: Verdict) -> str:
    return "\n".join(textwrap.wrap(f"{claim}: {verdict.outcome.upper()}", 90))


def _draw_use(axes: Axes, evidence: Evidence, arms: list[str]) -> None:
    """A row per arm: accuracy on compositions of facts never composed in training, and on ordinary new ones."""
    for y, arm in enumerate(reversed(arms)):
        row = evidence.cell_rows(USE, arm).row(0, named=True)
        ordinary = evidence.interval(USE, arm, "id", "accuracy")
        assert ordinary is not None
        axes.plot([ordinary.mean], [y], marker="|", color="0.55", markersize=9, linestyle="none")
        interval = evidence.interval(USE, arm, USE_SPLIT, USE_METRIC)
        assert interval is not None
        draw_interval(axes, y, interval, layers=row["layers"], loops=row["loops"], along="x")
    floor = _floor(evidence, USE_SPLIT)
    assert floor is not None
    axes.axvline(floor.mean, linestyle=":", color="0.45", linewidth=1, zorder=0)
    axes.text(floor.mean, len(arms) - 0.5, " floor", color="0.35", fontsize=6.5, va="bottom")
    axes.set_yticks(
        range(len(arms)), [f"{arm}\n{_model(_first(evidence, arm))}" for arm in reversed(arms)], fontsize=6.5
    )
    axes.set_ylim(-0.6, len(arms) - 0.2)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(
        "accuracy on two-hop questions, both facts new to composition and both recalled\n(grey tick: facts seen in composition)"
    )


def _first(evidence: Evidence, arm: str) -> dict[str, Any]:
    return evidence.cell_rows(USE, arm).row(0, named=True)
