"""What a user can type wrong, and what they are told."""

import pytest

from sweeps.cell import Cell
from sweeps.config import construct
from synthdata.task import tasks


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.lops=4", "Did you mean 'loops'"),
        ("modl.loops=4", "Did you mean 'model'"),
        ("task=twohopp", "Did you mean 'twohop'"),
        ("task.entitees=3", "Did you mean 'entities'"),
        ("+model.loops=3", "cannot be added or deleted"),
        ("~model.loops", "cannot be added or deleted"),
        ("model.loops=1,2", "is a sweep"),
        ("model.loops", "write key=value"),
        ("model.loops=[1", "write key=value"),
        ("model=3", "is a section"),
        ("task.name=addition", "choose a task with task=NAME"),
        ("model.loops=0", "model.loops is 0; it must be at least 1"),
        ("model.loops=two", "model.loops is 'two'; it must be of type int"),
        ("model.loops=2.5", "model.loops is 2.5; it must be of type int"),
        ("model.tied_embeddings=1", "it must be of type bool"),
        ("model.hidden_size=63", "a multiple of 2 * model.heads = 4"),
        ("model.exit_every=2", "a divisor of model.layers = 1"),
        ("budget.context=2", "needs at least 4"),
        ("objective.name=lst", "last | uniform | entropy | geometric"),
        ("optimizer.lr=-1", "optimizer.lr is -1"),
        ("seeds.data_seed=-1", "seeds.data_seed is -1"),
        ("precision=fp8", "32-true | bf16-mixed"),
    ],
)
def test_a_wrong_override_is_refused_with_what_is_allowed(override: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        Cell.compose([override])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="one task"):
        Cell.compose(["task=twohop", "task=addition"])


def test_later_overrides_win() -> None:
    assert Cell.compose(["model.loops=2", "model.loops=4"]).model.loops == 4


@pytest.mark.parametrize("name", tasks())
def test_every_configuration_survives_a_round_trip(name: str) -> None:
    cell = Cell.compose([f"task={name}", "model.loops=3", "objective.name=geometric", "optimizer.lr=1"])
    again = Cell.from_config(cell.config())
    assert again == cell
    assert again.id == cell.id
    assert isinstance(again.optimizer.lr, float)


def test_a_stored_configuration_of_another_task_version_is_refused() -> None:
    config = Cell.compose([]).config()
    config["task"]["version"] = 99
    with pytest.raises(ValueError, match=r"task\.version is 99"):
        Cell.from_config(config)


def test_a_missing_field_without_default_is_named() -> None:
    with pytest.raises(ValueError, match=r"here\.model is missing"):
        construct(Cell, {"task": None}, "here")
