"""Panels and how they make a figure: rows of arms (`Dots`), curves over an axis (`Curves`), with their references.

A question's `figure.py` says which panels it wants; everything that they share is here and in `results/style.py`: a
colour for each number of loops, a marker for each number of layers, intervals and single worlds always drawn.
"""

import math
import textwrap
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation

from experiments.series import Series
from results.style import (
    MOST_BARS,
    Along,
    draw_ceiling,
    draw_curve,
    draw_floor,
    draw_interval,
    draw_published,
    draw_reference,
    house_style,
    new_figure,
    save,
)
from results.verdict import Verdict

MARKS: Mapping[str, str] = {"supported": "✓", "refuted": "✗", "undecided": "?"}
"""How an outcome is marked beside its word."""

NOTE = "mean over worlds with 95 % interval; ticks: single worlds"

_NARROW, _WIDE = 52, 88
_DASHES = ("-", "--", ":", "-.")
_MOST_TICKS = 8
_TICK_ROOM = 0.12
"""Least distance between two ticks, as a share of the axis."""
_DODGE = 0.012
"""How far apart arms at one place are drawn, as a share of the axis."""
_BEYOND = 0.05
"""Room beyond a world that lies outside the limits, as a share of the span of the worlds."""

Limits = tuple[float | None, float | None]


@dataclass(frozen=True)
class Published:
    """Numbers that others printed, as hollow marks. They have no interval because none was printed.

    Attributes:
        label: who, and of which model.
        points: place and value of each.
        layers: distinct layers, which choose the marker; None where the model is of another kind.
        loops: loops, which choose the colour.
    """

    label: str
    points: tuple[tuple[float, float], ...]
    layers: int | None = None
    loops: int | None = None


@dataclass(frozen=True, kw_only=True)
class Panel(ABC):
    """One pair of axes of a figure.

    Attributes:
        values: what the values are, with their unit: the label of their axis.
        floor: what a predictor without the skill reaches.
        ceiling: the most that any arm can reach.
        references: values to compare with, such as one that a paper printed, by their label.
        limits: ends of the axis of values, moved out where a world lies beyond; None leaves an end to the data.
    """

    values: str
    floor: float | None = None
    ceiling: float | None = None
    references: Mapping[str, float] = field(default_factory=dict)
    limits: Limits = (None, None)

    @property
    @abstractmethod
    def height(self) -> float:
        """Inches that the data need."""

    @abstractmethod
    def draw(self, axes: Axes) -> None:
        """Draw everything into empty axes."""

    def _ends(self, drawn: Iterable[Series]) -> Limits:
        """The limits, moved out so that no world is cut off."""
        worlds = [single for series in drawn for point in series.points for single in point.singles]
        low, high = self.limits
        least, most = min(worlds, default=math.inf), max(worlds, default=-math.inf)
        return (
            low if low is None or least >= low else least - _BEYOND * (most - least),
            high if high is None or most <= high else most + _BEYOND * (most - least),
        )

    def _draw_references(self, axes: Axes, along: Along) -> None:
        if self.floor is not None:
            draw_floor(axes, self.floor, "floor", along)
        if self.ceiling is not None:
            draw_ceiling(axes, self.ceiling, "ceiling", along)
        for label, value in self.references.items():
            draw_reference(axes, value, label, along)


@dataclass(frozen=True, kw_only=True)
class Dots(Panel):
    """A row for each arm, the first on top: the mean with its interval, and beneath it each world.

    Attributes:
        rows: the arms, with one point each.
    """

    rows: Sequence[Series]

    @property
    def height(self) -> float:
        """Inches that the data need."""
        return 0.32 * len(self.rows)

    def draw(self, axes: Axes) -> None:
        """Draw everything into empty axes."""
        top = len(self.rows) - 1
        for y, row in zip(range(top, -1, -1), self.rows, strict=True):
            (point,) = row.points
            axes.plot(point.singles, [y - 0.22] * len(point.singles), "|", color="0.6", markersize=5)
            draw_interval(axes, y, point.interval, layers=row.layers, loops=row.loops, along="x")
            if row.ceiling is not None:
                axes.plot([row.ceiling] * 2, [y - 0.35, y + 0.35], color="0.35", linestyle="--", linewidth=1)
                if y == top:
                    axes.text(row.ceiling, y + 0.38, "R_max", color="0.35", fontsize=6.5, ha="center", va="bottom")
        names = [f"{row.label}\n{row.model}{row.left_out}" for row in self.rows]
        axes.set_yticks(range(top, -1, -1), names, fontsize=6.5)
        axes.set_ylim(-0.7, len(self.rows) - 0.4)
        self._draw_references(axes, "x")
        axes.set_xlim(*self._ends(self.rows))
        axes.set_xlabel(self.values, loc="right")


@dataclass(frozen=True, kw_only=True)
class Curves(Panel):
    """A curve for each arm over an axis. Arms with equal layers and loops differ in their dashes.

    Attributes:
        curves: the arms.
        axis: what the places are, with their unit.
        log: whether places are spaced by their logarithm.
        published: numbers that others printed along the same axis.
    """

    curves: Sequence[Series]
    axis: str
    log: bool = False
    published: Sequence[Published] = ()

    def __post_init__(self) -> None:
        least = min((point.at for curve in self.curves for point in curve.points), default=1.0)
        if self.log and least <= 0:
            raise ValueError(f"a place on the axis {self.axis!r} is {least:g}; with log it must be above 0")

    @property
    def height(self) -> float:
        """Inches that the data need, with the legend beneath."""
        return 1.5 + 0.16 * math.ceil((len(self.curves) + len(self.published)) / 2)

    def draw(self, axes: Axes) -> None:
        """Draw everything into empty axes."""
        alike: Counter[tuple[int, int]] = Counter()
        for series, at in zip(self.curves, self._places(), strict=True):
            kind = (series.layers, series.loops)
            for place, point in zip(at, series.points, strict=True):
                axes.plot([place] * len(point.singles), point.singles, "_", color="0.6", markersize=4, zorder=1)
            draw_curve(
                axes,
                at,
                [point.interval for point in series.points],
                layers=series.layers,
                loops=series.loops,
                label=f"{series.label} {series.layers}⊗{series.loops}{series.left_out}",
                linestyle=_DASHES[alike[kind] % len(_DASHES)],
            )
            alike[kind] += 1
        for mark in self.published:
            places, values = [place for place, _ in mark.points], [value for _, value in mark.points]
            draw_published(axes, places, values, mark.label, layers=mark.layers, loops=mark.loops)
        if self.log:
            axes.set_xscale("log")
        ticks = sorted({point.at for series in self.curves for point in series.points})
        if len(ticks) <= _MOST_TICKS and (self.log or all(tick.is_integer() for tick in ticks)):
            ticks = self._apart(ticks)
            whole = [tick.is_integer() and tick < 1e6 for tick in ticks]
            axes.set_xticks(
                ticks, [f"{tick:,.0f}" if w else f"{tick:.3g}" for tick, w in zip(ticks, whole, strict=True)]
            )
            axes.minorticks_off()
        self._draw_references(axes, "y")
        axes.set_ylim(*self._ends(self.curves))
        axes.set_ylabel(self.values)
        axes.set_xlabel(self.axis)
        figure = axes.get_figure(root=True)
        assert figure is not None
        below = axes.transAxes + ScaledTranslation(0, -0.38, figure.dpi_scale_trans)
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=below, ncols=2, fontsize=6.5, handlelength=3.2
        )

    def _apart(self, ticks: Sequence[float]) -> list[float]:
        """The places that get a tick: from the first on, each that is not too near the last one for its number."""
        at = [math.log(tick) if self.log else tick for tick in ticks]
        kept = [0]
        for index in range(1, len(at)):
            if at[index] - at[kept[-1]] > _TICK_ROOM * (at[-1] - at[0]):
                kept.append(index)
        return [ticks[index] for index in kept]

    def _places(self) -> list[list[float]]:
        """Where each arm's points are drawn: a little apart where several arms share a place."""
        shown = [[math.log(point.at) if self.log else point.at for point in curve.points] for curve in self.curves]
        ends = [place for places in shown for place in places]
        crowded = len(set(ends)) < len(ends) and all(len(places) <= MOST_BARS for places in shown)
        step = _DODGE * (max(ends) - min(ends)) if crowded else 0.0
        middle = (len(shown) - 1) / 2
        moved = [[place + step * (c - middle) for place in places] for c, places in enumerate(shown)]
        return [[math.exp(place) for place in places] for places in moved] if self.log else moved


def headline(hypotheses: Mapping[str, Any], verdicts: Mapping[str, Verdict]) -> list[str]:
    """A line for each verdict: mark, name, claim and outcome."""
    return [
        f"{MARKS[verdict.outcome]} {name}  {hypotheses[name]['claim']}: {verdict.outcome}"
        for name, verdict in verdicts.items()
    ]


def draw_figure(
    panels: Sequence[Panel], lines: Sequence[str], path: Path, across: int = 2, note: str = NOTE
) -> tuple[Path, ...]:
    """Draw the panels under their headline as `path` with .png and .svg; nothing where there are no panels.

    Args:
        panels: in reading order.
        lines: the headline.
        path: without suffix; its folder is made.
        across: panels side by side: 2 for the width of a page, 1 for one column of it, or a phone.
        note: what the marks mean.
    """
    if not panels:
        return ()
    rows = [panels[start : start + across] for start in range(0, len(panels), across)]
    width = _WIDE if across > 1 else _NARROW
    wrapped = [line for text in lines for line in textwrap.wrap(text, width, subsequent_indent=" " * 8)]
    heights = [0.9 + max(panel.height for panel in row) for row in rows]
    with house_style():
        figure = new_figure(columns=across, height=0.2 * (len(wrapped) + 1) + sum(heights))
        grid = figure.add_gridspec(len(rows), 1, height_ratios=heights)
        for r, row in enumerate(rows):
            places = grid[r].subgridspec(1, len(row))
            for c, panel in enumerate(row):
                panel.draw(figure.add_subplot(places[c]))
        figure.supxlabel(note, fontsize=6.5, color="0.35")
        figure.suptitle("\n".join(wrapped), x=0.01, ha="left", fontsize=9.6 if across > 1 else 7.5)
        path.parent.mkdir(parents=True, exist_ok=True)
        return save(figure, path)
