"""The answer in one picture: what each arm stores on the left, what it does with it on the right, verdicts above."""

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from rich.table import Table

from experiments.evidence import Evidence, ceiling
from results.statistics import Interval, counted, mean_interval, share_above
from results.style import draw_floor, draw_interval, house_style, new_figure, save
from results.verdict import Verdict

STORE, STORE_SPLIT, STORE_METRIC = "capacity", "people", "bits_per_parameter"
USE, USE_SPLIT, USE_METRIC = "manipulation", "ood_both", "accuracy_given_recall"
SOLVED = 0.9
"""A replicate counts as having found the rule above this accuracy; outcomes are bimodal, and a mean hides it."""

_PAPER = {
    "ouro_capo": ("people", "bits_per_parameter"),
    "ouro_mano": ("test", "accuracy"),
    "ouro_multihop": ("test", "accuracy"),
}
"""What is read in the parts that are the paper's own grid; they have tables and no panel."""

_SPLITS = ("facts", "seen", "id", "ood_first", "ood_second", "ood_both")
_MARKS = {"supported": "✓", "refuted": "✗", "undecided": "?"}


def tables(evidence: Evidence) -> list[Table]:
    """One table for each part that has rows, at the last loop, with 95 % t-intervals."""
    halves = [table(evidence) for part, table in ((STORE, _storage_table), (USE, _use_table)) if _arms(evidence, part)]
    paper = [_paper_table(evidence, part) for part in _PAPER]
    return [*halves, *(table for table in paper if table.row_count)]


def _arms(evidence: Evidence, part: str) -> list[str]:
    """Arms of a part that have rows."""
    return [arm for arm in evidence.arms(part) if not evidence.cell_rows(part, arm).is_empty()]


def _paper_table(evidence: Evidence, part: str) -> Table:
    split, metric = _PAPER[part]
    table = Table("arm", "axes", "n", f"{metric} on {split}", title=part, title_justify="left")
    for point in evidence.points(part):
        for arm in evidence.arms(part):
            interval = evidence.interval(part, arm, split, metric, point)
            if interval is not None:
                table.add_row(arm, point, str(interval.n), _plus_minus(interval, 1, "{:.3f}"))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("arm")
    table.add_column("model")
    for name in ("parameters", "n", *columns):
        table.add_column(name, justify="right")
    return table


def _row(evidence: Evidence, part: str, arm: str) -> list[str]:
    rows = evidence.cell_rows(part, arm)
    return [arm, _model(evidence, part, arm), f"{rows['parameters'][0]:,}", str(len(rows))]


def _storage_table(evidence: Evidence) -> Table:
    title = "Records: bits per parameter (mean ± half of the 95 % interval)"
    table = _table(title, "last loop", "gate's mixture", "R_max")
    for arm in _arms(evidence, STORE):
        last, mixture = (
            _plus_minus(evidence.interval(STORE, arm, STORE_SPLIT, STORE_METRIC, mixture=mixture), 1, "{:.3f}")
            for mixture in (False, True)
        )
        table.add_row(*_row(evidence, STORE, arm), last, mixture, f"{ceiling(evidence, STORE, arm):.2f}")
    return table


def _use_table(evidence: Evidence) -> Table:
    recalled = "ood_both | recall"
    table = _table(
        "Two-hop composition: accuracy in % at the last loop (mean ± half of the 95 % interval)",
        *(*_SPLITS, recalled, f"above {SOLVED:.0%}"),
    )
    for arm in _arms(evidence, USE):
        values = evidence.values(USE, arm, USE_SPLIT, USE_METRIC)
        solved = share_above(counted(values, values, worst=0.0), SOLVED)
        cells = [evidence.interval(USE, arm, split, "accuracy") for split in _SPLITS]
        cells.append(evidence.interval(USE, arm, USE_SPLIT, USE_METRIC))
        share = f"{round(solved.mean * solved.n)} of {solved.n}"
        table.add_row(*_row(evidence, USE, arm), *[_plus_minus(cell, 100, "{:.1f}") for cell in cells], share)
    floors = [_plus_minus(_floor(evidence, split), 100, "{:.1f}") for split in _SPLITS]
    table.add_row("floor", "best predictor", "", "", *floors, "", "", style="dim")
    return table


def _plus_minus(interval: Interval | None, factor: float, form: str) -> str:
    if interval is None:
        return ""
    mean = form.format(factor * interval.mean)
    return mean if math.isinf(interval.low) else f"{mean} ±{form.format(factor * (interval.high - interval.mean))}"


def _floor(evidence: Evidence, split: str) -> Interval | None:
    """The best floor of a split over the worlds of all arms; None where the split is itself trained."""
    worlds: dict[int, float | None] = {}
    for arm in evidence.arms(USE):
        worlds |= evidence.values(USE, arm, split, "floor/best")
    found = [value for value in worlds.values() if value is not None]
    return mean_interval(found) if found else None


def _model(evidence: Evidence, part: str, arm: str) -> str:
    row = evidence.cell_rows(part, arm).row(0, named=True)
    exits = f", {row['exits']} exits" if row["loops"] == 1 and row["exits"] > 1 else ""
    objective = f", {row['objective']}" if row["exits"] > 1 else ""
    return f"{row['layers']}⊗{row['loops']} d={row['hidden_size']}{exits}{objective}"


def draw(
    evidence: Evidence, hypotheses: Mapping[str, Any], verdicts: Mapping[str, Verdict], out: Path
) -> tuple[Path, ...]:
    """Draw `out/figure.png` and `.svg`; returns their paths, or none where neither half has rows."""
    halves = [(part, panel) for part, panel in ((STORE, _draw_storage), (USE, _draw_use)) if _arms(evidence, part)]
    if not halves:
        return ()
    rows = max(len(_arms(evidence, part)) for part, _ in halves)
    with house_style():
        figure = new_figure(columns=2, height=1.5 + 0.32 * rows)
        for axes, (_, panel) in zip(figure.subplots(1, len(halves), squeeze=False)[0], halves, strict=True):
            panel(axes, evidence)
        lines = [
            f"{_MARKS[verdict.outcome]} {name}  {hypotheses[name]['claim']}: {verdict.outcome}"
            for name, verdict in verdicts.items()
        ]
        figure.supxlabel("mean over worlds with 95 % interval; ticks: single worlds", fontsize=6.5, color="0.35")
        figure.suptitle("\n".join(line for text in lines for line in textwrap.wrap(text, 100)), x=0.01, ha="left")
        out.mkdir(parents=True, exist_ok=True)
        return save(figure, out / "figure")


def _draw_rows(axes: Axes, evidence: Evidence, part: str, split: str, metric: str) -> None:
    """A row for each arm, the first on top: its mean over replicates with the interval, and each replicate faintly."""
    arms = _arms(evidence, part)
    for y, arm in enumerate(reversed(arms)):
        row = evidence.cell_rows(part, arm).row(0, named=True)
        values = evidence.values(part, arm, split, metric)
        axes.plot(counted(values, values, worst=0.0), [y - 0.22] * len(values), "|", color="0.6", markersize=5)
        interval = evidence.interval(part, arm, split, metric)
        assert interval is not None
        draw_interval(axes, y, interval, layers=row["layers"], loops=row["loops"], along="x")
    names = [f"{arm}\n{_model(evidence, part, arm)}" for arm in reversed(arms)]
    axes.set_yticks(range(len(arms)), names, fontsize=6.5)
    axes.set_ylim(-0.7, len(arms) - 0.4)


def _draw_storage(axes: Axes, evidence: Evidence) -> None:
    """Bits per parameter of each arm against the ceiling of its own size."""
    _draw_rows(axes, evidence, STORE, STORE_SPLIT, STORE_METRIC)
    arms = _arms(evidence, STORE)
    for y, arm in enumerate(reversed(arms)):
        most = ceiling(evidence, STORE, arm)
        axes.plot([most, most], [y - 0.35, y + 0.35], color="0.35", linestyle="--", linewidth=1)
        if y == len(arms) - 1:
            axes.text(most, y + 0.38, "R_max", color="0.35", fontsize=6.5, ha="center", va="bottom")
    axes.set_xlim(left=0)
    axes.set_xlabel("stored: bits per parameter")


def _draw_use(axes: Axes, evidence: Evidence) -> None:
    """Accuracy on compositions of facts never composed in training, against the best floor."""
    _draw_rows(axes, evidence, USE, USE_SPLIT, USE_METRIC)
    floor = _floor(evidence, USE_SPLIT)
    if floor is not None:
        draw_floor(axes, floor.mean, "floor", along="x")
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel("used: accuracy composing recalled facts\nthat training never composed")
