"""Grids: expansion, scales, tuning, and what a grid file can get wrong."""

import contextlib
import copy
import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from sweeps.cell import Cell, Seeds
from sweeps.config import assigned
from sweeps.grid import Grid
from sweeps.partners import solve

GRID: dict[str, Any] = {
    "question": "Does it?",
    "hypotheses": {},
    "parts": {
        "use": {
            "baseline": {"task": "twohop", "model.loops": 2, "objective.name": "entropy", "budget.steps": 100},
            "arms": {
                "looped": {},
                "last": {"objective.name": "last"},
                "plain": {"partner": "plain", "of": "looped"},
                "longer": {"partner": "longer", "of": "looped"},
            },
        },
        "use_longer": {"like": "use", "set": {"budget.steps": 200}},
    },
    "scales": {
        "smoke": {"replicates": 2, "parts": {"use": {"set": {"budget.steps": 10}}, "use_longer": {"arms": ["plain"]}}},
        "quick": {
            "replicates": 1,
            "parts": {"use": {"axes": {"task.entities": [40, 50], "model.hidden_size": [32, 64]}}},
        },
    },
}


def grid(tuning: dict[str, Any] | None = None, **parts: Any) -> Grid:
    return Grid("question", copy.deepcopy(GRID) | parts, tuning or {})


def test_a_plan_is_seed_major_and_pairs_worlds_across_arms() -> None:
    plan = grid().expand("smoke")
    assert [member.replicate for member in plan.members] == [0] * 5 + [1] * 5
    for member in plan.members:
        seeds = member.cell.seeds
        assert seeds.data_seed == seeds.order_seed == seeds.init_seed == member.replicate
    assert len(plan.cells) == 10


def test_scales_set_sizes_and_partners_follow() -> None:
    steps = {(m.part, m.arm): m.cell.budget.steps for m in grid().expand("smoke").members}
    assert steps["use", "looped"] == steps["use", "plain"] == 10
    assert 18 <= steps["use", "longer"] <= 21
    assert steps["use_longer", "plain"] == 200


def test_axes_are_crossed_with_every_arm() -> None:
    plan = grid().expand("quick")
    assert len(plan.members) == 4 * 4
    points = {member.point for member in plan.members}
    assert '{"model.hidden_size": 32, "task.entities": 40}' in points
    for member in plan.members:
        assert f'"task.entities": {member.cell.task.entities}' in member.point  # type: ignore[attr-defined]


def test_an_axis_may_set_several_keys_together() -> None:
    text = copy.deepcopy(GRID)
    text["scales"]["quick"]["parts"]["use"]["axes"] = {
        "size": [{"task.entities": 40, "budget.steps": 7}, {"task.entities": 50, "budget.steps": 9}]
    }
    looped = [m for m in Grid("question", text, {}).expand("quick").members if m.arm == "looped"]
    assert [(m.cell.task.entities, m.cell.budget.steps) for m in looped] == [(40, 7), (50, 9)]  # type: ignore[attr-defined]
    assert looped[0].point == '{"budget.steps": 7, "task.entities": 40}'
    with pytest.raises(ValueError, match="varies it"):
        Grid("question", text, {}).expand("quick", ["budget.steps=3"])


def test_arms_that_are_the_same_run_share_a_cell() -> None:
    text = copy.deepcopy(GRID)
    text["parts"]["use"]["arms"]["again"] = {"objective.prior": 0.25}
    plan = Grid("question", text, {}).expand("smoke")
    assert len(plan.members) == 12
    assert len(plan.cells) == 10


def test_tuned_choices_apply_to_their_arm_and_scale_alone() -> None:
    tuned = grid({"smoke": {"use": {"choices": {"plain": {"optimizer.lr": 0.5}}}}}).expand("smoke")
    rates = {(m.part, m.arm): m.cell.optimizer.lr for m in tuned.members}
    assert rates["use", "plain"] == 0.5
    assert rates["use", "looped"] == 3e-3
    assert {m.cell.optimizer.lr for m in grid({"smoke": {}}).expand("quick").members} == {3e-3}


def test_a_part_that_is_like_another_is_tuned_as_it_is() -> None:
    """What a rung of a ladder moves would else be moved by its learning rate too."""
    of_use = {"choices": {"plain": {"optimizer.lr": 0.5}}}

    def rates(tuning: dict) -> dict[tuple[str, str], float]:
        return {(m.part, m.arm): m.cell.optimizer.lr for m in grid({"smoke": tuning}).expand("smoke").members}

    assert rates({"use": of_use})["use_longer", "plain"] == 0.5
    of_its_own = rates({"use": of_use, "use_longer": {"choices": {"plain": {"optimizer.lr": 0.25}}}})
    assert (of_its_own["use", "plain"], of_its_own["use_longer", "plain"]) == (0.5, 0.25)


def test_tuning_a_looped_arm_does_not_leak_into_its_partners() -> None:
    tuned = grid({"smoke": {"use": {"choices": {"looped": {"optimizer.lr": 0.5}}}}}).expand("smoke")
    rates = {m.arm: m.cell.optimizer.lr for m in tuned.members if m.part == "use"}
    assert rates == {"looped": 0.5, "last": 3e-3, "plain": 3e-3, "longer": 3e-3}


def test_overrides_change_every_cell_but_not_what_the_grid_varies() -> None:
    plan = grid().expand("smoke", ["task.entities=30"])
    assert {member.cell.task.entities for member in plan.members} == {30}  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"the grid of 'question' varies it"):
        grid().expand("smoke", ["objective.name=last"])
    with pytest.raises(ValueError, match="Did you mean 'entities'"):
        grid().expand("smoke", ["task.entitis=30"])


def test_a_plan_can_be_narrowed() -> None:
    plan = grid().expand("smoke")
    assert {m.arm for m in plan.only(["use"], ["plain", "last"]).members} == {"plain", "last"}
    assert plan.only() == plan
    with pytest.raises(ValueError, match="Did you mean 'plain'"):
        plan.only([], ["plan"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"quesion": "x"}, "Did you mean 'question'"),
        ({"scales": {"tiny": {"parts": {}}}}, "'tiny' does not exist"),
        ({"scales": {"smoke": {"replicates": 1, "parts": {"usage": {}}}}}, "Did you mean 'use'"),
        ({"scales": {"smoke": {"replicates": 1, "parts": {"use": {"arm": []}}}}}, "Did you mean 'arms'"),
        ({"scales": {"smoke": {"replicates": 1, "parts": {"use": {"arms": ["plane"]}}}}}, "Did you mean 'plain'"),
        ({"parts": {"use": {"baseline": {"task": "twohop"}}}}, "key 'arms' is missing"),
        ({"parts": {"use": {"like": "uze", "set": {}}}}, "does not exist"),
    ],
)
def test_a_wrong_grid_file_is_refused_with_what_is_allowed(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    OmegaConf.save(OmegaConf.create(copy.deepcopy(GRID) | change), tmp_path / "grid.yaml")
    with pytest.raises(ValueError, match=said):
        Grid.load(tmp_path).expand("smoke")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"clam": "x"}, "hypotheses.H1: key 'clam' does not exist.*Did you mean 'claim'"),
        ({"reading": {"split": "id"}}, "hypotheses.H1.reading: key 'metric' is missing"),
        ({"part": "usage"}, "hypotheses.H1.part 'usage' does not exist.*Did you mean 'use'"),
        ({"arm": "loped"}, "hypotheses.H1: arm 'loped' does not exist.*Did you mean 'looped'"),
        ({"partners": ["plain", "depe"]}, "hypotheses.H1: arm 'depe' does not exist"),
        ({"partners": []}, "hypotheses.H1: partners or against must name"),
        ({"against": {"the first loop": {"lop": 1}}}, "hypotheses.H1.against.the first loop: key 'lop'"),
        ({"requires": [{"split": "facts", "metric": "accuracy"}]}, "hypotheses.H1.requires: key 'least' is missing"),
        ({"ladder": {"people": "use_longer"}}, "hypotheses.H1.ladder: key 'exposures' is missing"),
        ({"ladder": {"people": "use_longer", "exposures": "uze"}}, "hypotheses.H1.ladder.exposures 'uze' does not"),
        ({"decision": {"rule": "advantage"}}, "hypotheses.H1.decision: rule is 'advantage'; it must be ratio_within"),
    ],
)
def test_a_hypothesis_that_could_not_be_judged_is_refused(
    tmp_path: Path, change: dict[str, Any], said: str | None
) -> None:
    whole = {
        **{"claim": "It does", "part": "use", "arm": "looped", "partners": ["plain"]},
        "reading": {"split": "id", "metric": "accuracy"},
        "decision": {"rule": "advantage_over_every", "margin": 0.1, "minimum_replicates": 8},
    }
    OmegaConf.save(OmegaConf.create(GRID | {"hypotheses": {"H1": whole | change}}), tmp_path / "grid.yaml")
    with pytest.raises(ValueError, match=said) if said else contextlib.nullcontext():
        Grid.load(tmp_path)


@pytest.mark.parametrize("text", ["parts: [", "- a list", "question: ${unknown}"])
def test_a_file_that_is_no_grid_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "grid.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"grid\.yaml") as caught:
        Grid.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_unknown_partners_are_refused() -> None:
    for wrong, said in (
        ({"partner": "plane", "of": "looped"}, "Did you mean 'plain'"),
        ({"partner": "plain", "of": "loopt"}, "Did you mean 'looped'"),
        ({"partner": "plain"}, "keys partner and of"),
        ({"partner": "plain", "of": "plain"}, "must not itself be a partner"),
    ):
        text = copy.deepcopy(GRID)
        text["parts"]["use"]["arms"]["plain" if wrong.get("of") == "plain" else "odd"] = wrong
        with pytest.raises(ValueError, match=said):
            Grid("question", text, {}).expand("smoke")


def test_an_expansion_is_what_composing_each_cell_by_itself_gives() -> None:
    """Cells that share what they were made from are those that nothing was shared for."""
    text = copy.deepcopy(GRID)
    text["parts"]["use"]["arms"]["narrow"] = {"partner": "narrow", "of": "looped"}
    text["parts"]["use"]["arms"]["narrow_last"] = {"partner": "narrow", "of": "last"}
    text["scales"]["quick"]["replicates"] = 2
    chosen = {"use": {"choices": {"plain": {"optimizer.lr": 0.5}, "looped": {"optimizer.clip": 0.25}}}}
    plan = Grid("question", text, {"quick": chosen}).expand("quick", ["budget.batch_size=7"])
    assert len(plan.members) == 2 * 4 * 6
    composed = cache(lambda *overrides: Cell.compose(overrides))
    for member in plan.members:
        point = [f"{key}={value}" for key, value in json.loads(member.point).items()]
        baseline = ["model.loops=2", "objective.name=entropy", "budget.steps=100", "budget.batch_size=7"]
        arm = text["parts"]["use"]["arms"][member.arm]
        last = "last" in (member.arm, arm.get("of"))
        cell = composed(*baseline, *point, *(["objective.name=last"] if last else []))
        if "partner" in arm:
            cell, _ = solve(arm["partner"], cell)
        rates = chosen["use"]["choices"].get(member.arm, {})
        seeds = Seeds(data_seed=member.replicate, order_seed=member.replicate, init_seed=member.replicate)
        cell = dataclasses.replace(Cell.from_config(assigned(cell.config(), rates)), seeds=seeds)
        assert member.cell == cell
        assert member.cell.config() == cell.config()
        assert member.cell.id == cell.id


def test_the_data_of_one_cell_are_not_those_of_another() -> None:
    one, other = (member.cell for member in grid().expand("smoke").members[:2])
    config = one.config()
    config["budget"]["steps"], config["task"]["entities"] = -1, -1
    assert one.config() != config
    assert other.config()["budget"]["steps"] == 10
    assert grid().expand("smoke").members[0].cell == one
