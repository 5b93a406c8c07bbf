"""What is drawn is what was planted: by arm, loop, difficulty and step, and along the grid's axes."""

import json
from functools import partial

import pytest
from matplotlib.text import Text

from experiments.evidence import MIXTURE
from experiments.panels import Curves, Dots
from experiments.questions import grid
from experiments.series import along, by_arm, column, exit_depth, exposures, over, setting
from experiments.sheets import arm_rows, best, floor_of, point_sheet, reading, solved
from results.sheet import Measured, to_html
from results.style import new_figure


def accuracy(value, **place):
    return {"split": "id", "metric": "accuracy", "value": value} | place


def world(member):
    """Half of the points lie above and half below, so that means are exact."""
    return 0.02 * (member.replicate % 2 * 2 - 1)


def test_a_point_for_each_arm_with_its_worlds(evidence_of):
    evidence = evidence_of(lambda m: None if (m.arm, m.replicate) == ("plain", 0) else [accuracy(0.5 + world(m))])
    found = {series.label: series for series in by_arm(evidence, "manipulation", "id", "accuracy")}
    assert [found["looped"].layers, found["looped"].loops, found["deep"].layers, found["deep"].loops] == [1, 4, 4, 1]
    assert found["looped"].points[0].interval.mean == pytest.approx(0.5)
    assert found["looped"].points[0].singles == pytest.approx([0.48, 0.52] * 4)
    assert found["plain"].points[0].singles == pytest.approx([0.0, 0.52, *[0.48, 0.52] * 3])
    assert next(iter(found)) == "looped"
    assert by_arm(evidence, "manipulation", "id", "nats") == []


def test_a_failed_world_is_left_out_of_a_loss_and_the_table_and_the_figure_say_so(evidence_of):
    def records(member):
        if member.arm == "plain" and member.replicate < 2:
            return None
        return [accuracy(0.5), accuracy(3.0 + world(member), metric="nats")]

    evidence = evidence_of(records)
    plain = evidence.interval("manipulation", "plain", "id", "nats")
    assert (plain.n, plain.left_out) == (6, 2)
    assert plain.mean == pytest.approx(3.0)
    counted = evidence.interval("manipulation", "plain", "id", "accuracy")
    assert (counted.n, counted.left_out, counted.mean) == (8, 0, pytest.approx(0.375))

    columns = {name: reading(evidence, "manipulation", "id", name, digits=2) for name in ("accuracy", "nats")}
    sheet = arm_rows(evidence, "manipulation", "t", columns)
    rows = {row[0]: row for row in sheet.rows}
    assert str(rows["plain"][5]) == "3.00 ±0.02, 2 left out"
    assert "left out" not in str(rows["looped"][5]) + str(rows["plain"][4])
    assert "3.00 ±0.02, 2 left out" in to_html(sheet)

    found = {series.label: series for series in by_arm(evidence, "manipulation", "id", "nats")}
    assert found["plain"].points[0].singles == pytest.approx([2.98, 3.02] * 3)
    assert (found["plain"].left_out, found["looped"].left_out) == (", 2 left out", "")
    along_loops = over(evidence, "manipulation", "loop", "id", "nats", only=["plain"])
    for panel in (Dots(rows=[found["plain"]], values="nats"), Curves(curves=along_loops, axis="loop", values="nats")):
        axes = new_figure().add_subplot()
        panel.draw(axes)
        assert any(", 2 left out" in text.get_text() for text in axes.findobj(Text))


def test_an_arm_of_which_every_world_failed_has_an_undefined_loss(evidence_of):
    evidence = evidence_of(lambda m: None if m.arm == "plain" else [accuracy(3.0, metric="nats")])
    assert str(reading(evidence, "manipulation", "id", "nats", digits=1)("plain")) == "undefined, 8 left out"


def test_what_is_better_must_be_known_for_the_best(evidence_of):
    evidence = evidence_of(lambda m: [accuracy(3.0, metric="nats")])
    for ask in (solved, partial(best, digits=1)):
        with pytest.raises(ValueError, match="metric is 'nats'; it must be one of which more is known to be better"):
            ask(evidence, "manipulation", "id", "nats")


def test_a_done_cell_without_the_measurement_is_absent_and_an_unmet_condition_is_not(evidence_of):
    def records(member):
        if member.replicate == 0:
            return []
        return [accuracy(None if member.replicate == 1 else 0.5, n=0 if member.replicate == 1 else 40)]

    evidence = evidence_of(records)
    values = evidence.values("manipulation", "looped", "id", "accuracy")
    assert values == {1: None, **dict.fromkeys(range(2, 8), 0.5)}


def test_a_curve_over_loops_difficulties_and_steps(evidence_of):
    def records(member):
        last, steps = member.cell.model.exits, member.cell.budget.steps
        by_loop = [accuracy(0.1 * loop, loop=loop) for loop in range(1, last + 1)]
        by_difficulty = [accuracy(0.9 - 0.1 * d, difficulty=d) for d in (2, 3)]
        earlier = [accuracy(0.05, step=steps // 2)]
        return [*by_loop, *by_difficulty, *earlier, *([accuracy(0.33, loop=MIXTURE)] if last > 1 else [])]

    evidence = evidence_of(records)
    loops, difficulties, steps = (
        {series.label: series for series in over(evidence, "manipulation", level, "id", "accuracy")}
        for level in ("loop", "difficulty", "step")
    )
    assert [(p.at, p.interval.mean) for p in loops["looped"].points] == [
        (loop, pytest.approx(0.1 * loop)) for loop in (1, 2, 3, 4)
    ]
    assert [p.at for p in loops["plain"].points] == [1]
    assert [p.at for p in loops["deep_exits"].points] == [1, 2, 3, 4]
    assert [(p.at, p.interval.mean) for p in difficulties["plain"].points] == [
        (2, pytest.approx(0.7)),
        (3, pytest.approx(0.6)),
    ]
    assert [(p.at, p.interval.mean) for p in steps["looped"].points] == [
        (2000, pytest.approx(0.05)),
        (4000, pytest.approx(0.4)),
    ]
    place = ("manipulation", "looped", "id", "accuracy")
    assert set(evidence.values(*place, loop=MIXTURE).values()) == {0.33}
    assert set(evidence.values("manipulation", "plain", "id", "accuracy", loop=MIXTURE).values()) == {0.1}
    only = over(evidence, "manipulation", "loop", "id", "accuracy", only=["looped"])
    assert [series.label for series in only] == ["looped"]


def test_a_curve_along_an_axis_of_the_grid(evidence_of):
    plan = grid("capacity_vs_manipulation").expand("paper").only(["ouro_mano"], ["loop_2x6", "base_2x1"])

    def records(member):
        length = json.loads(member.point)["task.operations"]
        return [{"split": "test", "metric": "accuracy", "value": 1 / length + 0.1 * world(member)}]

    evidence = evidence_of(records, plan)
    place = ("test", "accuracy")
    looped, plain = along(evidence, "ouro_mano", setting("task.operations"), *place)
    assert (looped.label, looped.layers, looped.loops, plain.loops) == ("loop_2x6", 2, 6, 1)
    assert [(p.at, p.interval.mean) for p in looped.points] == [(n, pytest.approx(1 / n)) for n in (10, 16, 24)]
    assert [p.at for p in along(evidence, "ouro_mano", column("steps"), *place)[0].points] == [80_000, 110_000, 200_000]

    def columns(point):
        return {kind.__name__: kind(evidence, "ouro_mano", *place, point, digits=3) for kind in (reading, best)}

    sheet = point_sheet(evidence, "ouro_mano", columns, "t")
    assert sheet.columns == ("arm", "model", "axes", "n", "reading", "best")
    assert len(sheet.rows) == 6
    assert (sheet.rows[0][0], sheet.rows[0][3]) == ("loop_2x6", 4)
    assert str(sheet.rows[0][4]) == "0.100 ±0.004"
    assert sheet.rows[0][5] == "0.102 (best of 4)"


def test_places_that_are_computed(evidence_of):
    evidence = evidence_of(
        lambda m: [
            {"split": "id", "metric": "exit_probability", "value": p, "loop": loop}
            for loop, p in enumerate((0.1, 0.2, 0.3, 0.4)[: m.cell.model.exits], start=1)
            if m.cell.model.exits > 1
        ]
    )
    assert exit_depth("id")(evidence, "manipulation", "looped", "{}") == pytest.approx(0.1 + 0.4 + 0.9 + 1.6)
    assert exit_depth("id")(evidence, "manipulation", "plain", "{}") == 1.0
    assert exposures("facts")(evidence, "manipulation", "looped", "{}") == pytest.approx(4000 * 512 / 250)


def test_a_table_of_arms_ends_with_the_floor(evidence_of):
    def records(member):
        value = 0.95 if member.arm == "looped" and member.replicate < 6 else 0.2
        floor = {"split": "id", "metric": "floor/best", "value": 0.1, "loop": None, "evaluation": "floors@1"}
        return [accuracy(value), floor]

    evidence = evidence_of(records)
    columns = {
        "id": reading(evidence, "manipulation", "id", "accuracy", digits=1, factor=100),
        "above": solved(evidence, "manipulation", "id", "accuracy"),
    }
    sheet = arm_rows(evidence, "manipulation", "t", columns, {"id": floor_of(evidence, "manipulation", "id")})
    assert sheet.columns == ("arm", "model", "parameters", "n", "id", "above")
    rows = {row[0]: row for row in sheet.rows}
    assert rows["looped"][1:4] == ("1⊗4 d=64, entropy", 51_137, 8)
    assert rows["looped"][5] == "6 of 8"
    assert rows["plain"][5] == "0 of 8"
    assert isinstance(rows["floor"][4], Measured)
    assert (str(rows["floor"][4]), rows["floor"][5]) == ("10.0 ±0.0", None)
