"""How every figure looks: a colour for each number of loops, a marker for each number of layers, files that repeat.

Helpers draw single points, floors and ceilings; a figure as a whole belongs to the experiment that asks for it. Draw
inside `with house_style():`. Pyplot is not used, so no display and no global figure is needed.
"""

import io
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.bundle import write_durably
from results.statistics import Interval

COLUMN_INCHES = 3.4
"""Width of one column of a two-column paper; type stays legible at it."""

MOST_BARS = 12
"""Most places of a curve at which intervals are drawn as bars; more would run into each other."""

Along = Literal["x", "y"]
"""The axis that values run along."""

_COLORS = ("#000000", "#56b4e9", "#009e73", "#d55e00", "#e69f00", "#cc79a7", "#5e3c00", "#0072b2")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")

_SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.2,
    "lines.markersize": 5,
    "errorbar.capsize": 2,
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "svg.fonttype": "path",
    "svg.hashsalt": "looplm",
}


def house_style() -> AbstractContextManager[None]:
    """The settings of every figure, for the length of a `with` block."""
    return matplotlib.rc_context(_SETTINGS)


def new_figure(columns: int = 1, height: float = 2.6) -> Figure:
    """An empty figure, `columns` paper columns wide and `height` inches high."""
    return Figure(figsize=(columns * COLUMN_INCHES, height))


def loop_color(loops: int) -> str:
    """The colour of a number of loops. Told apart with any colour blindness for 1 … 8 loops; beyond, colours recur."""
    return _COLORS[(_checked("loops", loops) - 1) % len(_COLORS)]


def layer_marker(layers: int) -> str:
    """The marker of a number of layers. Distinct for 1 … 8 layers; beyond, markers recur."""
    return _MARKERS[(_checked("layers", layers) - 1) % len(_MARKERS)]


def draw_interval(
    axes: Axes, at: float, interval: Interval, *, layers: int, loops: int, label: str = "", along: Along = "y"
) -> None:
    """A point at `interval.mean` with its interval as a bar; hollow and without a bar where nothing bounds it.

    Values run `along` the y axis and `at` is a place on the x axis, or the other way round.
    """
    bounded = math.isfinite(interval.low) and math.isfinite(interval.high)
    bar = [[interval.mean - interval.low], [interval.high - interval.mean]] if bounded else None
    x, y = ([at], [interval.mean]) if along == "y" else ([interval.mean], [at])
    color = loop_color(loops)
    axes.errorbar(
        x,
        y,
        xerr=bar if along == "x" else None,
        yerr=bar if along == "y" else None,
        fmt=layer_marker(layers),
        color=color,
        markerfacecolor=color if bounded else "none",
        label=label or f"{layers}⊗{loops}",
    )


def draw_curve(
    axes: Axes,
    at: Sequence[float],
    intervals: Sequence[Interval],
    *,
    layers: int,
    loops: int,
    label: str,
    linestyle: str = "-",
) -> None:
    """Means joined by a line, each with its interval: bars at up to `MOST_BARS` places, beyond that a band."""
    color = loop_color(loops)
    means = [interval.mean for interval in intervals]
    axes.plot(at, means, color=color, linestyle=linestyle, zorder=2)
    axes.plot([], [], color=color, linestyle=linestyle, marker=layer_marker(layers), label=label)
    if len(at) <= MOST_BARS:
        for place, interval in zip(at, intervals, strict=True):
            draw_interval(axes, place, interval, layers=layers, loops=loops, label="_")
        return
    bounded = [math.isfinite(interval.low) and math.isfinite(interval.high) for interval in intervals]
    low, high = ([getattr(interval, end) for interval in intervals] for end in ("low", "high"))
    axes.fill_between(at, low, high, where=bounded, color=color, alpha=0.2, linewidth=0)
    every = math.ceil(len(at) / MOST_BARS)
    axes.plot(at, means, color=color, linestyle="none", marker=layer_marker(layers), markevery=every)


def draw_published(
    axes: Axes,
    at: Sequence[float],
    values: Sequence[float],
    label: str,
    *,
    layers: int | None = None,
    loops: int | None = None,
) -> None:
    """Hollow marks at numbers that others printed, joined by a faint line; grey crosses where loops do not apply."""
    color = "0.35" if loops is None else loop_color(loops)
    marker = "x" if layers is None else layer_marker(layers)
    axes.plot(
        at, values, color=color, marker=marker, markerfacecolor="none", linewidth=0.6, alpha=0.8, zorder=1, label=label
    )


def draw_floor(axes: Axes, value: float, label: str, along: Along = "y") -> None:
    """A dotted line at what a predictor without the skill reaches, named beside it."""
    _line(axes, value, label, ":", along)


def draw_ceiling(axes: Axes, value: float, label: str, along: Along = "y") -> None:
    """A dashed line at the most that can be reached, named beside it."""
    _line(axes, value, label, "--", along)


def draw_reference(axes: Axes, value: float, label: str, along: Along = "y") -> None:
    """A dash-dotted line at a number to compare with, such as one that a paper printed, named beside it."""
    _line(axes, value, label, "-.", along)


def save(figure: Figure, path: Path) -> tuple[Path, Path]:
    """Write `figure` as `path` with .png and with .svg, each replaced in one step. Equal figures give equal bytes."""
    written = path.with_suffix(".png"), path.with_suffix(".svg")
    with house_style():
        for file, metadata in zip(written, ({"Software": None}, {"Date": None, "Creator": None}), strict=True):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=file.suffix[1:], metadata=metadata)
            write_durably(file, buffer.getvalue())
    return written


def _line(axes: Axes, value: float, label: str, linestyle: str, along: Along) -> None:
    line: dict[str, Any] = {"linestyle": linestyle, "color": "0.45", "linewidth": 1, "zorder": 0}
    text: dict[str, Any] = {"color": "0.35", "fontsize": 6.5, "zorder": 0}
    if along == "y":
        axes.axhline(value, **line)
        axes.text(1.01, value, label, transform=axes.get_yaxis_transform(), ha="left", va="center", **text)
    else:
        axes.axvline(value, **line)
        axes.text(value, 1.0, label, transform=axes.get_xaxis_transform(), ha="center", va="bottom", **text)


def _checked(field: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{field} is {value}; it must be at least 1")
    return value
