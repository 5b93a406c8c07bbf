"""A cell's identity: what must change the hash, and what must not."""

import pytest

import looplm
from sweeps.cell import Cell
from sweeps.run import Batches

LOOPED = ["model.loops=2", "objective.name=entropy"]


def cell(*overrides: str) -> Cell:
    return Cell.compose(overrides)


@pytest.mark.parametrize(
    "change",
    [
        "model.loops=3",
        "model.hidden_size=32",
        "model.intermediate_size=161",
        "objective.beta=0.1",
        "objective.later_beta=0.01 objective.later_from=0.5",
        "objective.backprop_loops=1",
        "objective.name=uniform",
        "optimizer.lr=1e-4",
        "optimizer.weight_decay=0",
        "budget.steps=7",
        "budget.layout=pack",
        "budget.layout=pack budget.context=9 budget.batch_unit=windows",
        "budget.context=9",
        "seeds.data_seed=1",
        "seeds.order_seed=1",
        "seeds.init_seed=1",
        "task.entities=40",
        "precision=bf16-mixed",
    ],
)
def test_what_changes_the_numbers_changes_the_id(change: str) -> None:
    assert cell(*LOOPED, *change.split()).id != cell(*LOOPED).id


@pytest.mark.parametrize(
    ("overrides", "id"),
    [
        (["model.loops=2", "objective.name=last"], "43547eb0b6933d7b"),
        (["model.loops=2", "objective.name=uniform"], "bd56ca0b8a43cc25"),
        ([*LOOPED, "objective.beta=0.1"], "da0038912075f2d2"),
        (["model.loops=2", "objective.name=geometric"], "65ff818085d9b81a"),
    ],
)
def test_ids_of_cells_that_have_run_stay(overrides: list[str], id: str) -> None:
    """Fields that came later are left out of the identity at their defaults."""
    assert cell(*overrides).id == id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["model.loops=2", "objective.name=last"], ["model.loops=2", "objective.name=last", "objective.beta=0.9"]),
        (
            ["model.loops=2", "objective.name=uniform"],
            ["model.loops=2", "objective.name=uniform", "objective.prior=0.9"],
        ),
        (
            ["model.loops=2", "objective.name=uniform"],
            ["model.loops=2", "objective.name=uniform", "objective.later_beta=0.9", "objective.later_from=0.5"],
        ),
        ([*LOOPED], [*LOOPED, "objective.prior=0.9"]),
        ([*LOOPED], [*LOOPED, "objective.backprop_loops=2"]),
        (
            ["model.layers=2", "model.exit_every=1", "objective.name=uniform"],
            ["model.layers=2", "model.exit_every=1", "objective.name=uniform", "objective.backprop_loops=1"],
        ),
        (["objective.name=last"], ["objective.name=entropy", "objective.beta=0.3"]),
        ([], ["model.intermediate_size=160"]),
        ([], ["budget.context=4"]),
        (["model.layers=2"], ["model.layers=2", "model.exit_every=2"]),
    ],
)
def test_fields_without_effect_do_not_change_the_id(one: list[str], other: list[str]) -> None:
    assert cell(*one).id == cell(*other).id


def test_numerics_and_task_version_are_part_of_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cell().id
    monkeypatch.setattr(looplm, "NUMERICS", looplm.NUMERICS + 1)
    assert cell().id != before
    monkeypatch.undo()
    assert cell().id == before
    monkeypatch.setattr(type(cell().task), "version", 99)
    assert cell().id != before


def test_a_batch_of_windows_is_one_of_the_examples_they_hold() -> None:
    packed = ["task=multihop", "task.training_questions=500", "budget.layout=pack", "budget.context=64"]
    windows = cell(*packed, "budget.batch_unit=windows", "budget.batch_size=5")
    a_window = 64 // (windows.task.max_length - 1)
    assert a_window > 1
    assert windows.batch_size == 5 * a_window
    assert windows.id == cell(*packed, f"budget.batch_size={5 * a_window}").id
    assert Cell.from_config(windows.config()) == windows
    for step in range(3):
        batch = Batches(windows)(step)
        assert batch.documents_BS.max() + 1 == 5 * a_window
        assert batch.tokens_BS.shape[0] <= 5
    questions = cell(*packed, "task.fact_share=0", "budget.batch_unit=windows", "budget.batch_size=5")
    assert Batches(questions)(0).tokens_BS.shape[0] == 5


def test_windows_are_packed() -> None:
    with pytest.raises(ValueError, match=r"budget\.batch_unit is 'windows'; it must be examples in layout pad"):
        cell("budget.batch_unit=windows")
