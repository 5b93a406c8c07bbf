"""Panels draw what they are given where it lies; figures repeat, at both widths."""

import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.panels import Curves, Dots, Published, draw_figure
from experiments.series import Point, Series
from results.statistics import mean_interval
from results.style import MOST_BARS, layer_marker, loop_color


def series(label, layers, loops, values_at, ceiling=None):
    points = [Point(at, mean_interval(values), tuple(values)) for at, values in values_at.items()]
    return Series(label, f"{layers}⊗{loops}", layers, loops, tuple(points), ceiling)


LOOPED = series("looped", 1, 4, {0.0: [0.7, 0.8, 0.9]}, ceiling=1.5)
PLAIN = series("plain", 1, 1, {0.0: [0.1, 0.2, 0.3]}, ceiling=1.5)


def axes_of(panel):
    axes = Figure().subplots()
    panel.draw(axes)
    return axes


def drawn(axes, color, marker):
    return [
        (float(x), float(y))
        for line in axes.lines
        if (line.get_color(), line.get_marker()) == (color, marker) and len(line.get_xdata())
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]


def test_dots_have_the_first_arm_on_top_with_worlds_ceiling_floor_and_references():
    panel = Dots(rows=[LOOPED, PLAIN], values="accuracy", floor=0.15, references={"Ouro": 0.6}, limits=(0, 2))
    axes = axes_of(panel)
    assert drawn(axes, loop_color(4), layer_marker(1)) == [(pytest.approx(0.8), 1.0)]
    assert drawn(axes, loop_color(1), layer_marker(1)) == [(pytest.approx(0.2), 0.0)]
    assert [x for x, y in drawn(axes, "0.6", "|") if y > 0.5] == pytest.approx([0.7, 0.8, 0.9])
    assert [label.get_text().split("\n")[0] for label in axes.get_yticklabels()] == ["looped", "plain"]
    assert {text.get_text() for text in axes.texts} == {"R_max", "floor", "Ouro"}
    assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "-."] == [0.6]
    assert axes.get_xlim() == (0, 2)


@pytest.mark.parametrize(
    ("limits", "cut"), [((0, None), False), ((0.25, 2), True), ((0, 0.85), True), ((None, None), False)]
)
def test_no_world_is_cut_off_by_the_limits(limits, cut):
    for panel in (
        Dots(rows=[LOOPED, PLAIN], values="accuracy", limits=limits),
        Curves(curves=[LOOPED, PLAIN], values="accuracy", axis="length", limits=limits),
    ):
        axes = axes_of(panel)
        ends = axes.get_xlim() if isinstance(panel, Dots) else axes.get_ylim()
        worlds = [single for row in (LOOPED, PLAIN) for point in row.points for single in point.singles]
        assert ends[0] < min(worlds) < max(worlds) < ends[1]
        kept = all(end is None or end == shown for end, shown in zip(limits, ends, strict=True))
        assert kept != cut


def test_curves_show_every_world_and_interval_and_tell_equal_models_apart():
    at = {2.0: [0.8, 0.9], 4.0: [0.5, 0.6]}
    panel = Curves(
        curves=[series("plain", 2, 1, at), series("longer", 2, 1, at), series("looped", 2, 6, at)],
        values="accuracy",
        axis="length",
        published=[Published("Ouro 2⊗6", ((2.0, 0.98), (4.0, 0.78)), 2, 6)],
    )
    axes = axes_of(panel)
    ticks = drawn(axes, "0.6", "_")
    assert sorted(y for _, y in ticks) == pytest.approx(sorted(3 * [0.5, 0.6, 0.8, 0.9]))
    assert len({x for x, _ in ticks}) == 6  # moved apart, each arm at its own place
    assert [x for x, _ in ticks] == pytest.approx(3 * [2, 2, 4, 4], abs=0.05)
    bars = [segment for bar in axes.collections for segment in bar.get_segments()]
    assert len(bars) == 6
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["plain 2⊗1", "longer 2⊗1", "looped 2⊗6", "Ouro 2⊗6"]
    dashes = {line.get_label(): line.get_linestyle() for line in axes.lines}
    assert dashes["plain 2⊗1"] != dashes["longer 2⊗1"]
    published = next(line for line in axes.lines if line.get_label() == "Ouro 2⊗6")
    assert published.get_markerfacecolor() == "none"
    assert published.get_ydata().tolist() == [0.98, 0.78]


def test_a_long_curve_has_a_band_and_stays_in_place():
    places = np.geomspace(1, 1e4, MOST_BARS + 1)
    panel = Curves(
        curves=[series(name, 1, loops, {at: [0.4, 0.6] for at in places}) for name, loops in (("a", 1), ("b", 4))],
        values="accuracy",
        axis="steps",
        log=True,
    )
    axes = axes_of(panel)
    (a, b) = axes.collections
    low, high = (mean_interval([0.4, 0.6]).low, mean_interval([0.4, 0.6]).high)
    for band in (a, b):
        corners = band.get_paths()[0].vertices
        assert (corners[:, 1].min(), corners[:, 1].max()) == pytest.approx((low, high))
        assert (corners[:, 0].min(), corners[:, 0].max()) == pytest.approx((1, 1e4))
    assert axes.get_xscale() == "log"


def test_a_logarithmic_axis_has_no_place_for_zero():
    with pytest.raises(ValueError, match="a place on the axis 'steps' is 0; with log it must be above 0"):
        Curves(curves=[series("a", 1, 1, {0.0: [0.5], 1.0: [0.5]})], values="v", axis="steps", log=True)


@pytest.mark.parametrize("across", [1, 2])
def test_a_figure_repeats_and_has_the_width_of_its_columns(tmp_path, across):
    panels = [Dots(rows=[LOOPED, PLAIN], values="v")] * 3
    lines = ["✓ H1  A claim that is long enough to be broken into several lines: supported"]
    one, two = (draw_figure(panels, lines, tmp_path / name / "figure", across) for name in "ab")
    assert [path.name for path in one] == ["figure.png", "figure.svg"]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    width = re.search(r'width="([\d.]+)pt"', one[1].read_text())
    assert width is not None
    assert float(width[1]) == pytest.approx(across * 3.4 * 72)


def test_no_panels_draw_nothing(tmp_path):
    assert draw_figure([], ["x"], tmp_path / "figure") == ()
    assert list(tmp_path.iterdir()) == []
