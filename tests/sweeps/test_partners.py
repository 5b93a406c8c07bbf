"""Partners of k⊗R: what each must match, exactly or within a small residual."""

import pytest

from sweeps.cell import Cell
from sweeps.cost import total_parameters, training_flops
from sweeps.partners import solve

CASES = [
    ["model.loops=2"],
    ["model.loops=4", "model.hidden_size=32"],
    ["model.loops=3", "model.layers=2", "model.hidden_size=96", "model.heads=4"],
    ["model.loops=8", "objective.name=last"],
    ["task=addition", "model.loops=4", "model.layers=2", "objective.name=uniform", "budget.layout=pack"],
]


@pytest.fixture(params=CASES, ids=lambda case: " ".join(case))
def looped(request: pytest.FixtureRequest) -> Cell:
    return Cell.compose(["objective.name=entropy", "budget.steps=1000", *request.param])


def test_plain_has_the_same_parameters_and_steps(looped: Cell) -> None:
    plain, match = solve("plain", looped)
    assert (plain.model.layers, plain.model.loops) == (looped.model.layers, 1)
    assert total_parameters(plain) == total_parameters(looped)
    assert plain.budget == looped.budget
    assert match.residual == 0


def test_longer_spends_the_same_training_flops(looped: Cell) -> None:
    longer, match = solve("longer", looped)
    assert longer.model.loops == 1
    assert training_flops(longer) == pytest.approx(training_flops(looped), rel=1e-3)
    assert abs(match.residual) < 1e-3
    assert longer.budget.steps > looped.budget.steps


def test_deep_has_the_same_depth_and_nothing_shared(looped: Cell) -> None:
    deep, match = solve("deep", looped)
    assert (deep.model.layers, deep.model.loops, deep.model.exits) == (looped.model.depth, 1, 1)
    assert match.residual == 0
    assert total_parameters(deep) > total_parameters(looped)


def test_deep_exits_has_the_same_exits_objective_and_flops(looped: Cell) -> None:
    deep, match = solve("deep_exits", looped)
    assert deep.model.exits == looped.model.exits
    assert deep.objective == looped.objective
    assert deep.model.loops == 1
    assert match.residual == 0


def test_narrow_has_the_same_parameters_at_the_same_depth(looped: Cell) -> None:
    narrow, match = solve("narrow", looped)
    assert (narrow.model.layers, narrow.model.loops) == (looped.model.depth, 1)
    assert narrow.model.hidden_size < looped.model.hidden_size
    assert match.got == total_parameters(narrow)
    assert abs(match.residual) < 0.02


def test_every_partner_keeps_the_world_the_optimiser_and_the_data(looped: Cell) -> None:
    for partner in ("plain", "longer", "deep", "deep_exits", "narrow"):
        cell, _ = solve(partner, looped)
        assert (cell.task, cell.seeds, cell.optimizer) == (looped.task, looped.seeds, looped.optimizer)
        assert cell.budget.batch_size == looped.budget.batch_size


def test_a_model_that_is_not_looped_has_no_partners() -> None:
    with pytest.raises(ValueError, match=r"model\.loops=1; it must be at least 2"):
        solve("plain", Cell.compose([]))
