"""Second phases: a cell begins with the weights of another, which is trained first, and once for all that need it."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from looplm.checkpoint import load_model
from looplm.config import ModelConfig, ObjectiveConfig
from looplm.execution import Execution
from results.store import Store
from sweeps.cell import Cell
from sweeps.claim import Claim
from sweeps.grid import Grid
from sweeps.run import Outcome, run_cell

EAGER = Execution(compile="off")
TINY = ["task.entities=12", "task.relations=3", "model.hidden_size=16", "budget.batch_size=64", "budget.steps=6"]
PARENT = Cell.compose(TINY)


def child(**changes: Any) -> Cell:
    return dataclasses.replace(Cell.compose([*TINY, "model.loops=2"]), **({"pretrained": PARENT} | changes))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def weights(store: Store, cell: Cell) -> dict[str, torch.Tensor]:
    return load_model(store.folder(cell.id) / "checkpoint.ckpt").state_dict()


def test_what_it_begins_with_is_part_of_what_a_cell_is() -> None:
    other = dataclasses.replace(PARENT, optimizer=dataclasses.replace(PARENT.optimizer, lr=1e-4))
    plain = Cell.compose([*TINY, "model.loops=2"])
    assert len({plain.id, child().id, child(pretrained=other).id}) == 3
    assert Cell.from_config(child().config()) == child()
    reseeded = dataclasses.replace(child().seeds, init_seed=5)
    assert child(seeds=reseeded).id == child().id
    assert child().at_seeds(lambda _: reseeded).pretrained.seeds.init_seed == 5  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": ModelConfig(hidden_size=32, loops=2)}, "model.hidden_size is 32; it must be 16"),
        ({"model": ModelConfig(hidden_size=16, layers=2)}, "model.layers is 2; it must be 1"),
        ({"task": Cell.compose(["task.entities=13", "task.relations=3"]).task}, "vocabulary differs"),
        ({"pretrained": None, "objective": ObjectiveConfig(name="stage_two")}, "needs a pretrained cell"),
    ],
)
def test_weights_that_cannot_fit_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        child(**change)


def test_the_parent_is_trained_first_and_once(store: Store) -> None:
    assert run_cell(child(), store, EAGER) is Outcome.DONE
    assert set(store.read().cells["cell"]) == {PARENT.id, child().id}
    begun = (store.folder(PARENT.id) / "checkpoint.ckpt").stat().st_mtime_ns
    assert run_cell(child(objective=ObjectiveConfig(name="entropy")), store, EAGER) is Outcome.DONE
    assert run_cell(PARENT, store, EAGER) is Outcome.ALREADY
    assert (store.folder(PARENT.id) / "checkpoint.ckpt").stat().st_mtime_ns == begun


def test_stage_two_changes_the_gate_and_nothing_else(store: Store) -> None:
    looped = Cell.compose([*TINY, "model.loops=2", "objective.name=entropy"])
    second = dataclasses.replace(looped, pretrained=looped, objective=ObjectiveConfig(name="stage_two"))
    assert run_cell(second, store, EAGER) is Outcome.DONE
    before, after = weights(store, looped), weights(store, second)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"gate.weight", "gate.bias"}


def test_a_parent_that_somebody_else_trains_is_waited_for(store: Store) -> None:
    claim = Claim.acquire(store.folder(PARENT.id))
    assert claim is not None
    with claim:
        assert run_cell(child(), store, EAGER) is Outcome.CLAIMED
    assert store.status(child().id) is None
    assert run_cell(child(), store, EAGER) is Outcome.DONE


def test_a_parent_that_fails_fails_its_children_with_the_reason(store: Store) -> None:
    hot = dataclasses.replace(PARENT.optimizer, lr=1e30, warmup_steps=0, clip=1e30)
    budget = dataclasses.replace(PARENT.budget, steps=60)
    wild = dataclasses.replace(PARENT, optimizer=hot, budget=budget)
    assert run_cell(child(pretrained=wild), store, EAGER) is Outcome.FAILED
    error = store.error(child(pretrained=wild).id)
    assert error is not None
    assert "the cell it is pretrained from failed: FloatingPointError" in error


def test_parents_whose_weights_are_gone_are_trained_again(store: Store, tmp_path: Path) -> None:
    run_cell(PARENT, store, EAGER)
    (store.folder(PARENT.id) / "checkpoint.ckpt").unlink()
    assert run_cell(child(), store, EAGER) is Outcome.DONE
    quiet = Store(tmp_path / "quiet")
    run_cell(child(), quiet, EAGER)
    assert store.read().records.equals(quiet.read().records)


GRID: dict[str, Any] = {
    "question": "When?",
    "hypotheses": {},
    "parts": {
        "first": {"baseline": {"task": "twohop", "budget.steps": 9}, "arms": {"once": {}, "twice": {"model.loops": 2}}},
        "second": {
            "baseline": {"task": "twohop", "pretrained": "first/once", "budget.steps": 5},
            "arms": {
                "once_once": {},
                "once_twice": {"model.loops": 2},
                "twice_once": {"pretrained": "first/twice", "model.loops": 1},
                "twice_twice": {"pretrained": "first/twice"},
                "plain": {"partner": "plain", "of": "once_twice"},
            },
            "evaluations": [],
        },
    },
    "scales": {
        "quick": {
            "replicates": 2,
            "parts": {
                "first": {"axes": {"task.entities": [40, 50]}},
                "second": {"axes": {"task.entities": [40, 50], "optimizer.lr": [1e-3, 1e-2]}},
            },
        },
        "smoke": {"replicates": 1, "parts": {"second": {}}},
    },
}


def test_a_grid_names_the_arm_that_a_cell_begins_with() -> None:
    plan = Grid("question", GRID, {}).expand("quick")
    first = {(m.arm, m.cell.task.entities, m.replicate): m.cell for m in plan.members if m.part == "first"}  # type: ignore[attr-defined]
    second = [member for member in plan.members if member.part == "second"]
    assert len(second) == 5 * 4 * 2
    for member in second:
        loops = "twice" if member.arm.startswith("twice") else "once"
        entities = member.cell.task.entities  # type: ignore[attr-defined]
        assert member.cell.pretrained == first[loops, entities, member.replicate]
        assert member.cell.model.loops == (2 if member.arm.endswith("twice") else 1)
        assert member.cell.optimizer.lr in (1e-3, 1e-2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("first/onze", "Did you mean 'once'"),
        ("frist/once", "another part of scale"),
        ("second/once_once", "another part of scale"),
    ],
)
def test_a_grid_that_begins_with_nothing_is_refused(given: str, said: str) -> None:
    parts = {**GRID["parts"], "second": {"baseline": {"task": "twohop", "pretrained": given}, "arms": {"a": {}}}}
    with pytest.raises(ValueError, match=said):
        Grid("question", {**GRID, "parts": parts}, {}).expand("quick")


def test_parent_and_child_vary_the_same_axes() -> None:
    scales = {"quick": {"replicates": 1, "parts": {"first": {"axes": {"task.entities": [40]}}, "second": {}}}}
    with pytest.raises(ValueError, match=r"varies 'task\.entities'; part 'second' must vary it too"):
        Grid("question", {**GRID, "scales": scales}, {}).expand("quick")
    with pytest.raises(ValueError, match="another part of scale"):
        Grid("question", GRID, {}).expand("smoke")
