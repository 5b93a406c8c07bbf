import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from results.statistics import Interval, mean_interval
from results.style import (
    draw_ceiling,
    draw_floor,
    draw_interval,
    house_style,
    layer_marker,
    loop_color,
    new_figure,
    save,
)

ROOT = Path(__file__).parents[2]

# Machado, Oliveira and Fernandes (2009), severity 1: what the three kinds of colour-blind eyes see, in linear RGB.
DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
    "none": np.eye(3),
}


def lab(linear: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear sRGB under D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(linear, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def linear(color: str) -> np.ndarray:
    rgb = np.array(to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_loop_colors_are_told_apart_by_every_eye_and_from_paper(deficiency):
    seen = [lab(np.array(DEFICIENCIES[deficiency]) @ linear(loop_color(loops))) for loops in range(1, 9)]
    white = lab(np.ones(3))
    for first in range(8):
        assert np.linalg.norm(seen[first] - white) > 30
        for second in range(first):
            assert np.linalg.norm(seen[first] - seen[second]) > 10, (first + 1, second + 1)


def test_markers_and_colors_are_one_to_one():
    assert len({layer_marker(layers) for layers in range(1, 9)}) == 8
    assert len({loop_color(loops) for loops in range(1, 9)}) == 8
    with pytest.raises(ValueError, match="loops is 0; it must be at least 1"):
        loop_color(0)


@pytest.mark.parametrize("along", ["x", "y"])
def test_an_interval_is_drawn_where_it_lies(along):
    axes = new_figure().subplots()
    interval = mean_interval([1.0, 2.0, 3.0])
    draw_interval(axes, 5.0, interval, layers=2, loops=4, along=along)
    turn = slice(None, None, -1 if along == "x" else 1)
    (bars,) = axes.collections
    assert bars.get_segments()[0] == pytest.approx(np.array([[5.0, interval.low], [5.0, interval.high]])[:, turn])
    point = axes.lines[0]
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (5.0, 2.0)[turn]
    assert point.get_marker() == layer_marker(2)
    assert point.get_markerfacecolor() == loop_color(4)
    assert axes.get_legend_handles_labels()[1] == ["2⊗4"]


def test_an_unbounded_interval_is_a_hollow_point():
    axes = new_figure().subplots()
    draw_interval(axes, 0.0, mean_interval([0.5]), layers=1, loops=1, label="one")
    assert len(axes.collections) == 0
    assert axes.lines[0].get_markerfacecolor() == "none"


@pytest.mark.parametrize("along", ["x", "y"])
def test_floors_and_ceilings_stand_at_their_value(along):
    axes = new_figure().subplots()
    draw_floor(axes, 0.07, "copy", along)
    draw_ceiling(axes, 1.9, "all known", along)
    ends = [line.get_xdata() if along == "x" else line.get_ydata() for line in axes.lines]
    assert [list(pair) for pair in ends] == [[0.07, 0.07], [1.9, 1.9]]
    assert [text.get_text() for text in axes.texts] == ["copy", "all known"]
    assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()


def test_settings_end_with_the_block():
    import matplotlib

    before = dict(matplotlib.rcParams)
    with house_style():
        assert matplotlib.rcParams["font.family"] == ["DejaVu Sans"]
    assert dict(matplotlib.rcParams) == before


DRAW = """
import sys
from pathlib import Path
from results.statistics import Interval
from results.style import *
with house_style():
    figure = new_figure(columns=2)
    axes = figure.subplots()
    draw_interval(axes, 1, Interval(0.5, 0.4, 0.7, 0.95, 5), layers=2, loops=4)
    draw_floor(axes, 0.1, "floor")
    axes.legend()
    axes.set_title("k⊗R")
    save(figure, Path(sys.argv[1]))
assert "matplotlib.pyplot" not in sys.modules
"""


def test_equal_figures_give_equal_bytes_in_any_process(tmp_path):
    for name, salt in (("a", "1"), ("b", "2")):
        (tmp_path / name).mkdir()
        environment = os.environ | {"PYTHONHASHSEED": salt, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
        subprocess.run([sys.executable, "-c", DRAW, str(tmp_path / name / "figure")], check=True, env=environment)
    for suffix in (".png", ".svg"):
        files = [(tmp_path / name / "figure").with_suffix(suffix) for name in "ab"]
        assert files[0].read_bytes() == files[1].read_bytes()
        assert len(files[0].read_bytes()) > 1000
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["figure.png", "figure.svg"]
    assert b"<dc:date>" not in (tmp_path / "a" / "figure.svg").read_bytes()


def test_save_replaces_and_returns_both_files(tmp_path):
    figure = new_figure()
    draw_interval(figure.subplots(), 0, Interval(1, 0, 2, 0.95, 3), layers=1, loops=2)
    for _ in range(2):
        written = save(figure, tmp_path / "figure.v1.png")
        assert written == (tmp_path / "figure.v1.png", tmp_path / "figure.v1.svg")
    assert written[0].read_bytes().startswith(b"\x89PNG")
