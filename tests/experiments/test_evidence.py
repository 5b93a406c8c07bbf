"""Verdicts, tables and the figure from planted rows: each answer where it should be, whatever is missing or mixed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from experiments.evidence import MIXTURE, Evidence, capacity_reading, judge, members
from experiments.panels import draw_figure, headline
from experiments.questions import figure, grid
from looplm.execution import Execution
from results.schema import CELLS, RECORDS
from results.verdict import Verdict
from sweeps.grid import Member, Plan
from sweeps.run import cell_row

QUESTION = "capacity_vs_manipulation"
Value = Callable[[Member], float | None]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return grid(QUESTION).expand("lab")


def planted(plan: Plan, use: Value, bits: Value = lambda member: 1.0, **changes: Any) -> Evidence:
    """Evidence in which every cell reads what the functions say; None is a failed cell."""
    rows, records = [], []
    for member in plan.members:
        cell, loop = member.cell, member.cell.model.exits
        row = cell_row(cell, None, Execution()) | changes
        value = use(member) if member.part == "manipulation" else bits(member)
        rows.append(row if value is not None else row | {"status": "failed", "error": "diverged"})
        if value is None:
            continue
        metrics = {("ood_both", "accuracy_given_recall"): value, ("facts", "accuracy"): 1.0, ("id", "accuracy"): 0.5}
        if member.part != "manipulation":
            metrics = {("people", "bits_per_parameter"): value}
        for (split, metric), number in metrics.items():
            place = {
                "cell": cell.id,
                "evaluation": "answers@1",
                "step": 1,
                "loop": loop,
                "split": split,
                "difficulty": None,
            }
            records.append(place | {"metric": metric, "value": number, "n": 47})
    return Evidence(members(plan), CELLS.frame(rows).unique("cell"), RECORDS.frame(records))


def noisy(mean: float, member: Member) -> float:
    return mean + 0.01 * ((member.replicate * 7) % 5 - 2)


def verdict(evidence: Evidence, name: str) -> Verdict:
    return judge(grid(QUESTION).text["hypotheses"][name], evidence)


def looped_at(high: float, low: float) -> Value:
    return lambda member: noisy(high if member.arm == "looped" else low, member)


def test_a_clear_advantage_over_every_partner_is_supported(plan: Plan) -> None:
    found = verdict(planted(plan, looped_at(0.6, 0.1)), "H2")
    assert found.outcome == "supported"
    assert set(found.intervals) == {"plain", "longer", "deep", "deep_exits", "narrow"}
    assert found.intervals["deep"].mean == pytest.approx(0.5)


def test_one_partner_that_does_as_well_refutes_it(plan: Plan) -> None:
    found = verdict(planted(plan, lambda m: noisy(0.6 if m.arm in ("looped", "deep_exits") else 0.1, m)), "H2")
    assert found.outcome == "refuted"
    assert "deep_exits" in found.sentence


def test_a_wide_spread_is_undecided(plan: Plan) -> None:
    def use(member: Member) -> float:
        return (0.9 if member.replicate % 2 else 0.1) if member.arm == "looped" else noisy(0.1, member)

    assert verdict(planted(plan, use), "H2").outcome == "undecided"


def test_failed_cells_of_the_looped_arm_count_against_it(plan: Plan) -> None:
    found = verdict(
        planted(plan, lambda m: None if m.arm == "looped" and m.replicate < 5 else looped_at(0.6, 0.1)(m)), "H2"
    )
    assert found.outcome != "supported"
    assert found.intervals["plain"].n == 8


def test_a_missing_partner_too_few_worlds_or_unequal_recall_decide_nothing(plan: Plan) -> None:
    full = planted(plan, looped_at(0.6, 0.1))
    without = full.cells.filter(~pl.col("cell").is_in([m.cell.id for m in plan.members if m.arm == "longer"]))
    found = verdict(Evidence(full.members, without, full.records), "H2")
    assert (found.outcome, "no rows of longer" in found.sentence) == ("undecided", True)
    few = full.cells.filter(pl.col("data_seed") < 3)
    found = verdict(Evidence(full.members, few, full.records), "H2")
    assert (found.outcome, "3 of 8 replicates" in found.sentence) == ("undecided", True)
    plain = [m.cell.id for m in plan.members if m.part == "manipulation" and m.arm == "plain"]
    forgot = full.records.with_columns(
        value=pl.when(pl.col("cell").is_in(plain) & (pl.col("split") == "facts")).then(0.5).otherwise("value")
    )
    found = verdict(Evidence(full.members, full.cells, forgot), "H2")
    assert (found.outcome, "below 0.95: plain 0.50" in found.sentence) == ("undecided", True)


def test_rows_of_two_backends_are_not_compared(plan: Plan) -> None:
    full = planted(plan, looped_at(0.6, 0.1), backend="eager")
    mixed = full.cells.with_columns(
        backend=pl.when((pl.col("data_seed") == 0) & (pl.col("loops") > 1)).then(pl.lit("compile")).otherwise("backend")
    )
    found = verdict(Evidence(full.members, mixed, full.records), "H2")
    assert (found.outcome, "several backends are mixed" in found.sentence) == ("undecided", True)


def test_a_sweep_may_move_to_another_machine_between_replicates(plan: Plan) -> None:
    full = planted(plan, looped_at(0.6, 0.1))
    moved = full.cells.with_columns(device=pl.when(pl.col("data_seed") < 3).then(pl.lit("old")).otherwise("device"))
    assert verdict(Evidence(full.members, moved, full.records), "H2").outcome == "supported"
    one = (pl.col("data_seed") == 5) & (pl.col("loops") > 1)
    mixed = full.cells.with_columns(device=pl.when(one).then(pl.lit("old")).otherwise("device"))
    found = verdict(Evidence(full.members, mixed, full.records), "H2")
    assert (found.outcome, "devices are mixed in replicate 5" in found.sentence) == ("undecided", True)


def test_an_arm_may_be_set_against_other_readings_of_itself(plan: Plan) -> None:
    full = planted(plan, looped_at(0.6, 0.1))
    early = full.records.filter(pl.col("split") == "ood_both").with_columns(loop=pl.lit(1, pl.Int64), value=pl.lit(0.2))
    looped = [m.cell.id for m in plan.members if m.arm == "looped"]
    both = Evidence(full.members, full.cells, pl.concat([full.records, early.filter(pl.col("cell").is_in(looped))]))
    hypothesis = {key: value for key, value in grid(QUESTION).text["hypotheses"]["H2"].items() if key != "partners"}
    found = judge(hypothesis | {"against": {"the first loop": {"loop": 1}}}, both)
    assert found.outcome == "supported"
    assert found.intervals["the first loop"].mean == pytest.approx(0.4)
    found = judge(hypothesis | {"against": {"facts": {"split": "facts", "metric": "accuracy"}}}, both)
    assert found.outcome == "refuted"


@pytest.mark.parametrize(("ratio", "outcome"), [(1.0, "supported"), (1.5, "refuted"), (1.09, "undecided")])
def test_storage_is_judged_by_the_ratio(plan: Plan, ratio: float, outcome: str) -> None:
    def bits(member: Member) -> float:
        spread = 1 + 0.02 * (member.replicate % 3 - 1) * (member.arm == "looped")
        return spread * (ratio if member.arm == "looped" else 1.0)

    assert verdict(planted(plan, looped_at(0.6, 0.1), bits), "H1").outcome == outcome


def test_bits_that_still_grow_are_no_capacity(plan: Plan) -> None:
    def bits(member: Member) -> float:
        return 1.2 if member.part == "capacity_exposures" else 1.0

    evidence = planted(plan, looped_at(0.6, 0.1), bits)
    found = verdict(evidence, "H1")
    assert (found.outcome, "twice the exposures moves it by +20.0 %" in found.sentence) == ("undecided", True)
    assert (
        capacity_reading(grid(QUESTION).text["hypotheses"]["H1"], evidence, "plain").label
        == "bits at 1000.06 exposures"
    )


def test_a_rung_is_compared_in_the_worlds_that_it_was_measured_in(plan: Plan) -> None:
    """Two of the five worlds store twice as much, whatever is doubled, and the rungs have neither."""

    def bits(member: Member) -> float:
        return 2.0 if member.replicate >= 3 else 1.0

    evidence = planted(plan, looped_at(0.6, 0.1), bits)
    rungs = {member.replicate for member in plan.members if member.part == "capacity_people"}
    assert rungs == {0, 1, 2}
    reading = capacity_reading(grid(QUESTION).text["hypotheses"]["H1"], evidence, "plain")
    assert reading.label == "capacity"


def test_a_rung_of_another_machine_than_what_it_doubles_is_no_evidence(plan: Plan) -> None:
    full = planted(plan, looped_at(0.6, 0.1), lambda member: noisy(1.0, member))
    assert verdict(full, "H1").outcome == "supported"
    rung = [m.cell.id for m in plan.members if m.part == "capacity_people" and m.replicate == 1]
    moved = full.cells.with_columns(device=pl.when(pl.col("cell").is_in(rung)).then(pl.lit("new")).otherwise("device"))
    found = verdict(Evidence(full.members, moved, full.records), "H1")
    assert (found.outcome, "devices are mixed in replicate 1" in found.sentence) == ("undecided", True)
    assert verdict(Evidence(full.members, moved, full.records), "H2").outcome == "supported"


def test_a_saved_folder_tells_the_same(plan: Plan, tmp_path: Path) -> None:
    evidence = planted(plan, looped_at(0.6, 0.1))
    evidence.save(tmp_path)
    again = Evidence.of_folder(tmp_path)
    assert again.arms("manipulation") == evidence.arms("manipulation")
    assert again.arms("manipulation")[0] == "looped"
    for name in ("H1", "H2"):
        assert verdict(again, name) == verdict(evidence, name)


def test_the_mixture_is_read_beside_the_last_loop(plan: Plan) -> None:
    evidence = planted(plan, looped_at(0.6, 0.1))
    looped = [m.cell.id for m in plan.members if m.arm == "looped"]
    mixture = evidence.records.filter(pl.col("cell").is_in(looped)).with_columns(
        loop=pl.lit(0, pl.Int64), value=pl.lit(0.3)
    )
    both = Evidence(evidence.members, evidence.cells, pl.concat([evidence.records, mixture]))
    place = ("manipulation", "looped", "ood_both", "accuracy_given_recall")
    assert set(both.values(*place, loop=MIXTURE).values()) == {0.3}
    assert both.values(*place) == evidence.values(*place)


def test_a_figure_is_the_same_each_time_it_is_drawn(tmp_path: Path) -> None:
    evidence = planted(grid(QUESTION).expand("lab"), looped_at(0.6, 0.1))
    hypotheses = grid(QUESTION).text["hypotheses"]
    verdicts = {key: judge(hypothesis, evidence) for key, hypothesis in hypotheses.items()}
    drawing = figure(QUESTION)
    assert all(sheet.rows for sheet in drawing.tables(evidence))
    panels, lines = drawing.panels(evidence), headline(hypotheses, verdicts)
    first, second = (draw_figure(panels, lines, tmp_path / folder / "figure") for folder in ("one", "two"))
    assert [path.suffix for path in first] == [".png", ".svg"]
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()


def versions(evidence: Evidence, tmp_path: Path) -> Evidence:
    """The evidence as it is read from a folder."""
    evidence.save(tmp_path)
    return Evidence.of_folder(tmp_path, QUESTION)


def test_an_older_evaluation_is_never_averaged_with_a_newer_one(plan: Plan, tmp_path: Path) -> None:
    full = planted(plan, looped_at(0.6, 0.1))
    plain = [m.cell.id for m in plan.members if (m.part, m.arm) == ("manipulation", "plain") and m.replicate < 2]
    newer = pl.when(pl.col("cell").is_in(plain)).then(pl.lit("answers@1")).otherwise(pl.lit("answers@2"))
    found = versions(replace(full, records=full.records.with_columns(evaluation=newer)), tmp_path)
    assert sorted(found.values("manipulation", "plain", "ood_both", "accuracy_given_recall")) == [2, 3, 4, 5, 6, 7]
    assert {(p.cell, p.evaluation) for p in found.problems} == {(cell, "answers@1") for cell in plain}
    assert "6 of 8 replicates against plain" in verdict(found, "H2").sentence


def test_cells_of_an_older_task_or_of_other_numerics_are_left_out(plan: Plan, tmp_path: Path) -> None:
    full = planted(plan, looped_at(0.6, 0.1))
    lost = {m.replicate: m.cell.id for m in plan.members if (m.part, m.arm) == ("manipulation", "looped")}
    older, other = lost[0], lost[1]
    renamed = {other: "0" * 16}
    cells = full.cells.with_columns(
        pl.col("cell").replace(renamed),
        task=pl.when(pl.col("cell") == older).then(pl.lit("twohop@0")).otherwise("task"),
    )
    records = full.records.with_columns(pl.col("cell").replace(renamed))
    found = versions(Evidence(full.members.with_columns(pl.col("cell").replace(renamed)), cells, records), tmp_path)
    assert sorted(found.values("manipulation", "looped", "ood_both", "accuracy_given_recall")) == [2, 3, 4, 5, 6, 7]
    reasons = {problem.cell: problem.reason for problem in found.problems}
    assert reasons == {
        older: "twohop@0 stands beside version 1 of the task",
        "0" * 16: "made with other numerics than the cells beside it",
    }


def test_rows_that_are_all_of_other_numerics_are_compared_among_themselves(plan: Plan, tmp_path: Path) -> None:
    full = planted(plan, looped_at(0.6, 0.1))
    frames = [frame.with_columns(pl.format("x{}", "cell").alias("cell")) for frame in (full.members, full.cells)]
    records = full.records.with_columns(pl.format("x{}", "cell").alias("cell"))
    found = versions(Evidence(frames[0], frames[1], records), tmp_path)
    assert found.problems == ()
    assert verdict(found, "H2").outcome == "supported"
